//! What a dry run says.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{Blocks, MigrationLock, Tried};
use diesel_locks_harness::TestDatabase;

use super::fixture::{ACCESS_EXCLUSIVE, prepared, strongest, touched};
use crate::fixture::{All, Sql, exists};
use crate::support::{advisory_locks, connect};

#[test]
fn what_a_lock_blocks_is_said() {
    let (_database, mut conn) = prepared();
    let migrations = All::of([
        ("1", "ALTER TABLE accounts ADD COLUMN email text"),
        ("2", "CREATE INDEX ON jobs (note)"),
        ("3", "ALTER TABLE jobs VALIDATE CONSTRAINT jobs_fk"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    let blocks = |at, relation| strongest(touched(&run, at), relation).unwrap().blocks;
    assert_eq!(blocks(0, "accounts"), Blocks::ReadsAndWrites);
    assert_eq!(blocks(1, "jobs"), Blocks::Writes);
    assert_eq!(blocks(2, "jobs"), Blocks::Neither);
    assert_eq!(blocks(2, "accounts"), Blocks::Neither);
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
fn a_migration_of_a_table_that_an_earlier_one_makes_is_shown_as_uncertain() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        ("1", "CREATE TABLE a (id int)"),
        ("2", "ALTER TABLE a ADD COLUMN name text"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    assert!(touched(&run, 0).locks.is_empty(), "{run:?}");
    let lock = strongest(touched(&run, 1), "a").unwrap();
    assert!(lock.is_uncertain && lock.mode == ACCESS_EXCLUSIVE);
    assert!(!exists(&mut conn, "a") && !exists(&mut conn, "__diesel_schema_migrations"));
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
fn a_lock_that_the_callers_transaction_has_already_is_shown_as_uncertain() {
    let (_database, mut conn) = prepared();
    conn.transaction::<_, diesel::result::Error, _>(|conn| {
        conn.batch_execute("LOCK TABLE accounts")?;
        let migrations = All::of([
            ("1", "ALTER TABLE accounts ADD COLUMN email text"),
            ("2", "SELECT 1"),
        ]);
        let run = MigrationLock::new().dry_run(conn, &migrations).unwrap();
        let lock = strongest(touched(&run, 0), "accounts").unwrap();
        assert!(lock.is_uncertain && lock.mode == ACCESS_EXCLUSIVE);
        assert!(touched(&run, 1).locks.is_empty(), "{run:?}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_cannot_be_tried_is_listed_and_the_rest_goes_on() {
    let (_database, mut conn) = prepared();
    let migrations = All(vec![
        Sql::new("1", "CREATE INDEX CONCURRENTLY owners ON accounts (owner)").outside(),
        Sql::new("2", "DROP INDEX owners"),
        Sql::new("3", "ALTER TABLE accounts ADD COLUMN email text"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    assert_eq!(run.migrations[0].tried, Tried::NotInTransaction);
    assert!(
        matches!(&run.migrations[1].tried, Tried::Failed { error, .. } if error.contains("owners"))
    );
    assert!(strongest(touched(&run, 2), "accounts").is_some());
}

#[test]
fn a_dry_run_is_a_table_for_a_terminal_and_one_for_a_pull_request() {
    let (_database, mut conn) = prepared();
    conn.batch_execute(r#"CREATE TABLE "a|b*" (id int)"#)
        .unwrap();
    let migrations = All(vec![
        Sql::new(
            "1",
            r#"ALTER TABLE "a|b*" ADD COLUMN x int, ALTER id TYPE bigint"#,
        ),
        Sql::new("2", "VACUUM").outside(),
        Sql::new("3", "CREATE TABLE c (id int)"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    let text = run.to_string();
    let mut lines = text.lines();
    assert!(
        lines.next().unwrap().starts_with("migration  lock"),
        "{text}"
    );
    let line = lines.next().unwrap();
    let row = r#"1          AccessExclusiveLock  table public."a|b*"  reads and writes  held for"#;
    assert!(
        line.starts_with(row) && line.ends_with("ms, rewritten"),
        "{text}"
    );
    let markdown = run.to_markdown();
    assert!(
        markdown.contains(r#"| 1 | AccessExclusiveLock | table public."a\|b\*" | reads"#),
        "{markdown}"
    );
    assert!(markdown.contains("| 2 | – | – | – | not tried: it runs outside a transaction |"));
    assert!(markdown.contains("| 3 | – | – | – | locks nothing that was there,"));
}

#[test]
fn only_the_strongest_lock_on_a_table_says_what_else_becomes_of_it() {
    let (_database, mut conn) = prepared();
    let migrations = All::of([(
        "1",
        "SELECT FROM jobs; ALTER TABLE accounts ADD COLUMN a int; \
         ALTER TABLE events_1 ALTER at TYPE bigint; ALTER TABLE jobs ADD CHECK (id > 0)",
    )]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    let text = run.to_string();
    for (row, end) in [
        ("AccessExclusiveLock  table public.accounts ", " ms"),
        ("AccessExclusiveLock  table public.events_1 ", "  rewritten"),
        ("AccessExclusiveLock  table public.jobs ", "  scanned"),
        ("AccessShareLock      table public.jobs ", "  neither"),
    ] {
        let line = text.lines().find(|line| line.contains(row));
        assert!(line.is_some_and(|line| line.ends_with(end)), "{text}");
    }
}

#[test]
fn an_index_that_is_built_again_comes_after_its_table_and_is_not_called_rewritten() {
    let (_database, mut conn) = prepared();
    conn.batch_execute("CREATE INDEX an_index ON jobs (id)")
        .unwrap();
    let migrations = All::of([("1", "ALTER TABLE jobs ALTER id TYPE bigint")]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    assert_eq!(touched(&run, 0).rewritten, ["public.jobs"]);
    let locked: Vec<_> = (touched(&run, 0).locks.iter())
        .filter(|lock| lock.mode == ACCESS_EXCLUSIVE)
        .map(|lock| &*lock.relation)
        .collect();
    assert_eq!(locked[..2], ["public.jobs", "public.an_index"]);
}

#[test]
fn each_kind_of_relation_is_called_as_it_is() {
    let (_database, mut conn) = prepared();
    conn.batch_execute(
        "CREATE TYPE pair AS (a int); CREATE SEQUENCE numbers; \
         CREATE VIEW owners AS SELECT owner FROM accounts; \
         CREATE INDEX events_at ON events (at); \
         CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; \
         CREATE FOREIGN TABLE far (a int) SERVER nowhere",
    )
    .unwrap();
    let kinds = [
        ("ALTER TABLE accounts ADD COLUMN a int", "accounts", "table"),
        ("ALTER TABLE events ADD COLUMN a int", "events", "table"),
        ("DROP INDEX jobs_account", "jobs_account", "index"),
        ("DROP INDEX events_at", "events_at", "index"),
        ("DROP SEQUENCE numbers", "numbers", "sequence"),
        ("DROP VIEW owners", "owners", "view"),
        (
            "DROP MATERIALIZED VIEW totals",
            "totals",
            "materialized view",
        ),
        ("DROP FOREIGN TABLE far", "far", "foreign table"),
        ("ALTER TYPE pair ADD ATTRIBUTE b int", "pair", "type"),
    ];
    let migrations = kinds.iter().zip(1..);
    let migrations = migrations.map(|((sql, ..), n)| Sql::new(&n.to_string(), sql));
    let run = MigrationLock::new()
        .dry_run(&mut conn, &All(migrations.collect()))
        .unwrap();
    for (at, (sql, relation, kind)) in kinds.iter().enumerate() {
        let lock = strongest(touched(&run, at), relation);
        assert_eq!(lock.map(|lock| lock.kind), Some(*kind), "{sql}: {run:?}");
    }
}
