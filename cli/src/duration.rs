//! Times as people write them: `30s`, `500ms`, `1.5m`, `2h`, and seconds without a unit.

use std::time::Duration;

pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: `30s`, `500ms`, `5m` and `2h` are");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "ms" => 0.001,
        "" | "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    Duration::try_from_secs_f64(number * seconds).map_err(|_| wrong())
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("30s", 30.0),
            ("500ms", 0.5),
            ("1.5m", 90.0),
            ("2h", 7_200.0),
            ("0", 0.0),
            ("10", 10.0),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs_f64(seconds)), "{text}");
        }
        for text in ["", "s", "-1s", "1y", "nan", "inf", "1e300d", "1s2"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
