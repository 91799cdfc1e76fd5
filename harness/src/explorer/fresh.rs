//! Values that are other ones in each run: UUIDs and times.

/// The text without those of them that are not known from elsewhere.
pub(super) fn without_fresh(text: &str, is_known: &impl Fn(&str) -> bool) -> String {
    let mut shown = String::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let continues = shown.ends_with(|before: char| before.is_ascii_alphanumeric());
        let length = if continues {
            0
        } else {
            uuid(rest).max(time(rest))
        };
        let (value, after) = rest.split_at(length.max(c.len_utf8()));
        let is_fresh = length > 0 && !is_known(value);
        shown.push_str(if is_fresh { "_" } else { value });
        rest = after;
    }
    shown
}

/// The length of the UUID at the start of the text; nothing, if there is none.
fn uuid(text: &str) -> usize {
    matched(text, "hhhhhhhh-hhhh-hhhh-hhhh-hhhhhhhhhhhh")
}

/// The length of the date and time at the start of the text; nothing, if there is none.
fn time(text: &str) -> usize {
    let seconds = matched(text, "dddd-dd-ddTdd:dd:dd");
    if seconds == 0 {
        return 0;
    }
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    match text[seconds..].strip_prefix('.').map(digits) {
        Some(parts) if parts > 0 => seconds + 1 + parts,
        _ => seconds,
    }
}

/// How long the pattern is, if the text begins with it: `h` is a hexadecimal digit, `d` a digit,
/// `T` that or a space.
fn matched(text: &str, pattern: &str) -> usize {
    let fits = |(byte, wanted): (u8, u8)| match wanted {
        b'h' => byte.is_ascii_hexdigit(),
        b'd' => byte.is_ascii_digit(),
        b'T' => byte == b'T' || byte == b' ',
        wanted => byte == wanted,
    };
    let is_so = text.len() >= pattern.len() && text.bytes().zip(pattern.bytes()).all(fits);
    if is_so { pattern.len() } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_fresh_is_left_out_and_what_is_known_is_not() {
        let shown = |text| without_fresh(text, &|value| value.starts_with("00000000"));
        assert_eq!(
            shown("Task { id: 6561f4d6-0d69-4929-98d6-f5f73731f754, at: 2026-11-25T10:06:28.95Z }"),
            "Task { id: _, at: _Z }"
        );
        assert_eq!(shown("\"2026-11-25 10:06:28+00\""), "\"_+00\"");
        let known = "00000000-0d69-4929-98d6-f5f73731f754";
        assert_eq!(shown(known), known);
        for text in [
            "2026-11-25",
            "é 12:30:00",
            "a6561f4d6-0d69-4929-98d6-f5f73731f75",
            "",
        ] {
            assert_eq!(shown(text), text);
        }
    }
}
