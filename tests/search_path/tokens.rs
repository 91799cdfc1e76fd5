//! The words of SQL.

use std::iter::Peekable;
use std::str::Chars;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Token {
    /// An identifier or a key word, in lower case.
    Word(String),
    /// An identifier in quotes.
    Quoted(String),
    /// A string, in whatever quotes.
    Text,
    /// A number, or a parameter.
    Value,
    /// `::`
    Cast,
    Operator(String),
    /// A bracket, a comma, a full stop and the like.
    Mark(char),
}

impl Token {
    /// What it is called, if it is an identifier.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            _ => None,
        }
    }

    /// Whether it is one of these words, and not in quotes.
    pub(crate) fn is_word(&self, words: &str) -> bool {
        matches!(self, Token::Word(word) if words.split(' ').any(|it| it == word))
    }
}

const OPERATOR: &str = "+-*/<>=~!@#%^&|`?";

pub(crate) fn tokens(sql: &str) -> Vec<Token> {
    let mut rest = sql.chars().peekable();
    let mut tokens = Vec::new();
    while let Some(&next) = rest.peek() {
        let ahead = |text: &str| rest.clone().take(text.len()).eq(text.chars());
        if next.is_whitespace() {
            rest.next();
        } else if ahead("--") {
            rest.find(|&c| c == '\n');
        } else if ahead("/*") {
            skip_comment(&mut rest);
        } else if next == '\'' {
            quoted(&mut rest, '\'', false);
            tokens.push(Token::Text);
        } else if next == '"' {
            tokens.push(Token::Quoted(quoted(&mut rest, '"', false)));
        } else if next == '$' {
            tokens.push(dollar(&mut rest));
        } else if next.is_ascii_digit() {
            while rest.next_if(|c| c.is_alphanumeric() || *c == '.').is_some() {}
            tokens.push(Token::Value);
        } else if next.is_alphabetic() || next == '_' {
            let word = word(&mut rest);
            match (word.as_str(), rest.peek()) {
                ("e", Some('\'')) => {
                    quoted(&mut rest, '\'', true);
                    tokens.push(Token::Text);
                }
                // The quotes, which follow, are what counts.
                ("b" | "n" | "x", Some('\'')) => {}
                _ => tokens.push(Token::Word(word)),
            }
        } else if ahead("::") {
            rest.nth(1);
            tokens.push(Token::Cast);
        } else if OPERATOR.contains(next) {
            tokens.push(Token::Operator(operator(&mut rest)));
        } else {
            tokens.extend(rest.next().map(Token::Mark));
        }
    }
    tokens
}

fn word(rest: &mut Peekable<Chars>) -> String {
    let is_part = |c: &char| c.is_alphanumeric() || "_$".contains(*c);
    let word: String = std::iter::from_fn(|| rest.next_if(is_part)).collect();
    word.to_lowercase()
}

/// What is between the quotes; two of them stand for one.
fn quoted(rest: &mut Peekable<Chars>, quote: char, escapes: bool) -> String {
    rest.next();
    let mut inside = String::new();
    while let Some(c) = rest.next() {
        if c == quote && rest.next_if_eq(&quote).is_none() {
            break;
        }
        inside.push(c);
        if escapes && c == '\\' {
            rest.next();
        }
    }
    inside
}

/// A parameter, or a string between two equal tags.
fn dollar(rest: &mut Peekable<Chars>) -> Token {
    rest.next();
    let tag = word(rest);
    if rest.next_if_eq(&'$').is_none() && !tag.ends_with('$') {
        return Token::Value;
    }
    let end = format!("${}$", tag.trim_end_matches('$'));
    while rest.peek().is_some() && !rest.clone().take(end.len()).eq(end.chars()) {
        rest.next();
    }
    for _ in end.chars() {
        rest.next();
    }
    Token::Text
}

/// As long as can be, but no sign at its end if it could be a sum.
fn operator(rest: &mut Peekable<Chars>) -> String {
    let mut operator = String::new();
    while let Some(&next) = rest.peek() {
        let ahead = |text: &str| rest.clone().take(text.len()).eq(text.chars());
        let is_sign = !operator.is_empty()
            && "+-".contains(next)
            && !operator.contains(|c| "~!@#%^&|`?".contains(c));
        if !OPERATOR.contains(next) || ahead("--") || ahead("/*") || is_sign {
            break;
        }
        operator.push(next);
        rest.next();
    }
    operator
}

fn skip_comment(rest: &mut Peekable<Chars>) {
    let mut depth = 0;
    while let Some(c) = rest.next() {
        match (c, rest.peek()) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => continue,
        }
        rest.next();
        if depth == 0 {
            break;
        }
    }
}
