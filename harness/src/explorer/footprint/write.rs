//! What a write touches, with what constraints and triggers do.

use std::collections::BTreeSet;

use super::catalog::{Catalog, Relation, is_of_the_server};
use super::print::Strength;
use super::shape::{Shape, row_lock};
use super::tokens::{Token, tokens};

/// What is known of a write.
#[derive(Clone, Copy)]
pub(super) enum Writing<'t> {
    /// A statement of these words names the table.
    Words(&'t [Token]),
    /// Rows may be inserted, changed and deleted.
    Anything,
}

/// Adds what a write touches, and says whether that is all known.
pub(super) fn write(
    catalog: &Catalog,
    name: &str,
    writing: Writing<'_>,
    shape: &mut Shape,
) -> bool {
    let family = catalog.family(name);
    let relatives = || {
        family
            .iter()
            .filter_map(|name| catalog.relations.get(*name))
    };
    let (keeps_keys, takes_defaults) = match writing {
        Writing::Anything => (false, true),
        Writing::Words(tokens) => {
            let has = |word: &str| tokens.iter().any(|token| token.is(word));
            let only_updates = has("update") && !has("delete") && !has("insert") && !has("merge");
            let keeps = only_updates
                && family.len() == 1
                && !relatives().any(|relation| {
                    sets_key(tokens, relation) || triggers_set_any(catalog, relation)
                });
            (keeps, !only_updates || has("default"))
        }
    };
    let strength = match keeps_keys {
        true => Strength::NoKeyUpdate,
        false => Strength::Update,
    };
    if takes_defaults {
        let sequences = relatives().flat_map(|relation| &relation.sequences);
        shape.sequences.extend(sequences.cloned());
    }
    shape.reads.insert(name.to_owned());
    let is_new = shape.writes.insert(name.to_owned());
    // What comes with it is known, where a trigger does what has been done.
    if !shape.locks.insert((name.to_owned(), strength)) && !is_new {
        return true;
    }
    if catalog.is_odd(name) {
        return false;
    }
    relatives().all(|relation| {
        shape.is_deferred |= relation.is_deferred;
        for parent in &relation.references {
            shape.reads.insert(parent.table.clone());
            shape
                .locks
                .insert((parent.table.clone(), Strength::KeyShare));
        }
        (keeps_keys || referencing(catalog, relation, shape))
            && relation.triggers.iter().all(|function| {
                shape.fires = true;
                body(catalog, function, shape, &mut BTreeSet::new())
            })
    })
}

/// Adds what a change of a key touches in the tables that have it.
fn referencing(catalog: &Catalog, relation: &Relation, shape: &mut Shape) -> bool {
    relation.referenced_by.iter().all(|child| {
        shape.reads.insert(child.table.clone());
        shape
            .locks
            .insert((child.table.clone(), Strength::KeyShare));
        !child.cascades || write(catalog, &child.table, Writing::Anything, shape)
    })
}

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
fn sets_key(tokens: &[Token], relation: &Relation) -> bool {
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

/// Whether a trigger may set a column of a unique index: it names one, or sets a row as a whole.
fn triggers_set_any(catalog: &Catalog, relation: &Relation) -> bool {
    let keys = keys(relation).unwrap_or_default();
    let may_set = |body: &str| {
        let tokens = tokens(body);
        (0..tokens.len()).any(|at| {
            let follows = |more: usize| tokens.get(at + more);
            let sets_row = tokens[at].is("new")
                && match follows(1) {
                    Some(Token::Sign('=')) => true,
                    Some(Token::Sign(':')) => follows(2) == Some(&Token::Sign('=')),
                    _ => at > 0 && tokens[at - 1].is("into"),
                };
            let returns_other = tokens[at].is("return")
                && !follows(1).is_some_and(|row| row.is("new") || row.is("null") || row.is("old"));
            let names_key = tokens[at].word().is_some_and(|name| keys.contains(name));
            sets_row || returns_other || names_key
        })
    };
    relation.triggers.iter().any(|name| {
        let functions = catalog.functions.get(name);
        functions.is_none_or(|known| known.iter().any(|function| may_set(&function.body)))
    })
}

/// Adds what a function may touch, as far as its words tell, and says whether they tell all.
pub(super) fn body(
    catalog: &Catalog,
    name: &str,
    shape: &mut Shape,
    seen: &mut BTreeSet<String>,
) -> bool {
    if !seen.insert(name.to_owned()) {
        return true;
    }
    let Some(functions) = catalog.functions.get(name) else {
        return false;
    };
    for function in functions {
        if !matches!(function.language.as_str(), "sql" | "plpgsql") || function.body.is_empty() {
            return false;
        }
        let tokens = tokens(&function.body);
        let mut parts = tokens.split(|token| *token == Token::Sign(';'));
        if !parts.all(|part| body_part(catalog, part, shape, seen)) {
            return false;
        }
    }
    true
}

/// The same of one statement of its body.
fn body_part(
    catalog: &Catalog,
    tokens: &[Token],
    shape: &mut Shape,
    seen: &mut BTreeSet<String>,
) -> bool {
    for (at, token) in tokens.iter().enumerate() {
        let Some(word) = token.word() else {
            continue;
        };
        if is_opaque(catalog, word) || configures(tokens, at) {
            return false;
        }
        if word == "nextval" {
            shape.sequences.insert(None);
        }
        if catalog.functions.contains_key(word) && !body(catalog, word, shape, seen) {
            return false;
        }
        let mut named = (catalog.relations.iter()).filter(|(_, known)| known.short == word);
        // What a view is of is not in the words.
        let is_told = named.all(|(full, relation)| {
            matches!(relation.kind.as_str(), "r" | "p")
                && !relation.is_odd
                && named_in_body(catalog, full, tokens, at, shape)
        });
        if !is_told {
            return false;
        }
    }
    true
}

/// Whether a SET begins there that is a statement of its own.
fn configures(tokens: &[Token], at: usize) -> bool {
    let starts = ["begin", "then", "else", "loop"];
    let before = at.checked_sub(1).map(|before| &tokens[before]);
    tokens[at].is("set") && before.is_none_or(|before| starts.iter().any(|word| before.is(word)))
}

/// A table that a statement of a function's body names: it writes those that its words say it
/// writes, and reads any other.
fn named_in_body(
    catalog: &Catalog,
    name: &str,
    tokens: &[Token],
    at: usize,
    shape: &mut Shape,
) -> bool {
    // Before `schema.` and ONLY.
    let mut before = at;
    if before >= 2 && tokens[before - 1] == Token::Sign('.') {
        before -= 2;
    }
    let is =
        |before: usize, back: usize, word: &str| before >= back && tokens[before - back].is(word);
    before -= usize::from(is(before, 1, "only"));
    let is = |back, word| is(before, back, word);
    if tokens.iter().any(|token| token.is("merge")) {
        return write(catalog, name, Writing::Anything, shape);
    }
    let verb = match () {
        () if is(1, "update") => 1,
        () if (is(1, "into") && is(2, "insert")) || (is(1, "from") && is(2, "delete")) => 2,
        () => {
            shape.reads.insert(name.to_owned());
            // FOR UPDATE and the like, in a cursor too.
            if tokens.iter().any(|t| t.is("update") || t.is("share")) {
                shape.locks.insert((name.to_owned(), row_lock(tokens)));
            }
            return true;
        }
    };
    let words = Writing::Words(&tokens[before - verb..]);
    write(catalog, name, words, shape)
}

/// Whether a word of a function's body may do what its words don't tell.
fn is_opaque(catalog: &Catalog, word: &str) -> bool {
    let opaque = [
        "alter", "call", "copy", "create", "do", "drop", "execute", "dblink", "notify", "listen",
        "lock", "refresh", "reset", "truncate",
    ];
    let is_column = ["ctid", "xmin", "xmax", "cmin", "cmax"].contains(&word);
    opaque.contains(&word)
        || is_column
        || word.starts_with("pg_")
        || is_of_the_server(word)
        || (catalog.volatile.contains(word) && !catalog.functions.contains_key(word))
}
