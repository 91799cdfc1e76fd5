//! What the server says that a statement touches, learnt once for its text.

use std::collections::BTreeSet;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use super::catalog::{Catalog, is_of_the_server};
use super::order::order_matters;
use super::print::Strength;
use super::shape::{Shape, row_lock};
use super::statement::Statement;
use super::tokens::{Token, tokens};
use super::write::{Writing, body, write};

/// The shape of one statement, if all that it does can be told. On a connection of its own, in a
/// transaction that is rolled back.
pub(crate) fn shape<C: LoadConnection<Backend = Pg>>(
    conn: &mut C,
    catalog: &Catalog,
    statement: &Statement,
) -> QueryResult<Option<Shape>> {
    let text = statement.sql.as_str();
    let mut shape = Shape::default();
    if catalog.own_operators {
        return Ok(None);
    }
    let tokens = tokens(text);
    if tokens.iter().filter_map(Token::word).any(is_of_the_server) {
        return Ok(None);
    }
    // An upsert looks at `xmax` of its own row.
    let is_insert = tokens.first().is_some_and(|first| first.is("insert"));
    if (!is_insert && tokens.iter().any(is_of_the_row)) || hides_names(&tokens) {
        return Ok(None);
    }
    if !calls(catalog, &tokens, text, &mut shape) {
        return Ok(None);
    }
    // A lock that is in the way now is not worth waiting for.
    conn.batch_execute(&format!(
        "BEGIN; SET LOCAL lock_timeout = '100ms'; PREPARE diesel_locks_harness{} AS {text}",
        types(&statement.binds)
    ))
    .inspect_err(|_| {
        let _ = conn.batch_execute("ROLLBACK");
    })?;
    let locked: QueryResult<Vec<(String, String)>> = sql::<(Text, Text)>(LOCKED).load(conn);
    conn.batch_execute("ROLLBACK; DEALLOCATE diesel_locks_harness")?;
    let locked = locked?;
    let is_view = |(name, _): &(String, String)| {
        let known = catalog.relations.get(name);
        known.is_some_and(|known| known.kind == "v")
    };
    let has_views = locked.iter().any(is_view);
    for (name, mode) in locked {
        if !catalog.relations.contains_key(&name) {
            return Ok(None);
        }
        shape.named.insert(name.clone());
        match mode.as_str() {
            "AccessShareLock" => {
                shape.reads.insert(name.clone());
            }
            "RowShareLock" => {
                shape.reads.insert(name.clone());
                let strength = match has_views {
                    true => Strength::Update,
                    false => row_lock(&tokens),
                };
                shape.locks.insert((name.clone(), strength));
            }
            "RowExclusiveLock" => {
                // What columns of a view are called is not what they are.
                let writing = match has_views {
                    true => Writing::Anything,
                    false => Writing::Words(&tokens),
                };
                if !write(catalog, &name, writing, &mut shape) {
                    return Ok(None);
                }
            }
            _ => return Ok(None),
        }
        if catalog.is_odd(&name) {
            return Ok(None);
        }
    }
    let key = match shape.named.first() {
        Some(name) if shape.named.len() == 1 => catalog.relations[name].key.as_slice(),
        _ => &[],
    };
    let key = match key {
        [(column, _)] => Some(column.as_str()),
        _ => None,
    };
    // What views and functions do in some order is not in the words.
    shape.order_matters = has_views || shape.fires || order_matters(&tokens, key);
    Ok(Some(shape))
}

/// The types of the binds, where the server would take them for others than Diesel says they are: it
/// takes what an interval is multiplied with for two numbers.
fn types(binds: &[String]) -> String {
    let is_interval = |bind: &String| bind.contains("PgInterval {") || bind.contains("TimeDelta {");
    if !binds.iter().any(is_interval) {
        return String::new();
    }
    let types = binds.iter().map(|bind| match is_interval(bind) {
        true => "pg_catalog.\"interval\"",
        false => "pg_catalog.unknown",
    });
    format!(" ({})", types.collect::<Vec<_>>().join(", "))
}

const LOCKED: &str = "SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, c.relname), l.mode \
FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_class AS c \
ON c.oid OPERATOR(pg_catalog.=) l.relation JOIN pg_catalog.pg_namespace AS n \
ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
WHERE (l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid()) \
AND (pg_catalog.strpos('rpvmfS', c.relkind::pg_catalog.text) OPERATOR(pg_catalog.>) 0) \
AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_')";

/// Whether it is a column that tells where a row is, or who has it.
fn is_of_the_row(token: &Token) -> bool {
    let columns = ["ctid", "xmin", "xmax", "cmin", "cmax"];
    token.word().is_some_and(|word| columns.contains(&word))
}

/// Whether it has names like `U&"d\0061t"`.
fn hides_names(tokens: &[Token]) -> bool {
    let hides = |three: &[Token]| {
        three[0].is("u")
            && three[1] == Token::Sign('&')
            && matches!(three[2], Token::Word { quoted: true, .. })
    };
    tokens.windows(3).any(hides)
}

/// Adds what the functions touch that its words may call, and says whether that is known.
fn calls(catalog: &Catalog, tokens: &[Token], text: &str, shape: &mut Shape) -> bool {
    // What this project's locks set is for themselves.
    let sets_own = text.matches("set_config(").count()
        == text.matches("set_config('diesel_locks.owner'").count();
    // A function of a row may be called as if it were a column.
    for name in tokens.iter().filter_map(Token::word) {
        if name.starts_with("pg_advisory_") || name.starts_with("pg_try_advisory_") {
            shape.advisory = true;
        } else if name == "nextval" {
            shape.sequences.insert(None);
        } else if catalog.functions.contains_key(name) {
            // It may see or do something before its statement waits.
            shape.fires = true;
            if !body(catalog, name, shape, &mut BTreeSet::new()) {
                return false;
            }
        } else if catalog.volatile.contains(name) && !(name == "set_config" && sets_own) {
            return false;
        }
    }
    true
}
