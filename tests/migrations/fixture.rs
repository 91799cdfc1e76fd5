//! Migrations, tables for them, and what the tests ask the database.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text};
use diesel_locks::{LockKey, MigrationEvent, MigrationLock, Retry};
use diesel_locks_harness::TestDatabase;

use crate::support::two_sessions;

pub(crate) use crate::support::migrations::{All, Sql};

pub(crate) const ACCOUNTS: &str = "CREATE TABLE accounts (id int PRIMARY KEY, owner text)";

/// Short for a test, and long enough for a lock that nobody has.
pub(crate) const BRIEFLY: Duration = Duration::from_millis(20);

/// So many attempts, with short pauses.
pub(crate) fn soon(attempts: u32) -> Retry {
    Retry::new()
        .attempts(attempts)
        .backoff(Duration::from_millis(1), Duration::from_millis(5))
}

/// A database with two tables, one of which references the other, and two sessions.
pub(crate) fn accounts_and_jobs() -> (TestDatabase, PgConnection, PgConnection) {
    let (database, mut here, there) = two_sessions(TestDatabase::new().unwrap());
    here.batch_execute(ACCOUNTS).unwrap();
    here.batch_execute("CREATE TABLE jobs (id int PRIMARY KEY, account int REFERENCES accounts)")
        .unwrap();
    (database, here, there)
}

pub(crate) fn add_a_column() -> All {
    All::of([("1", "ALTER TABLE accounts ADD COLUMN email text")])
}

/// Two migrations, each of which makes a table.
pub(crate) fn two_tables() -> All {
    All::of([
        ("1", "CREATE TABLE a (id int)"),
        ("2", "CREATE TABLE b (id int)"),
    ])
}

/// One migration outside a transaction.
pub(crate) fn outside(up: &str) -> All {
    All(vec![Sql::new("2", up).outside()])
}

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

/// Leaves the note of a run of `version` that was interrupted, before which there were `indexes`.
pub(crate) fn leave_note(conn: &mut PgConnection, version: &str, indexes: &[&str]) {
    let LockKey::Single(digest) = LockKey::named("__diesel_schema_migrations\0\0postgres") else {
        panic!("a name is one number");
    };
    let (table, names) = (
        format!("__diesel_locks_begun_{digest:016x}"),
        indexes.join(","),
    );
    conn.batch_execute(&format!(
        "CREATE TABLE {table} (version text NOT NULL, indexes oid[] NOT NULL, names text[] NOT NULL); \
         INSERT INTO {table} VALUES ('{version}', '{{{names}}}'::text[]::regclass[]::oid[], '{{{names}}}')"
    ))
    .unwrap();
}

/// Whether there is a note of a run that is not over.
pub(crate) fn has_note(conn: &mut PgConnection) -> bool {
    sql::<Bool>(
        "SELECT EXISTS (SELECT FROM pg_class WHERE relname LIKE '\\_\\_diesel\\_locks\\_begun%')",
    )
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
