//! Advisory locks, by the words of a statement.

use super::print::{Lock, Strength, Thing, Touch};
use super::statement::Statement;
use super::tokens::Token;
use super::value::value_of;

const ADVISORY: &str = "advisory lock";

/// Adds what the functions for advisory locks do.
pub(super) fn advisory(
    statement: &Statement,
    tokens: &[Token],
    touch: &mut Touch,
    is_varying: bool,
) {
    for (at, token) in tokens.iter().enumerate() {
        let Some(name) = token.word().filter(|name| is_advisory(name)) else {
            continue;
        };
        let strength = match name.contains("shared") {
            true => Strength::Share,
            false => Strength::Update,
        };
        let key = key(statement, &tokens[at + 1..]).filter(|_| !is_varying);
        let thing = match key {
            Some(key) => Thing::row(ADVISORY, &key),
            None => Thing::any(ADVISORY),
        };
        let is_known = thing.row.is_some();
        let lock = Lock { thing, strength };
        if name.contains("unlock") {
            touch.unlocks.push(lock);
            continue;
        }
        // Whether one that is tried was granted is not seen. Who waits for one that is shared is in
        // the way of others who would share it.
        let is_certain =
            is_known && !name.contains("try") && !name.contains("shared") && is_alone(tokens, at);
        touch.waits_for = is_certain.then(|| lock.clone());
        match name.contains("xact") {
            true => touch.locks.push(lock),
            false => touch.session_locks.push(lock),
        }
    }
}

fn is_advisory(name: &str) -> bool {
    name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_")
}

/// Whether the statement is `SELECT pg_advisory_lock($1)`, and nothing else.
fn is_alone(tokens: &[Token], at: usize) -> bool {
    let is_first = match &tokens[..at] {
        [select] => select.is("select"),
        [select, catalog, Token::Sign('.')] => select.is("select") && catalog.is("pg_catalog"),
        _ => false,
    };
    let end = tokens.iter().position(|token| *token == Token::Sign(')'));
    is_first && end == Some(tokens.len() - 1)
}

/// The arguments, which follow in parentheses: each a value, and maybe a cast.
fn key(statement: &Statement, tokens: &[Token]) -> Option<String> {
    let end = tokens.iter().position(|token| *token == Token::Sign(')'))?;
    let [Token::Sign('('), arguments @ ..] = &tokens[..end] else {
        return None;
    };
    let value = |part: &[Token]| {
        let (sign, part) = match part {
            [Token::Sign('-'), rest @ ..] => ("-", rest),
            part => ("", part),
        };
        let value = match part {
            [value]
            | [
                value,
                Token::Sign(':'),
                Token::Sign(':'),
                Token::Word { .. },
            ] => value,
            _ => return None,
        };
        let text = match value {
            Token::Text(text) => text.parse::<i64>().ok()?.to_string(),
            value => value_of(value, "bigint", statement)?,
        };
        // In one form for each number.
        let number: i64 = format!("{sign}{text}").parse().ok()?;
        Some(number.to_string())
    };
    let parts = arguments.split(|token| *token == Token::Sign(','));
    let values: Option<Vec<String>> = parts.map(value).collect();
    values.map(|values| values.join(", "))
}
