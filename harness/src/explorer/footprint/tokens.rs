//! The words of a statement.

/// A word of SQL, without white space and comments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// A keyword or a name, in lower case unless it was quoted.
    Word {
        text: String,
        quoted: bool,
    },
    /// `$1`.
    Param(usize),
    Number(String),
    Text(String),
    Sign(char),
}

impl Token {
    /// Whether it is this keyword.
    pub(crate) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Word { text, quoted: false } if text == keyword)
    }

    pub(crate) fn word(&self) -> Option<&str> {
        match self {
            Self::Word { text, .. } => Some(text),
            _ => None,
        }
    }
}

/// The tokens of some SQL; what is not understood is a sign.
pub(crate) fn tokens(sql: &str) -> Vec<Token> {
    let chars: Vec<char> = sql.chars().collect();
    let placed = placed(&chars).into_iter();
    placed.map(|(_, token)| token).collect()
}

/// The statements of some SQL.
pub(crate) fn statements(sql: &str) -> Vec<String> {
    let chars: Vec<char> = sql.chars().collect();
    let placed = placed(&chars);
    let ends = placed
        .iter()
        .filter(|(_, token)| *token == Token::Sign(';'));
    let ends = ends.map(|(at, _)| *at).chain([chars.len()]);
    let mut from = 0;
    let mut statements = Vec::new();
    for end in ends {
        let statement: String = chars[from..end].iter().collect();
        if !tokens(&statement).is_empty() {
            statements.push(statement.trim().to_owned());
        }
        from = end + 1;
    }
    statements
}

/// The tokens with their places.
fn placed(chars: &[char]) -> Vec<(usize, Token)> {
    let mut placed = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let next = chars.get(at + 1).copied();
        if c.is_whitespace() {
            at += 1;
        } else if c == '-' && next == Some('-') {
            at = end_of(chars, at, |c| c != '\n');
        } else if c == '/' && next == Some('*') {
            at = after_comment(chars, at);
        } else if c == '"' {
            let (text, end) = quoted(chars, at, '"', false);
            placed.push((at, Token::Word { text, quoted: true }));
            at = end;
        } else if c == '\'' {
            let escapes = at > 0 && matches!(chars[at - 1], 'e' | 'E');
            let (text, end) = quoted(chars, at, '\'', escapes);
            placed.push((at, Token::Text(text)));
            at = end;
        } else if c == '$' && next.is_some_and(|next| next.is_ascii_digit()) {
            let end = end_of(chars, at + 1, |c| c.is_ascii_digit());
            let number: String = chars[at + 1..end].iter().collect();
            placed.push((at, Token::Param(number.parse().unwrap_or(usize::MAX))));
            at = end;
        } else if c == '$' {
            let (text, end) = dollar_quoted(chars, at);
            placed.push((at, text));
            at = end;
        } else if c.is_ascii_digit() {
            let end = end_of(chars, at, |c| c.is_ascii_alphanumeric() || c == '.');
            placed.push((at, Token::Number(chars[at..end].iter().collect())));
            at = end;
        } else if c.is_alphabetic() || c == '_' {
            let end = end_of(chars, at, |c| c.is_alphanumeric() || "_$".contains(c));
            let text: String = chars[at..end].iter().collect();
            let text = text.to_lowercase();
            placed.push((
                at,
                Token::Word {
                    text,
                    quoted: false,
                },
            ));
            at = end;
        } else {
            placed.push((at, Token::Sign(c)));
            at += 1;
        }
    }
    placed
}

fn end_of(chars: &[char], from: usize, belongs: impl Fn(char) -> bool) -> usize {
    let length = chars[from..].iter().take_while(|&&c| belongs(c)).count();
    from + length
}

fn after_comment(chars: &[char], from: usize) -> usize {
    let (mut at, mut depth) = (from, 0);
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(chars: &[char], from: usize, quote: char, escapes: bool) -> (String, usize) {
    let (mut text, mut at) = (String::new(), from + 1);
    while let Some(&c) = chars.get(at) {
        match c {
            c if c == quote && chars.get(at + 1) == Some(&quote) => at += 1,
            c if c == quote => return (text, at + 1),
            '\\' if escapes => at += 1,
            _ => {}
        }
        text.extend(chars.get(at));
        at += 1;
    }
    (text, at)
}

/// `$tag$…$tag$`, or a dollar.
fn dollar_quoted(chars: &[char], from: usize) -> (Token, usize) {
    let tag = end_of(chars, from + 1, |c| c.is_alphanumeric() || c == '_');
    if chars.get(tag) != Some(&'$') {
        return (Token::Sign('$'), from + 1);
    }
    let (mark, body) = (&chars[from..=tag], tag + 1);
    let end = (body..chars.len()).find(|&at| chars[at..].starts_with(mark));
    let (end, after) = end.map_or((chars.len(), chars.len()), |end| (end, end + mark.len()));
    (Token::Text(chars[body..end].iter().collect()), after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(sql: &str) -> Vec<String> {
        let shown = |token: &Token| match token {
            Token::Word { text, quoted: true } => format!("\"{text}\""),
            Token::Word { text, .. } => text.clone(),
            Token::Param(number) => format!("${number}"),
            Token::Number(number) => number.clone(),
            Token::Text(text) => format!("'{text}'"),
            Token::Sign(sign) => sign.to_string(),
        };
        tokens(sql).iter().map(shown).collect()
    }

    #[test]
    fn quotes_comments_and_dollars_hide_what_is_in_them() {
        assert_eq!(
            words("SELECT \"Sel\"\"ect\" -- FROM a\n FROM /* b /* c */ d */ e WHERE f=$12"),
            [
                "select",
                "\"Sel\"ect\"",
                "from",
                "e",
                "where",
                "f",
                "=",
                "$12"
            ]
        );
        assert_eq!(
            words("'it''s' $$a 'b'$$ $x$ $$ $x$ 1.5"),
            ["'it's'", "'a 'b''", "' $$ '", "1.5"]
        );
        assert_eq!(words(r"E'\'a' 'b\' c"), ["e", "''a'", "'b\\'", "c"]);
        assert_eq!(words("'open"), ["'open'"]);
        assert_eq!(words("$ /*"), ["$"]);
    }

    #[test]
    fn statements_end_at_semicolons_that_are_not_quoted() {
        assert_eq!(
            statements("BEGIN; SELECT ';' ;; -- x;"),
            ["BEGIN", "SELECT ';'"]
        );
    }
}
