//! What the tests of migrations ask the database.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_locks::{MigrationEvent, MigrationLock};

pub(crate) use crate::support::migrations::{All, Sql};

/// Runs them, and gives the versions.
pub(crate) fn run(conn: &mut PgConnection, migrations: &All) -> Vec<String> {
    let done = MigrationLock::new().run_pending(conn, migrations).unwrap();
    done.iter().map(ToString::to_string).collect()
}

pub(crate) fn applied(conn: &mut PgConnection) -> Vec<String> {
    sql::<Text>("SELECT version FROM __diesel_schema_migrations ORDER BY version")
        .load(conn)
        .unwrap()
}

pub(crate) fn exists(conn: &mut PgConnection, relation: &str) -> bool {
    sql::<Bool>("SELECT pg_catalog.to_regclass(")
        .bind::<Text, _>(relation)
        .sql(") IS NOT NULL")
        .get_result(conn)
        .unwrap()
}

/// Whether the index is there and valid.
pub(crate) fn is_valid(conn: &mut PgConnection, index: &str) -> bool {
    let valid: Option<bool> = sql::<Bool>(
        "SELECT indisvalid FROM pg_catalog.pg_index \
         WHERE indexrelid OPERATOR(pg_catalog.=) pg_catalog.to_regclass(",
    )
    .bind::<Text, _>(index)
    .sql(")")
    .get_result(conn)
    .optional()
    .unwrap();
    valid == Some(true)
}

/// What a run has told, a line each, without the times.
pub(crate) fn kinds(events: &[MigrationEvent]) -> Vec<&'static str> {
    (events.iter())
        .map(|event| match event {
            MigrationEvent::Waiting { .. } => "waiting",
            MigrationEvent::Locked { .. } => "locked",
            MigrationEvent::NothingToDo => "nothing to do",
            MigrationEvent::Began { .. } => "began",
            MigrationEvent::Refused { .. } => "refused",
            MigrationEvent::Done { .. } => "done",
            MigrationEvent::Recovered { .. } => "recovered",
            MigrationEvent::DroppedIndex { .. } => "dropped",
            other => panic!("{other:?}"),
        })
        .collect()
}
