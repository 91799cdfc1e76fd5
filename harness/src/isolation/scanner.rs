use super::error::SpecError;

const KEYWORDS: [&str; 6] = [
    "notices",
    "permutation",
    "session",
    "setup",
    "step",
    "teardown",
];

/// White space other than the newline, which SQL keeps.
const SPACES: [char; 4] = [' ', '\t', '\r', '\x0c'];

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Token<'a> {
    Keyword(&'a str),
    /// Without its quotes, if it had any.
    Name(String),
    /// Without its braces.
    Sql(&'a str),
    /// As it was written: nothing asks for its value, and it may be too large for any type.
    Number(&'a str),
    /// One of `,()*`.
    Symbol(char),
    /// The end of the file.
    End,
}

/// Splits the text into tokens, as PostgreSQL's `isolationtester` does.
///
/// That one has a scanner that prefers the longest match, which decides in three places: a word is
/// a keyword only as a whole (`steps` is a name), two quotes inside a quoted name are one
/// character of it, and all the white space before a closing brace belongs to the brace.
#[derive(Debug)]
pub(super) struct Scanner<'a> {
    text: &'a str,
    rest: &'a str,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        // Some editors write a byte order mark, and none of them counts it as a column.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        Self { text, rest: text }
    }

    pub(super) fn error(&self, at: usize, message: impl Into<String>) -> SpecError {
        SpecError::new(self.text, at, message)
    }

    /// What to say of something odd at `at`, if it may be the rest of SQL that had a brace in it.
    pub(super) fn hint(&self, at: usize) -> &'static str {
        let before = self.text.get(..at).unwrap_or_default();
        if before.trim_end().ends_with('}') {
            " (SQL ends at its first '}')"
        } else {
            ""
        }
    }

    /// The next token and its offset.
    pub(super) fn next(&mut self) -> Result<(usize, Token<'a>), SpecError> {
        self.skip_space_and_comments();
        let at = self.offset();
        let mut chars = self.rest.chars();
        let token = match chars.next() {
            None => Token::End,
            Some('{') => {
                self.rest = chars.as_str();
                Token::Sql(self.sql(at)?)
            }
            Some('"') => {
                self.rest = chars.as_str();
                Token::Name(self.quoted_name(at)?)
            }
            Some(symbol @ (',' | '(' | ')' | '*')) => {
                self.rest = chars.as_str();
                Token::Symbol(symbol)
            }
            Some('0'..='9') => Token::Number(self.take(|c| c.is_ascii_digit())),
            Some(c) if starts_name(c) => self.word(),
            Some(c) => {
                let hint = self.hint(at);
                return Err(self.error(at, format!("unexpected character {c:?}{hint}")));
            }
        };
        Ok((at, token))
    }

    fn offset(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn skip_space_and_comments(&mut self) {
        loop {
            self.take(|c| c == '\n' || SPACES.contains(&c));
            if !self.rest.starts_with('#') {
                return;
            }
            self.take(|c| !matches!(c, '\n' | '\r'));
        }
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn word(&mut self) -> Token<'a> {
        let word = self.take(|c| starts_name(c) || c.is_ascii_digit() || c == '$');
        if KEYWORDS.contains(&word) {
            Token::Keyword(word)
        } else {
            Token::Name(word.to_owned())
        }
    }

    /// What follows the opening brace at `start`.
    fn sql(&mut self, start: usize) -> Result<&'a str, SpecError> {
        let Some((sql, rest)) = self.rest.split_once('}') else {
            return Err(self.error(start, "SQL without a closing brace"));
        };
        if let Some(nul) = sql.find('\0') {
            // The client library would send what is before it, and nothing else.
            return Err(self.error(self.offset() + nul, "SQL with a NUL character"));
        }
        self.rest = rest;
        Ok(sql.trim_matches(SPACES))
    }

    /// What follows the opening quote at `start`.
    fn quoted_name(&mut self, start: usize) -> Result<String, SpecError> {
        let mut name = String::new();
        loop {
            let quote = self.rest.split_once('"');
            let Some((part, rest)) = quote.filter(|(part, _)| !part.contains('\n')) else {
                return Err(self.error(start, "name without a closing quote on its line"));
            };
            if let Some(nul) = part.find('\0') {
                return Err(self.error(self.offset() + nul, "name with a NUL character"));
            }
            name.push_str(part);
            self.rest = rest;
            let Some(rest) = rest.strip_prefix('"') else {
                return Ok(name);
            };
            name.push('"');
            self.rest = rest;
        }
    }
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_' || !c.is_ascii()
}

#[cfg(test)]
#[expect(clippy::unwrap_used)]
mod tests {
    use super::{Scanner, Token};

    fn tokens(text: &str) -> Vec<Token<'_>> {
        let mut scanner = Scanner::new(text);
        std::iter::from_fn(|| Some(scanner.next().unwrap().1))
            .take_while(|token| *token != Token::End)
            .collect()
    }

    fn names(text: &str) -> Vec<String> {
        let name = |token| match token {
            Token::Name(name) => name,
            other => panic!("{other:?} is no name"),
        };
        tokens(text).into_iter().map(name).collect()
    }

    #[test]
    fn sql_loses_the_spaces_beside_its_braces_and_keeps_its_newlines() {
        for (text, sql) in [
            ("{}", ""),
            ("{ \t\r\x0c}", ""),
            ("{ \t\x0cA  B\r }", "A  B"),
            ("{\n\tA\n}", "\n\tA\n"),
            ("{ \r\n A \r\n }", "\n A \r\n"),
            ("{ \n }", "\n"),
            ("{\u{b}A\u{a0}}", "\u{b}A\u{a0}"),
            ("{ # \"{ -- A }", "# \"{ -- A"),
        ] {
            assert_eq!(tokens(text), [Token::Sql(sql)], "{text:?}");
        }
    }

    #[test]
    fn a_comment_ends_with_its_line_and_hides_everything() {
        let text = "\u{feff}# { \"\r\na#b c\n  # only this: ; \0\nd # no newline";
        assert_eq!(names(text), ["a", "d"]);
    }

    #[test]
    fn names_are_kept_as_they_are_written() {
        assert_eq!(
            names("_a1$ S1 s1 höhe 日本"),
            ["_a1$", "S1", "s1", "höhe", "日本"]
        );
        assert_eq!(names("steps step1 Step"), ["steps", "step1", "Step"]);
    }

    #[test]
    fn a_quoted_name_may_be_anything_on_one_line() {
        let text = r#""step" "a b" "say ""hi""" """" "" "{#}"x"#;
        let expected = ["step", "a b", "say \"hi\"", "\"", "", "{#}", "x"];
        assert_eq!(names(text), expected);
    }

    #[test]
    fn a_number_ends_where_a_name_begins() {
        let huge = "9".repeat(100);
        assert_eq!(tokens(&huge), [Token::Number(&huge)]);
        assert_eq!(
            tokens("12ab*"),
            [
                Token::Number("12"),
                Token::Name("ab".to_owned()),
                Token::Symbol('*')
            ]
        );
    }
}
