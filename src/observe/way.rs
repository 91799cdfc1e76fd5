//! Who was in the way of a statement that waited for the lock of a table.

use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Array, Bool, Double, Text};
use diesel::{QueryResult, RunQueryDsl};

use super::identifier::{quoted, readings};
use super::session::SessionRow;
use super::sql::{ACTIVITY, HELD_BY, HERE, PREPARED, SESSION, SESSIONS, TAKEN};
use crate::SessionInfo;

/// The other sessions and prepared transactions of this database that hold a lock on a relation
/// and began their transaction at least `since` ago, or when may not be seen; the oldest first. A
/// prepared transaction counts whenever it was prepared, as that does not tell when it began.
///
/// If words of the statement name relations, only those that hold a lock on one of these, or on
/// what belongs to one: its indexes or its table, the tables at the other end of its foreign keys,
/// its parents and partitions, views of it, and the tables of a view. If that is nobody, all of
/// them.
///
/// One round trip.
pub(crate) fn in_the_way<C>(
    conn: &mut C,
    named_in: &[String],
    since: Duration,
) -> QueryResult<Vec<SessionInfo>>
where
    C: LoadConnection<Backend = Pg>,
{
    let question = Question {
        names: named_in.iter().filter_map(|it| quoted(it)).collect(),
        since,
        or_everybody: true,
        ..Question::default()
    };
    question.ask(conn)
}

/// Who has a lock on one of the relations, or on what belongs to one. They are called as in errors,
/// without quotes.
pub(super) fn holders_of<C>(conn: &mut C, relations: &[String]) -> QueryResult<Vec<SessionInfo>>
where
    C: LoadConnection<Backend = Pg>,
{
    let question = Question {
        names: relations.iter().flat_map(|it| readings(it)).collect(),
        ..Question::default()
    };
    question.ask(conn)
}

/// Who may have locked a row of a table, whose schema is not known: whoever does more than read it.
pub(super) fn lockers_of_rows<C>(conn: &mut C, table: &str) -> QueryResult<Vec<SessionInfo>>
where
    C: LoadConnection<Backend = Pg>,
{
    let question = Question {
        anywhere: vec![table.to_owned()],
        but_readers: true,
        ..Question::default()
    };
    question.ask(conn)
}

#[derive(Debug, Default)]
struct Question {
    /// Relations as `to_regclass` reads them.
    names: Vec<String>,
    /// The names of relations, in whichever schema.
    anywhere: Vec<String>,
    since: Duration,
    /// Without those that only read.
    but_readers: bool,
    /// Whether to name everybody where nobody has a lock on what was named.
    or_everybody: bool,
}

/// The relations that were named, and what belongs to them: `parts` are partitions and views,
/// `wholes` are parents,
/// and the tables of a view.
const RELATED: &str = "\
    parts AS (SELECT oid FROM named UNION SELECT part FROM parts, LATERAL (\
    SELECT inhrelid AS part FROM pg_catalog.pg_inherits \
    WHERE inhparent OPERATOR(pg_catalog.=) parts.oid \
    UNION ALL SELECT ev_class FROM pg_catalog.pg_depend JOIN pg_catalog.pg_rewrite \
    ON pg_rewrite.oid OPERATOR(pg_catalog.=) objid \
    WHERE refobjid OPERATOR(pg_catalog.=) parts.oid \
    AND refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
    AND classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass) AS below), \
    wholes AS (SELECT oid FROM named UNION SELECT whole FROM wholes, LATERAL (\
    SELECT inhparent AS whole FROM pg_catalog.pg_inherits \
    WHERE inhrelid OPERATOR(pg_catalog.=) wholes.oid \
    UNION ALL SELECT refobjid FROM pg_catalog.pg_rewrite JOIN pg_catalog.pg_depend \
    ON objid OPERATOR(pg_catalog.=) pg_rewrite.oid \
    WHERE ev_class OPERATOR(pg_catalog.=) wholes.oid \
    AND refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass \
    AND classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass) AS above), \
    family AS (SELECT oid FROM parts UNION SELECT oid FROM wholes \
    UNION SELECT indrelid FROM named JOIN pg_catalog.pg_index \
    ON indexrelid OPERATOR(pg_catalog.=) named.oid), \
    related AS MATERIALIZED (SELECT oid FROM family \
    UNION SELECT indexrelid FROM family JOIN pg_catalog.pg_index \
    ON indrelid OPERATOR(pg_catalog.=) family.oid \
    UNION SELECT confrelid FROM family JOIN pg_catalog.pg_constraint \
    ON conrelid OPERATOR(pg_catalog.=) family.oid \
    UNION SELECT conrelid FROM family JOIN pg_catalog.pg_constraint \
    ON confrelid OPERATOR(pg_catalog.=) family.oid)";

/// The beginning of what is held: the locks on relations that others hold here, but on the
/// system's own, on temporary ones, and on new ones that nobody else can see.
/// Relations below 16384 are the system's.
fn held() -> String {
    format!(
        "held AS MATERIALIZED (SELECT taken.*, \
         EXISTS (SELECT FROM related WHERE related.oid OPERATOR(pg_catalog.=) taken.relation) \
         AS is_named FROM diesel_locks_taken AS taken WHERE granted \
         AND locktype OPERATOR(pg_catalog.=) 'relation' \
         AND database OPERATOR(pg_catalog.=) {HERE} \
         AND relation::pg_catalog.int8 OPERATOR(pg_catalog.>=) 16384 \
         AND EXISTS (SELECT FROM pg_catalog.pg_class \
         WHERE pg_class.oid OPERATOR(pg_catalog.=) relation \
         AND relpersistence OPERATOR(pg_catalog.<>) 't') \
         AND NOT EXISTS (SELECT FROM diesel_locks_activity AS own \
         WHERE own.pid OPERATOR(pg_catalog.=) taken.pid \
         AND coalesce(own.leader_pid, own.pid) OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"
    )
}

impl Question {
    fn ask<C>(self, conn: &mut C) -> QueryResult<Vec<SessionInfo>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let held = held();
        sql::<SessionRow>(&format!(
            "WITH RECURSIVE {ACTIVITY}, {TAKEN}, {PREPARED}, {SESSIONS}, \
             named AS MATERIALIZED (SELECT pg_catalog.to_regclass(name)::pg_catalog.oid AS oid \
             FROM pg_catalog.unnest("
        ))
        .bind::<Array<Text>, _>(self.names)
        .sql(
            ") AS name UNION SELECT oid FROM pg_catalog.pg_class \
             WHERE relname::pg_catalog.text OPERATOR(pg_catalog.=) ANY (",
        )
        .bind::<Array<Text>, _>(self.anywhere)
        .sql(&format!(")), {RELATED}, {held} AND (NOT "))
        .bind::<Bool, _>(self.but_readers)
        .sql(&format!(
            " OR mode OPERATOR(pg_catalog.<>) 'AccessShareLock')), \
             holders AS MATERIALIZED (SELECT sessions.*, EXISTS (SELECT FROM held AS taken \
             WHERE {HELD_BY} AND is_named) AS is_named FROM diesel_locks_sessions AS sessions \
             WHERE EXISTS (SELECT FROM held AS taken WHERE {HELD_BY}) AND (prepared IS NOT NULL \
             OR coalesce(age OPERATOR(pg_catalog.>=) pg_catalog.make_interval(secs => "
        ))
        .bind::<Double, _>(self.since.as_secs_f64())
        .sql(&format!(
            "), true))) SELECT {SESSION} FROM holders AS sessions WHERE is_named OR ("
        ))
        .bind::<Bool, _>(self.or_everybody)
        .sql(
            " AND NOT EXISTS (SELECT FROM holders WHERE is_named)) \
             ORDER BY sessions.age DESC NULLS LAST, sessions.pid",
        )
        .load(conn)
    }
}

#[cfg(test)]
mod tests;
