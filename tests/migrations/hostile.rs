//! Surroundings and migrations that nobody hopes for.

use std::fs;
use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use diesel::connection::{InstrumentationEvent, SimpleConnection};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::{Condition, MigrateError, MigrationEvent, MigrationLock, Retry, Tried};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::FileBasedMigrations;

use crate::code::Code;
use crate::fixture::{All, Sql, applied, exists, is_valid, leave_note, run};
use crate::support::directory::Directory;
use crate::support::{advisory_locks, connect, two_sessions};

const INDEX: &str = "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_id ON a (id)";

fn two_tables() -> All {
    All::of([
        ("1", "CREATE TABLE a (id int)"),
        ("2", "CREATE TABLE b (id int)"),
    ])
}

#[test]
fn migrations_in_files_whose_errors_have_no_source_are_tried_again_too() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    let directory = Directory::new("migrations");
    let migration = directory.0.join("1_alter");
    fs::create_dir(&migration).unwrap();
    fs::write(migration.join("up.sql"), "ALTER TABLE a ADD COLUMN b int").unwrap();
    holder.batch_execute("CREATE TABLE a (id int)").unwrap();
    holder.batch_execute("BEGIN; SELECT * FROM a").unwrap();
    let mut refused = 0;
    let error = MigrationLock::new()
        .lock_timeout(Duration::from_millis(10))
        .attempts(
            Retry::new()
                .attempts(3)
                .backoff(Duration::ZERO, Duration::ZERO),
        )
        .on_progress(|event| refused += i32::from(matches!(event, MigrationEvent::Refused { .. })))
        .run_pending(
            &mut conn,
            FileBasedMigrations::from_path(&directory.0).unwrap(),
        )
        .unwrap_err();
    assert_eq!(refused, 2);
    assert_eq!(error.condition(), Some(Condition::Timeout));
    assert_eq!(diesel_locks::condition(&error), Some(Condition::Timeout));
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
    assert!(diesel_locks::is_contention(&*boxed));
}

#[test]
fn an_application_with_instrumentation_of_its_own_is_told_of_an_invalid_index_too() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    there.set_instrumentation(|_: InstrumentationEvent<'_>| {});
    run(&mut there, &two_tables());
    here.batch_execute("INSERT INTO a VALUES (1), (1)").unwrap();
    // Interrupted, with a note.
    leave_note(&mut here, "3", &[]);
    here.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY a_id ON a (id)")
        .unwrap_err();
    let index = All(vec![Sql::new("3", INDEX).outside()]);
    let error = MigrationLock::new()
        .run_pending(&mut there, &index)
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::LeftoverIndex { .. }),
        "{error}"
    );
    let lock = MigrationLock::new().drop_invalid_indexes(true);
    lock.run_pending(&mut there, &index).unwrap();
    assert!(is_valid(&mut here, "a_id"));
}

#[test]
fn a_dry_run_of_a_migration_that_ends_its_transaction_changes_nothing() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    for commits in [
        "CREATE TABLE c (id int); COMMIT",
        "COMMIT; CREATE TABLE c (id int)",
        "ROLLBACK; CREATE TABLE c (id int)",
        "ROLLBACK; BEGIN; CREATE TABLE c (id int); COMMIT",
        "COMMIT AND CHAIN; CREATE TABLE c (id int); COMMIT",
    ] {
        let mut migrations = two_tables();
        migrations.0.push(Sql::new("3", commits));
        MigrationLock::new()
            .dry_run(&mut conn, &migrations)
            .unwrap_err();
        let mut other = connect(&database);
        assert!(
            !exists(&mut other, "a") && !exists(&mut other, "c"),
            "{commits}"
        );
        assert_eq!(advisory_locks(&database), 0);
        conn.batch_execute("CREATE TABLE c (id int); DROP TABLE c")
            .unwrap();
    }
}

#[test]
fn a_panic_in_a_savepoint_of_the_migration_leaves_no_transaction_open() {
    let (_database, mut conn, mut other) = two_sessions(TestDatabase::new().unwrap());
    let panics = Code::new(|conn| {
        let conn = conn.downcast_mut::<PgConnection>().unwrap();
        conn.transaction(|conn| {
            conn.batch_execute("CREATE TABLE a (id int)")?;
            panic!("half way")
        })
    })
    .in_transaction();
    let run_it = || {
        MigrationLock::new()
            .run_pending(&mut conn, &panics)
            .map(drop)
    };
    panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
    other.batch_execute("CREATE TABLE a (id int)").unwrap();
    conn.batch_execute("DROP TABLE a").unwrap();
    assert!(!exists(&mut other, "a"));
}

#[test]
fn a_dry_run_leaves_the_sessions_transactions_as_they_were() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let is_read_only = |conn: &mut PgConnection| {
        sql::<Text>("SHOW default_transaction_read_only")
            .get_result::<String>(conn)
            .unwrap()
    };
    let done = MigrationLock::new()
        .dry_run(&mut conn, &two_tables())
        .unwrap();
    assert!(matches!(done.migrations[0].tried, Tried::Done(_)));
    assert_eq!(is_read_only(&mut conn), "off");
    let panics = Code::new(|_| panic!("at once")).in_transaction();
    let run_it = || MigrationLock::new().dry_run(&mut conn, &panics).map(drop);
    panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
    assert_eq!(is_read_only(&mut conn), "off");
    // Where a migration could not write, the dry run says so.
    conn.batch_execute("CREATE TABLE __diesel_schema_migrations (version text, run_on timestamp)")
        .unwrap();
    conn.batch_execute("SET default_transaction_read_only = on")
        .unwrap();
    let done = MigrationLock::new()
        .dry_run(&mut conn, &two_tables())
        .unwrap();
    assert!(matches!(done.migrations[0].tried, Tried::Failed { .. }));
    assert_eq!(is_read_only(&mut conn), "on");
}

#[test]
fn serializable_by_default_is_no_obstacle() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    for conn in [&mut here, &mut there] {
        conn.batch_execute("SET default_transaction_isolation = 'serializable'")
            .unwrap();
        assert_eq!(
            MigrationLock::new()
                .dry_run(conn, &two_tables())
                .unwrap()
                .migrations
                .len(),
            2
        );
    }
    assert_eq!(run(&mut here, &two_tables()).len(), 2);
    assert!(run(&mut there, &two_tables()).is_empty());
}

#[test]
fn a_database_that_may_only_be_read_is_an_error_that_leaves_no_lock() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("SET default_transaction_read_only = on")
        .unwrap();
    let error = MigrationLock::new()
        .run_pending(&mut conn, &two_tables())
        .unwrap_err();
    assert!(format!("{error:?}").contains("read-only"), "{error:?}");
    assert_eq!(advisory_locks(&database), 0);
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

#[test]
fn a_report_that_panics_lets_the_lock_go_and_leaves_the_connection_usable() {
    let database = TestDatabase::new().unwrap();
    for at in 0..5 {
        let mut conn = connect(&database);
        let mut told = 0;
        let lock = MigrationLock::new().on_progress(|_| {
            told += 1;
            assert!(told <= at, "a report that panics");
        });
        let run_it = || lock.run_pending(&mut conn, &two_tables()).map(drop);
        let _ = panic::catch_unwind(AssertUnwindSafe(run_it));
        assert_eq!(advisory_locks(&database), 0);
        assert!(run(&mut conn, &two_tables()).len() <= 2);
        let revert = All(vec![
            Sql::new("1", "").down("DROP TABLE a"),
            Sql::new("2", "").down("DROP TABLE b"),
        ]);
        assert_eq!(
            MigrationLock::new()
                .revert_all(&mut conn, &revert)
                .unwrap()
                .len(),
            2
        );
    }
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
