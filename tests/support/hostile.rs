//! Texts that are hard to write down, and how many of them a property is tried with.

#![allow(dead_code, reason = "no crate uses all of it")]

use std::env;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// What begins something, or ends it, in one of the languages that are read or written here.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "'", "\"", "`", "\\", "\\\"", "\\n", "$$", "$1", "$", "--", "/*", "*/", ";", ":", "::", "%s",
    "%%{", "{", "}", "(", ")", "[", "]", "]]>", "<![CDATA[", "<!--", "-->", "<", ">", "</",
    "</script>", "<script>", "</svg>", "</pre>", "<br/>", "&", "&lt;", "&#0;", "#59;", "#", "|", "=",
    "\n", "\r", "\r\n", "\t", "\0", "\u{1}", "\u{1b}[2J", "\u{7f}", "\u{85}", "\u{a0}", "\u{2028}",
    "\u{202e}", "\u{feff}", "\u{fffe}", "\u{ffff}", "\u{10ffff}", "e\u{301}", "漢", "ß", "İ", "😀",
    "end", " End ", "style", "sqlx:", " on ", "; blocked by ", " before ", ": ", ".", ",", " ", "-", "+",
    "0", "NaN", "inf", "1e999", "99999999999999999999", "session", "step", "setup", "teardown",
    "permutation", "notices", "*", "BEGIN", "select", "from", " -- binds: [", "Some(", "Lock",
];

/// Any text.
pub(crate) fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(PIECES).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => "[a-zA-Z0-9_]{1,5}",
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

/// Any text that the server can have.
pub(crate) fn server_text() -> impl Strategy<Value = String> {
    text().prop_map(|text| text.replace('\0', ""))
}

/// As many as `PROPTEST_CASES` says, or else so many.
pub(crate) fn cases(few: u32) -> ProptestConfig {
    match env::var_os("PROPTEST_CASES") {
        Some(_) => ProptestConfig::default(),
        None => ProptestConfig::with_cases(few),
    }
}
