//! Whether statements may change what others mean: what tables there are, and what they do.

use std::collections::BTreeSet;

use super::catalog::{Catalog, Function};
use super::tokens::{Token, tokens};

/// Whether a function or a trigger defines something that the statement may call or fire.
pub(super) fn may_define(catalog: &Catalog, sql: &str) -> bool {
    let words = |sql: &str| -> Vec<String> {
        let tokens = tokens(sql);
        let words = tokens.iter().filter_map(Token::word);
        words.map(str::to_owned).collect()
    };
    let (mut left, mut seen) = (words(sql), BTreeSet::new());
    while let Some(word) = left.pop() {
        if seen.contains(&word) {
            continue;
        }
        for function in catalog.functions.get(&word).into_iter().flatten() {
            if defines(function) {
                return true;
            }
            left.extend(words(&function.body));
        }
        let relations = catalog.relations.values();
        for relation in relations.filter(|relation| relation.short == word) {
            // What a view calls is not in the words.
            if relation.kind == "v" && (relation.is_odd || relation.has_odd_default) {
                return true;
            }
            let functions = relation.triggers.iter().map(|trigger| &trigger.function);
            left.extend(functions.cloned());
        }
        seen.insert(word);
    }
    false
}

/// Whether its own words may define something.
fn defines(function: &Function) -> bool {
    match function.language.as_str() {
        // An aggregate.
        "internal" => return false,
        "sql" | "plpgsql" if !function.body.is_empty() => {}
        _ => return true,
    }
    let defining = [
        "alter", "call", "create", "do", "drop", "grant", "revoke", "refresh",
    ];
    let tokens = tokens(&function.body);
    (0..tokens.len()).any(|at| match tokens[at].is("execute") {
        true => !reads_or_writes(&tokens[at + 1..]),
        false => defining.iter().any(|word| tokens[at].is(word)),
    })
}

/// Whether what is executed begins as a text that says what it does.
fn reads_or_writes(executed: &[Token]) -> bool {
    let verbs = ["delete", "insert", "merge", "select", "update", "with"];
    let is_call = |token: &&Token| token.is("format") || **token == Token::Sign('(');
    let text = executed.iter().find(|token| !is_call(token));
    let Some(Token::Text(text)) = text else {
        return false;
    };
    let tokens = tokens(text);
    let is_one = !tokens.contains(&Token::Sign(';'));
    let first = tokens.first();
    is_one && first.is_some_and(|first| verbs.iter().any(|verb| first.is(verb)))
}
