//! What the server says that a statement touches, learnt once for its text.

use std::collections::BTreeSet;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Text};
use diesel::{QueryResult, RunQueryDsl};

use super::catalog::{CLOCKS, Catalog, Relation};
use super::print::Strength;
use super::tokens::{Token, tokens};

/// What a statement of some text touches: whole relations, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) reads: BTreeSet<String>,
    pub(crate) writes: BTreeSet<String>,
    pub(crate) locks: BTreeSet<(String, Strength)>,
    /// What it names itself, without what comes with that.
    pub(crate) named: BTreeSet<String>,
    /// Whether it takes numbers of sequences: of these tables, or of any.
    pub(crate) sequences: BTreeSet<Option<String>>,
    /// Whether it calls functions for advisory locks.
    pub(crate) advisory: bool,
    /// Whether something is checked when its transaction commits.
    pub(crate) is_deferred: bool,
    /// Whether it calls functions of the application's, or fires its triggers.
    pub(crate) fires: bool,
}

/// The shape of one statement, if all that it does can be told. On a connection of its own, in a
/// transaction that is rolled back.
pub(crate) fn shape<C: LoadConnection<Backend = Pg>>(
    conn: &mut C,
    catalog: &Catalog,
    text: &str,
) -> QueryResult<Option<Shape>> {
    let mut shape = Shape::default();
    if catalog.own_operators {
        return Ok(None);
    }
    let tokens = tokens(text);
    if tokens.iter().filter_map(Token::word).any(is_of_the_server) {
        return Ok(None);
    }
    let mut called = called(&tokens);
    // What this project's locks set is for themselves.
    if text.matches("set_config(").count()
        == text.matches("set_config('diesel_locks.owner'").count()
    {
        called.retain(|name| name != "set_config");
    }
    if !calls(conn, catalog, &called, &mut shape)? {
        return Ok(None);
    }
    // A lock that is in the way now is not worth waiting for.
    conn.batch_execute(&format!(
        "BEGIN; SET LOCAL lock_timeout = '100ms'; PREPARE diesel_locks_harness AS {text}"
    ))
    .inspect_err(|_| {
        let _ = conn.batch_execute("ROLLBACK");
    })?;
    let locked: QueryResult<Vec<(String, String)>> = sql::<(Text, Text)>(LOCKED).load(conn);
    conn.batch_execute("ROLLBACK; DEALLOCATE diesel_locks_harness")?;
    for (name, mode) in locked? {
        let Some(relation) = catalog.relations.get(&name) else {
            return Ok(None);
        };
        shape.named.insert(name.clone());
        match mode.as_str() {
            "AccessShareLock" => {
                shape.reads.insert(name.clone());
            }
            "RowShareLock" => {
                shape.reads.insert(name.clone());
                shape.locks.insert((name.clone(), row_lock(&tokens)));
            }
            "RowExclusiveLock" => {
                if !write(catalog, &name, &tokens, &mut shape) {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
        if relation.is_odd || relation.kind == "f" {
            return Ok(None);
        }
    }
    Ok(Some(shape))
}

const LOCKED: &str = "SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname), l.mode \
FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c \
ON c.oid OPERATOR(pg_catalog.=) l.relation JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE (l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
AND (pg_catalog.strpos('rpvmfS', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0) \
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')";

/// The weakest lock that its words ask for is not known to be that of each table: the strongest.
fn row_lock(tokens: &[Token]) -> Strength {
    let mut strongest = None;
    for (at, token) in tokens.iter().enumerate() {
        if !token.is("for") {
            continue;
        }
        let is = |more: usize, word: &str| tokens.get(at + more).is_some_and(|t| t.is(word));
        let strength = if is(1, "key") && is(2, "share") {
            Some(Strength::KeyShare)
        } else if is(1, "share") {
            Some(Strength::Share)
        } else if is(1, "no") && is(2, "key") {
            Some(Strength::NoKeyUpdate)
        } else if is(1, "update") {
            Some(Strength::Update)
        } else {
            None
        };
        strongest = strongest.max(strength);
    }
    strongest.unwrap_or(Strength::Update)
}

/// Adds what a write touches, and says whether that is all known.
fn write(catalog: &Catalog, name: &str, tokens: &[Token], shape: &mut Shape) -> bool {
    let has = |word: &str| tokens.iter().any(|token| token.is(word));
    let unknown = Relation::default();
    let relation = catalog.relations.get(name).unwrap_or(&unknown);
    let keeps_keys = has("update") && !has("delete") && !has("insert") && !has("merge");
    let keeps_keys = keeps_keys && !sets_any(tokens, relation);
    let strength = match keeps_keys {
        true => Strength::NoKeyUpdate,
        false => Strength::Update,
    };
    shape.reads.insert(name.to_owned());
    shape.writes.insert(name.to_owned());
    shape.locks.insert((name.to_owned(), strength));
    shape.is_deferred |= relation.is_deferred;
    if has("insert") || has("merge") || tokens.is_empty() {
        shape.sequences.extend(relation.sequence.clone().map(Some));
    }
    for parent in &relation.references {
        shape.reads.insert(parent.table.clone());
        shape
            .locks
            .insert((parent.table.clone(), Strength::KeyShare));
    }
    if !keeps_keys {
        for child in &relation.referenced_by {
            shape.reads.insert(child.table.clone());
            shape
                .locks
                .insert((child.table.clone(), Strength::KeyShare));
            let is_new = child.cascades && !shape.writes.contains(&child.table);
            if is_new && !write(catalog, &child.table, &[], shape) {
                return false;
            }
        }
    }
    relation.triggers.iter().all(|function| {
        shape.fires = true;
        body(catalog, function, shape, &mut BTreeSet::new())
    })
}

/// Whether an UPDATE may set a column of a unique index, by name.
fn sets_any(tokens: &[Token], relation: &Relation) -> bool {
    let keys: BTreeSet<&str> = match relation.unique.iter().all(Option::is_some) {
        true => (relation.unique.iter().flatten().flatten())
            .map(String::as_str)
            .collect(),
        false => return true,
    };
    if relation.has_children || !relation.parents.is_empty() {
        return true;
    }
    let from = tokens.iter().position(|token| token.is("set"));
    let names_key = |at: usize| {
        let is_key = tokens[at].word().is_some_and(|name| keys.contains(name));
        let is_set = matches!(tokens.get(at + 1), Some(Token::Sign('=' | ',' | ')')));
        is_key && is_set
    };
    let to = tokens.iter().rposition(|token| token.is("where"));
    let range = from.unwrap_or(0)..to.unwrap_or(tokens.len()).max(from.unwrap_or(0));
    range.into_iter().any(names_key)
}

/// Adds what a function may touch, as far as its words tell, and says whether they tell all.
fn body(catalog: &Catalog, name: &str, shape: &mut Shape, seen: &mut BTreeSet<String>) -> bool {
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
        for word in tokens.iter().filter_map(Token::word) {
            let opaque = [
                "execute",
                "dblink",
                "notify",
                "listen",
                "set_config",
                "lock",
                "truncate",
            ];
            if opaque.contains(&word) || word.starts_with("pg_") {
                return false;
            }
            if word == "nextval" {
                shape.sequences.insert(None);
            }
            if catalog.functions.contains_key(word) && !body(catalog, word, shape, seen) {
                return false;
            }
            let named = catalog.relations.keys().filter(|full| {
                let last = full.rsplit('.').next().unwrap_or(full);
                last.trim_matches('"') == word
            });
            for relation in named.cloned().collect::<Vec<_>>() {
                let is_known = catalog
                    .relations
                    .get(&relation)
                    .map(|known| known.kind.as_str());
                // What a view is of is not in the words.
                if is_known != Some("r") {
                    return false;
                }
                if !shape.writes.contains(&relation) && !write(catalog, &relation, &[], shape) {
                    return false;
                }
            }
        }
    }
    true
}

/// Whether a name may be that of a view of what all sessions do, such as `pg_locks`.
fn is_of_the_server(name: &str) -> bool {
    let is_known = ["pg_catalog", "pg_backend_pid"].contains(&name)
        || name.starts_with("pg_advisory_")
        || name.starts_with("pg_try_advisory_");
    name == "information_schema" || (name.starts_with("pg_") && !is_known)
}

/// The functions that its words call, or what looks like one.
fn called(tokens: &[Token]) -> Vec<String> {
    let mut called = Vec::new();
    for (at, pair) in tokens.windows(2).enumerate() {
        let Token::Word { text, quoted } = &pair[0] else {
            continue;
        };
        let introduced = at > 0
            && ["into", "update", "table"]
                .iter()
                .any(|w| tokens[at - 1].is(w));
        if pair[1] == Token::Sign('(') && !introduced && (*quoted || !is_keyword(text)) {
            called.push(text.clone());
        }
    }
    called.sort();
    called.dedup();
    called
}

fn is_keyword(word: &str) -> bool {
    const KEYWORDS: &str = " all and any array as by between case cast char conflict coalesce \
        cross delete distinct else except exclude exists extract filter from full greatest group \
        having ilike in inner insert intersect interval into is join key left like limit \
        materialized natural not nullif numeric of offset on operator or order over partition \
        position returning right row rows select set share similar some substring then trim \
        union update using values varchar when where with within ";
    KEYWORDS.contains(&format!(" {word} "))
}

/// Adds what the functions touch, and says whether that is known.
fn calls<C: LoadConnection<Backend = Pg>>(
    conn: &mut C,
    catalog: &Catalog,
    called: &[String],
    shape: &mut Shape,
) -> QueryResult<bool> {
    for name in called {
        if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") {
            shape.advisory = true;
        } else if name == "nextval" {
            shape.sequences.insert(None);
        } else if catalog.functions.contains_key(name) {
            // It may see or do something before its statement waits.
            shape.fires = true;
            if !body(catalog, name, shape, &mut BTreeSet::new()) {
                return Ok(false);
            }
        } else if !CLOCKS.contains(&name.as_str()) && is_volatile(conn, name)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the server has a function of this name that may do something. What is none is a name
/// with columns.
fn is_volatile<C: LoadConnection<Backend = Pg>>(conn: &mut C, name: &str) -> QueryResult<bool> {
    let asked = sql::<Bool>(
        "SELECT EXISTS (SELECT FROM pg_catalog.pg_proc \
         WHERE (provolatile::pg_catalog.text OPERATOR(pg_catalog.=) 'v') \
         AND proname::pg_catalog.text OPERATOR(pg_catalog.=) ",
    );
    asked.bind::<Text, _>(name).sql(")").get_result(conn)
}
