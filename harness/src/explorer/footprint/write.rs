//! What a write touches, with what constraints and triggers do.

use std::collections::BTreeSet;

use super::catalog::{Catalog, Relation, Trigger, is_of_the_server};
use super::keys::{any_sets_key, sets_key};
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
    /// Rows may be changed and deleted with what they refer to, and have their defaults then.
    Cascade { sets_default: bool },
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
    let events = match writing {
        // A row that moves to another partition is deleted and inserted.
        Writing::Words(tokens) if family.len() == 1 => events(tokens),
        Writing::Cascade { .. } if family.len() == 1 => CASCADES.to_owned(),
        _ => EVENTS.to_owned(),
    };
    let fired = |relation: &Relation| -> Vec<String> {
        let is_fired = |trigger: &&Trigger| trigger.events.contains(|of| events.contains(of));
        let fired = relation.triggers.iter().filter(is_fired);
        fired.map(|trigger| trigger.function.clone()).collect()
    };
    let (keeps_keys, takes_defaults) = match writing {
        Writing::Anything => (false, true),
        Writing::Cascade { sets_default } => (false, sets_default),
        Writing::Words(tokens) => {
            let sets = |relation: &Relation| {
                sets_key(tokens, relation) || any_sets_key(catalog, &fired(relation), relation)
            };
            let only_updates = events == UPDATE;
            let takes = !only_updates || tokens.iter().any(|token| token.is("default"));
            (only_updates && !relatives().any(sets), takes)
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
    shape.writes.insert(name.to_owned());
    shape.locks.insert((name.to_owned(), strength));
    // What comes with it is known, where a trigger does what has been done.
    let written = (name.to_owned(), strength, events.clone(), takes_defaults);
    if !shape.written.insert(written) {
        return true;
    }
    let has_odd_default = || relatives().any(|relation| relation.has_odd_default);
    if catalog.is_odd(name) || (takes_defaults && has_odd_default()) {
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
            && fired(relation).iter().all(|function| {
                // What only makes a value for its row is as good as an expression of the statement.
                shape.fires |= !catalog.computes(function)
                    || any_sets_key(catalog, std::slice::from_ref(function), relation);
                body(catalog, function, shape, &mut BTreeSet::new())
            })
    })
}

const EVENTS: &str = "iud";
const UPDATE: &str = "u";
const CASCADES: &str = "ud";

/// By what the words fire triggers, of [`EVENTS`].
fn events(tokens: &[Token]) -> String {
    let has = |word: &str| tokens.iter().any(|token| token.is(word));
    let events = [("insert", 'i'), ("update", 'u'), ("delete", 'd')].into_iter();
    let events = events.filter(|(verb, _)| has(verb) || has("merge"));
    events.map(|(_, event)| event).collect()
}

/// Adds what a change of a key touches in the tables that have it.
fn referencing(catalog: &Catalog, relation: &Relation, shape: &mut Shape) -> bool {
    relation.referenced_by.iter().all(|child| {
        shape.reads.insert(child.table.clone());
        shape
            .locks
            .insert((child.table.clone(), Strength::KeyShare));
        let sets_default = child.sets_default;
        let cascade = Writing::Cascade { sets_default };
        !child.cascades || write(catalog, &child.table, cascade, shape)
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
