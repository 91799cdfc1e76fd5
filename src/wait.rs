use std::time::Duration;

/// What to do while another session holds the lock.
///
/// For code that decides at run time; the methods of
/// [`AdvisoryLockExt`](crate::AdvisoryLockExt) say it by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Wait until it is granted, or until the session's `lock_timeout` ends the wait.
    Block,
    /// Do not wait: [`LockError::NotAvailable`](crate::LockError::NotAvailable) at once.
    NoWait,
    /// Wait that long at most, measured by the server:
    /// [`LockError::Timeout`](crate::LockError::Timeout) after that.
    ///
    /// PostgreSQL counts in milliseconds, from 1 to 2,147,483,647 (24.8 days): a fraction is
    /// rounded up, and what lies outside becomes the nearest of these. So zero is the shortest
    /// wait there is, and not PostgreSQL's `lock_timeout = 0`, which would wait for ever.
    Timeout(Duration),
}

/// `timeout` as PostgreSQL's `lock_timeout` takes it, in milliseconds.
pub(crate) fn lock_timeout(timeout: Duration) -> String {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    milliseconds.clamp(1, i32::MAX as u128).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_whole_milliseconds_that_postgresql_can_hold() {
        assert_eq!(lock_timeout(Duration::ZERO), "1");
        assert_eq!(lock_timeout(Duration::from_nanos(1)), "1");
        assert_eq!(lock_timeout(Duration::from_micros(1_001)), "2");
        assert_eq!(lock_timeout(Duration::from_secs(20)), "20000");
        assert_eq!(lock_timeout(Duration::MAX), "2147483647");
    }
}
