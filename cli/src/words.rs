//! What stands in a table: times, and texts on one line.

use std::time::Duration;

use diesel_locks::SessionInfo;

/// A time in its two largest units: `350 ms`, `12 s`, `2 min 5 s`, `3 h 2 min`, `4 d 1 h`.
pub(crate) fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    let (large, unit, small, small_unit) = match seconds {
        0 => return format!("{} ms", time.as_millis()),
        1..60 => return format!("{seconds} s"),
        60..3_600 => (seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => (seconds / 3_600, "h", seconds / 60 % 60, "min"),
        86_400.. => (seconds / 86_400, "d", seconds / 3_600 % 24, "h"),
    };
    match small {
        0 => format!("{large} {unit}"),
        small => format!("{large} {unit} {small} {small_unit}"),
    }
}

/// A text on one line, without what could move a terminal's cursor.
pub(crate) fn one_line(text: &str) -> String {
    let visible = text.replace(char::is_control, " ");
    visible.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// A name as it is shown, which somebody may not have.
pub(crate) fn name(name: Option<&str>) -> String {
    name.map_or_else(String::new, one_line)
}

/// A text of so many characters at most.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some(_) => text
            .chars()
            .take(most.saturating_sub(1))
            .chain(['…'])
            .take(most)
            .collect(),
        None => text.to_owned(),
    }
}

/// `4711`, or `prepared "payout 7"`.
pub(crate) fn id(session: &SessionInfo) -> String {
    match &session.prepared {
        Some(name) => format!("prepared \"{}\"", one_line(name)),
        None => session.pid.to_string(),
    }
}

/// `active: SELECT …`
pub(crate) fn doing(session: &SessionInfo) -> String {
    if session.is_hidden() {
        return "(this role may not see it)".to_owned();
    }
    let state = session.state.as_ref().or(session.backend_type.as_ref());
    // An extension calls its workers as it likes.
    let state = state.map_or_else(String::new, |state| one_line(state));
    match &session.query {
        Some(query) if state == "idle" => format!("{state}, last: {}", one_line(query)),
        Some(query) => format!("{state}: {}", one_line(query)),
        None => state.to_owned(),
    }
}

#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_two_largest_units() {
        for (seconds, words) in [
            (0.35, "350 ms"),
            (12.9, "12 s"),
            (125.0, "2 min 5 s"),
            (7_200.0, "2 h"),
            (349_200.0, "4 d 1 h"),
        ] {
            assert_eq!(time(Duration::from_secs_f64(seconds)), words);
        }
    }

    #[test]
    fn a_text_moves_no_cursor_and_is_cut_between_characters() {
        assert_eq!(one_line("a\u{1b}[2J\n b"), "a [2J b");
        assert_eq!(cut("ÄÖÜßäöü!", 7), "ÄÖÜßäö…");
        assert_eq!(cut("ÄÖÜ", 3), "ÄÖÜ");
        assert_eq!(cut("ÄÖÜ", 0), "");
    }
}
