use std::time::Duration;

/// `timeout` in whole milliseconds that PostgreSQL can hold, none of them zero.
pub(crate) fn milliseconds(timeout: Duration) -> i64 {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    i32::try_from(milliseconds)
        .map_or(i32::MAX, |milliseconds| milliseconds.max(1))
        .into()
}

/// `timeout` with a unit, as a setting and as an interval.
pub(super) fn with_unit(timeout: Duration) -> String {
    format!("{}ms", milliseconds(timeout))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_whole_milliseconds_that_postgresql_can_hold() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1_001)), 2);
        assert_eq!(milliseconds(Duration::from_secs(20)), 20_000);
        assert_eq!(milliseconds(Duration::MAX), 2_147_483_647);
    }
}
