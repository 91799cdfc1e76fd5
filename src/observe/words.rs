//! What an operator reads: times, and SQL on one line.

use std::fmt;
use std::time::Duration;

/// The two largest units of a time: `350 ms`, `12 s`, `2 min 5 s`, `3 h 2 min`, `4 d 1 h`.
pub(super) struct Time(pub(super) Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (larger, unit, smaller, small_unit) = match seconds {
            0 => return write!(f, "{} ms", self.0.as_millis()),
            1..60 => return write!(f, "{seconds} s"),
            60..3_600 => (seconds / 60, "min", seconds % 60, "s"),
            3_600..86_400 => (seconds / 3_600, "h", seconds / 60 % 60, "min"),
            86_400.. => (seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
        };
        write!(f, "{larger} {unit}")?;
        match smaller {
            0 => Ok(()),
            smaller => write!(f, " {smaller} {small_unit}"),
        }
    }
}

/// A text on one line, without what could move a terminal's cursor, and of so many characters at
/// most.
pub(super) fn one_line(text: &str, most: usize) -> String {
    let visible = text.replace(|c: char| c.is_control(), " ");
    let line = visible.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(most) {
        Some(_) => line
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .take(most)
            .collect(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_two_largest_units() {
        for (seconds, words) in [
            (0.35, "350 ms"),
            (12.9, "12 s"),
            (120.0, "2 min"),
            (125.0, "2 min 5 s"),
            (10_925.0, "3 h 2 min"),
            (349_200.0, "4 d 1 h"),
        ] {
            assert_eq!(Time(Duration::from_secs_f64(seconds)).to_string(), words);
        }
    }

    #[test]
    fn a_text_is_cut_between_characters_and_moves_no_cursor() {
        assert_eq!(one_line("SELECT\n\t 1", 20), "SELECT 1");
        assert_eq!(one_line("ÄÖÜßäöü", 7), "ÄÖÜßäöü");
        assert_eq!(one_line("ÄÖÜßäöü!", 7), "ÄÖÜßäö…");
        assert_eq!(one_line("a\u{1b}[2Jb", 20), "a [2Jb");
    }
}
