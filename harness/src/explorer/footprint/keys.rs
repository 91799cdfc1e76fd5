//! Whether a write may change a key.

use std::collections::BTreeSet;

use super::catalog::{Catalog, Relation};
use super::tokens::{Token, tokens};

/// The columns of its unique indexes, if they are all columns.
fn keys(relation: &Relation) -> Option<BTreeSet<&str>> {
    let columns: Option<Vec<&Vec<String>>> = relation.unique.iter().map(Option::as_ref).collect();
    Some(columns?.into_iter().flatten().map(String::as_str).collect())
}

/// Whether an UPDATE may set a column of a unique index, by name.
pub(super) fn sets_any(tokens: &[Token], relation: &Relation) -> bool {
    keys(relation).is_none_or(|keys| sets(tokens, &keys))
}

/// Whether an UPDATE may set a column to which a foreign key may refer, by name: a unique index with
/// an expression or a condition has none.
pub(super) fn sets_key(tokens: &[Token], relation: &Relation) -> bool {
    let keys = relation.unique.iter().flatten().flatten();
    let keys = keys.map(String::as_str).collect();
    relation.has_generated_key || sets(tokens, &keys)
}

fn sets(tokens: &[Token], keys: &BTreeSet<&str>) -> bool {
    let mut sets = (0..tokens.len()).filter(|&at| tokens[at].is("set"));
    let (Some(from), None) = (sets.next(), sets.next()) else {
        return true;
    };
    let names_key = |at: usize| {
        let is_key = tokens[at].word().is_some_and(|name| keys.contains(name));
        let is_set = matches!(
            tokens.get(at + 1),
            Some(Token::Sign('=' | ',' | ')' | '[' | '.'))
        );
        is_key && is_set
    };
    // A WHERE in parentheses is not its own.
    let mut depth = 0;
    let own = tokens[from..].iter().take_while(|token| {
        match token {
            Token::Sign('(') => depth += 1,
            Token::Sign(')') => depth -= 1,
            _ => {}
        }
        depth > 0 || !token.is("where")
    });
    (from..from + own.count()).any(names_key)
}

/// Whether one of a table's triggers may set a column of a unique index: its function names one, or
/// sets a row as a whole.
pub(super) fn any_sets_key(catalog: &Catalog, triggers: &[String], relation: &Relation) -> bool {
    let keys: BTreeSet<&str> = relation
        .unique
        .iter()
        .flatten()
        .flatten()
        .map(String::as_str)
        .collect();
    let may_set = |body: &str| {
        let tokens = tokens(body);
        let has_other_names = tokens.iter().any(|token| token.is("alias"));
        (0..tokens.len()).any(|at| {
            let follows = |more: usize| tokens.get(at + more);
            let sets_row = tokens[at].is("new")
                && match follows(1) {
                    Some(Token::Sign('=')) => true,
                    Some(Token::Sign(':')) => follows(2) == Some(&Token::Sign('=')),
                    _ => {
                        let fills = |word| at > 0 && tokens[at - 1].is(word);
                        ["into", "strict", "for"].into_iter().any(fills)
                    }
                };
            let returns_other = tokens[at].is("return")
                && !follows(1).is_some_and(|row| row.is("new") || row.is("null") || row.is("old"));
            let names_key = tokens[at].word().is_some_and(|name| keys.contains(name));
            sets_row || returns_other || (names_key && (has_other_names || !is_read(&tokens[..at])))
        })
    };
    triggers.iter().any(|name| {
        let functions = catalog.functions.get(name);
        functions.is_none_or(|known| known.iter().any(|function| may_set(&function.body)))
    })
}

/// Whether a name that comes after these tokens sets nothing in the trigger's row: it is a column of
/// something else, or to the right of a comparison or an assignment, as in `= new.column`.
fn is_read(before: &[Token]) -> bool {
    let [before @ .., row, Token::Sign('.')] = before else {
        return false;
    };
    let is_own = matches!(row.word(), Some("new" | "old"));
    let is_compared = matches!(before.last(), Some(Token::Sign('=' | '<' | '>')));
    (row.word().is_some() && !is_own) || is_compared
}
