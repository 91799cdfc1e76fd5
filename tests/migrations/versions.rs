//! Which migrations are pending: versions, where they are kept, and sources.

use diesel::connection::SimpleConnection;
use diesel::migration::{self, Migration, MigrationSource};
use diesel::pg::Pg;
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, applied, exists, run, two_tables};
use crate::support::{advisory_locks, connect};

#[test]
fn the_versions_are_those_that_diesel_knows() {
    use diesel_migrations::MigrationHarness;
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut migrations = two_tables();
    migrations.0[1] = Sql::new("2", "CREATE TABLE b (id int)").down("DROP TABLE b");
    run(&mut conn, &migrations);
    assert!(!conn.has_pending_migration(&migrations).unwrap());
    conn.revert_last_migration(&migrations).unwrap();
    assert_eq!(run(&mut conn, &migrations), ["2"]);
}

#[test]
fn each_schema_of_the_search_path_has_its_own_versions_as_with_diesel() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &two_tables());
    conn.batch_execute("CREATE SCHEMA tenant; SET search_path = tenant, public")
        .unwrap();
    assert_eq!(run(&mut conn, &two_tables()).len(), 2);
    assert!(exists(&mut conn, "tenant.a"));
}

#[test]
fn a_migration_may_empty_the_search_path() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        (
            "1",
            "SELECT pg_catalog.set_config('search_path', '', false)",
        ),
        ("2", "CREATE TABLE public.b (id pg_catalog.int4)"),
    ]);
    assert_eq!(run(&mut conn, &migrations).len(), 2);
    assert_eq!(applied(&mut connect(&database)), ["1", "2"]);
}

#[test]
fn the_version_of_a_migration_may_be_odd() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let odd = All::of([
        ("", "SELECT 1"),
        ("' OR 1 = 1 --", "SELECT 1"),
        ("z\u{1b}[2J", "SELECT 1"),
    ]);
    assert_eq!(run(&mut conn, &odd).len(), 3);
    assert_eq!(applied(&mut conn).len(), 3);
    assert!(run(&mut conn, &odd).is_empty());
    assert_eq!(
        MigrationLock::new()
            .revert_all(&mut conn, &odd)
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn a_version_that_the_source_has_twice_is_an_error() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let twice = All::of([("1", "SELECT 1"), ("1", "SELECT 2")]);
    let error = MigrationLock::new()
        .run_pending(&mut conn, &twice)
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
}

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
fn a_role_that_may_not_create_the_table_of_versions_is_told_so() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(
        "CREATE ROLE maker_of_nothing; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         SET ROLE maker_of_nothing",
    )
    .unwrap();
    let error = MigrationLock::new()
        .run_pending(&mut conn, &All::of([("1", "SELECT 1")]))
        .unwrap_err();
    let text = format!("{error:?}");
    assert!(text.contains("permission denied for schema"), "{text}");
    conn.batch_execute("RESET ROLE; DROP ROLE maker_of_nothing")
        .unwrap();
}

#[test]
fn a_role_that_may_not_create_tables_finds_out_that_nothing_is_pending() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &two_tables());
    conn.batch_execute(
        "CREATE ROLE reader_of_versions; REVOKE CREATE ON SCHEMA public FROM PUBLIC; \
         GRANT SELECT ON __diesel_schema_migrations TO reader_of_versions; \
         SET ROLE reader_of_versions",
    )
    .unwrap();
    assert!(run(&mut conn, &two_tables()).is_empty());
    conn.batch_execute(
        "RESET ROLE; DROP OWNED BY reader_of_versions; DROP ROLE reader_of_versions",
    )
    .unwrap();
}
