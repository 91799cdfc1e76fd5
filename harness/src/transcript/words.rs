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

/// At most `width` characters of the text, the last of them an ellipsis if there are more.
pub(super) fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{}…", kept.trim_end())
}

/// The text in lines of at most `width` characters, broken at spaces where that is possible.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    let mut room = width;
    for word in text.split(' ') {
        let length = word.chars().count();
        if line.is_empty() {
            // Nothing to keep apart from.
        } else if length < room {
            line.push(' ');
            room -= 1;
        } else {
            lines.push(std::mem::take(&mut line));
            room = width;
        }
        for c in word.chars() {
            if room == 0 {
                lines.push(std::mem::take(&mut line));
                room = width;
            }
            line.push(if c == GLUE { ' ' } else { c });
            room -= 1;
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
    fn what_is_cut_ends_with_an_ellipsis() {
        assert_eq!(cut("abcd", 4), "abcd");
        assert_eq!(cut("abc de", 5), "abc…");
    }
}
