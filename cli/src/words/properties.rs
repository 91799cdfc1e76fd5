use proptest::prelude::*;

use super::*;
use crate::hostile::{cases, text};

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_line_moves_no_cursor_and_is_as_short_as_was_asked(text in text(), most in 0..40_usize) {
        let line = one_line(&text);
        prop_assert!(!line.contains(char::is_control));
        let cut = cut(&line, most);
        prop_assert!(cut.chars().count() <= most, "{cut:?}");
        prop_assert!(line.starts_with(cut.trim_end_matches('…')));
    }

    #[test]
    fn any_time_has_words(of: Duration) {
        prop_assert!(!time(of).is_empty());
    }
}
