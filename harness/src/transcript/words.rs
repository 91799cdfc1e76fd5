use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Keeps the words beside it on one line, and becomes a space there.
pub(super) const GLUE: char = '\u{a0}';

/// The text on one line, with single spaces, and without what a terminal or XML can't take.
pub(super) fn squeezed(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    let unprintable = |c: char| c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}');
    words.join(" ").replace(unprintable, "\u{fffd}")
}

/// A session's name, on one line and never empty.
pub(super) fn shown_name(name: &str) -> String {
    match squeezed(name) {
        name if name.is_empty() => "(no name)".to_owned(),
        name => name,
    }
}

/// How many columns of a terminal the text takes.
pub(super) fn width(text: &str) -> usize {
    text.width()
}

fn width_of(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// The text, and spaces up to this width.
pub(super) fn padded(text: &str, to: usize) -> String {
    format!("{text}{}", " ".repeat(to.saturating_sub(width(text))))
}

/// At most `limit` columns of the text, the last of them an ellipsis if there are more.
pub(super) fn cut(text: &str, limit: usize) -> String {
    if width(text) <= limit {
        return text.to_owned();
    }
    let mut room = limit.saturating_sub(1);
    let fits = |c: &char| match room.checked_sub(width_of(*c)) {
        Some(left) => {
            room = left;
            true
        }
        None => false,
    };
    let kept: String = text.chars().take_while(fits).collect();
    format!("{}…", kept.trim_end())
}

/// The text in lines of at most `width` columns, broken at spaces where that is possible.
pub(super) fn wrapped(text: &str, limit: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut room = limit;
    for word in text.split(' ') {
        let length = width(word);
        if line.is_empty() {
            // Nothing to keep apart from.
        } else if length < room {
            line.push(' ');
            room -= 1;
        } else {
            lines.push(std::mem::take(&mut line));
            room = limit;
        }
        for c in word.chars() {
            if room < width_of(c) {
                lines.push(std::mem::take(&mut line));
                room = limit;
            }
            line.push(if c == GLUE { ' ' } else { c });
            room = room.saturating_sub(width_of(c));
        }
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_at_spaces_and_long_words_where_they_must() {
        assert_eq!(wrapped("a bc def g", 4), ["a bc", "def", "g"]);
        assert_eq!(wrapped("ab äöüßé c", 4), ["ab", "äöüß", "é c"]);
        assert_eq!(wrapped("ab c\u{a0}d", 4), ["ab", "c d"]);
        assert_eq!(wrapped("", 4), [""]);
    }

    #[test]
    fn white_space_is_single_and_control_characters_are_replaced() {
        assert_eq!(squeezed(" a\n\t b\u{1b}[1m\0 "), "a b\u{fffd}[1m\u{fffd}");
    }

    #[test]
    fn wide_characters_take_two_columns_and_marks_none() {
        assert_eq!(width("a漢字😀"), 7);
        assert_eq!(width("e\u{301}"), 1);
        // A family is one picture, and a script of its own has marks of its own.
        assert_eq!(width("👨\u{200d}👩\u{200d}👧"), 2);
        assert_eq!(width("กำ\u{e49}"), 2);
        assert_eq!(wrapped("漢字 漢字漢", 5), ["漢字", "漢字", "漢"]);
        assert_eq!(cut("漢字漢字", 6), "漢字…");
        assert_eq!(padded("漢", 4), "漢  ");
    }

    #[test]
    fn what_is_cut_ends_with_an_ellipsis() {
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abc de", 5), "abc…");
    }
}
