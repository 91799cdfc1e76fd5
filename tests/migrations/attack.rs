//! What a migration, its source or its surroundings do that breaks what a lock promises.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::migration::{self, Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_locks::{MigrateError, MigrationLock, Retry, Tried};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, applied, exists, run};
use crate::support::{advisory_locks, connect, lock_timeout, two_sessions};

struct Unreadable;

impl MigrationSource<Pg> for Unreadable {
    fn migrations(&self) -> migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        Err("no such directory".into())
    }
}

#[test]
fn a_source_that_cannot_be_read_changes_nothing() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let error = MigrationLock::new()
        .run_pending(&mut conn, Unreadable)
        .unwrap_err();
    assert!(matches!(error, MigrateError::Unreadable(_)), "{error}");
    assert!(!exists(&mut conn, "__diesel_schema_migrations"));
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
fn a_limit_that_was_not_reached_names_who_is_in_the_way_and_spares_the_callers_transaction() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    holder.batch_execute("CREATE TABLE a (id int)").unwrap();
    holder.batch_execute("BEGIN; SELECT * FROM a").unwrap();
    let migrations = All::of([("1", "SET LOCAL lock_timeout = '10ms'; LOCK TABLE a")]);
    for limit in [Duration::from_secs(3_600), Duration::MAX] {
        conn.batch_execute("DROP TABLE IF EXISTS kept").unwrap();
        conn.transaction::<_, diesel::result::Error, _>(|conn| {
            conn.batch_execute("CREATE TABLE kept (id int)")?;
            let error = MigrationLock::new()
                .lock_timeout(limit)
                .attempts(Retry::new().attempts(0))
                .run_pending(conn, &migrations)
                .unwrap_err();
            let MigrateError::Failed {
                in_the_way,
                attempts: 1,
                ..
            } = &error
            else {
                panic!("{error:?}");
            };
            assert_eq!(in_the_way.len(), 1, "{error}");
            conn.batch_execute("SELECT 1")
        })
        .unwrap();
        assert!(exists(&mut conn, "kept"));
    }
}

#[test]
fn a_dry_run_of_a_migration_that_checks_constraints_at_once_is_done() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        ("1", "CREATE TABLE a (id int)"),
        (
            "2",
            "SET CONSTRAINTS ALL IMMEDIATE; CREATE TABLE b (id int)",
        ),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    for report in &run.migrations {
        assert!(matches!(report.tried, Tried::Done(_)), "{run}");
    }
}

#[test]
fn a_failure_that_leaves_a_transaction_of_its_own_open_leaves_no_lock() {
    for sql in [
        "BEGIN; SELECT 1 / 0",
        "BEGIN; CREATE TABLE b (id int); SELECT 1 / 0",
        "BEGIN; COMMIT; SELECT 1 / 0",
    ] {
        let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
        let failing = All(vec![Sql::new("1", sql).outside()]);
        MigrationLock::new()
            .run_pending(&mut here, &failing)
            .unwrap_err();
        assert_eq!(advisory_locks(&database), 0, "{sql}");
        assert_eq!(
            run(&mut there, &All::of([("1", "CREATE TABLE b (id int)")])),
            ["1"],
            "{sql}"
        );
    }
}

#[test]
fn a_migration_that_lets_all_advisory_locks_go_is_an_error_before_the_next() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        ("1", "SELECT pg_advisory_unlock_all()"),
        ("2", "CREATE TABLE b (id int)"),
    ]);
    MigrationLock::new()
        .run_pending(&mut conn, &migrations)
        .unwrap_err();
    assert_eq!(applied(&mut conn), ["1"]);
    assert!(!exists(&mut conn, "b"));
    assert_eq!(run(&mut conn, &migrations), ["2"]);
}

#[test]
fn what_a_limited_migration_sets_or_commits_leaves_the_sessions_limits() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("SET lock_timeout = '7s'").unwrap();
    for (version, sql) in [
        ("1", "COMMIT"),
        ("2", "COMMIT; BEGIN"),
        ("3", "ROLLBACK"),
        ("4", ""),
        ("5", "SELECT 1; -- nothing"),
        ("6", "SELECT 1 / 0"),
        ("7", "COMMIT; SELECT 1 / 0"),
    ] {
        let _ = MigrationLock::new()
            .lock_timeout(Duration::from_millis(20))
            .statement_timeout(Duration::from_secs(9))
            .run_pending(&mut conn, &All::of([(version, sql)]));
        assert_eq!(lock_timeout(&mut conn), "7s", "{sql}");
        assert_eq!(advisory_locks(&database), 0, "{sql}");
    }
}

#[test]
fn a_dry_run_sees_relations_of_every_kind() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(
        "CREATE SEQUENCE s; CREATE VIEW v AS SELECT 1 AS a; CREATE TYPE e AS ENUM ('a'); \
         CREATE TABLE p (id int) PARTITION BY RANGE (id); \
         CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (1) TO (9); \
         CREATE TABLE gone (id int); CREATE TABLE \"odd | \x1b[2J\" (id int); \
         CREATE MATERIALIZED VIEW m AS SELECT 1 AS a; \
         CREATE FOREIGN DATA WRAPPER w; CREATE SERVER far FOREIGN DATA WRAPPER w; \
         CREATE FOREIGN TABLE f (id int) SERVER far",
    )
    .unwrap();
    let migrations = All::of([
        ("1", "ALTER SEQUENCE s INCREMENT 2"),
        ("2", "ALTER VIEW v ALTER COLUMN a SET DEFAULT 1"),
        ("3", "ALTER TYPE e ADD VALUE 'b'"),
        ("4", "ALTER TABLE p ADD COLUMN b int"),
        ("5", "DROP TABLE gone"),
        ("6", "ALTER TABLE \"odd | \x1b[2J\" RENAME TO even"),
        ("7", "REFRESH MATERIALIZED VIEW m"),
        ("8", "ALTER FOREIGN TABLE f ADD COLUMN b int"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    let text = run.to_string();
    for relation in [
        "sequence public.s",
        "view public.v",
        "table public.p ",
        "table public.p1",
        "table public.gone",
        "odd | ",
        "materialized view public.m",
        "foreign table public.f",
    ] {
        assert!(text.contains(relation), "{relation}: {text}");
    }
    assert!(!text.contains('\x1b'));
    assert!(!exists(&mut conn, "even"));
}

#[test]
fn a_role_that_may_make_no_temporary_table_may_try_its_migrations() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(
        "CREATE ROLE makes_no_temporary_table; \
         GRANT ALL ON SCHEMA public TO makes_no_temporary_table; DO $$ BEGIN \
         EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); \
         END $$; SET ROLE makes_no_temporary_table",
    )
    .unwrap();
    let migrations = All::of([("1", "CREATE TABLE a (id int)")]);
    let done = MigrationLock::new().dry_run(&mut conn, &migrations);
    conn.batch_execute(
        "RESET ROLE; DROP OWNED BY makes_no_temporary_table; DROP ROLE makes_no_temporary_table",
    )
    .unwrap();
    assert_eq!(done.unwrap().migrations.len(), 1);
}
