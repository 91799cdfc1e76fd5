//! Whatever becomes of a migration, the lock is let go, and the next run goes on.

use std::panic::{self, AssertUnwindSafe};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{Condition, MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::code::Code;
use crate::fixture::{All, Sql, applied, exists, outside, run, two_tables};
use crate::support::{advisory_locks, connect, two_sessions};

#[test]
fn a_migration_that_fails_lets_the_lock_go_and_leaves_those_before_it() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let broken = All::of([
        ("1", "CREATE TABLE a (id int)"),
        ("2", "CREATE TABLE b (id int); SELECT 1 / 0"),
        ("3", "CREATE TABLE c (id int)"),
    ]);
    let error = MigrationLock::new()
        .run_pending(&mut here, &broken)
        .unwrap_err();
    assert_eq!(error.to_string(), "migration 2 failed");
    assert!(matches!(error, MigrateError::Failed { attempts: 1, .. }));
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(applied(&mut there), ["1"]);
    assert!(!exists(&mut there, "b"));
    assert_eq!(run(&mut there, &two_tables()), ["2"]);
}

#[test]
fn a_migration_that_panics_lets_the_lock_go_and_leaves_nothing() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let panics = Code::new(|conn| {
        conn.batch_execute("CREATE TABLE a (id int)")?;
        panic!("half way");
    })
    .in_transaction();
    let run_it = || {
        MigrationLock::new()
            .run_pending(&mut here, &panics)
            .map(drop)
    };
    let payload = panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"half way"));
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(run(&mut there, &two_tables()).len(), 2);
    // The connection is as before too.
    assert!(run(&mut here, &two_tables()).is_empty());
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
fn a_panic_outside_a_transaction_lets_the_lock_go_and_the_next_run_go_on() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let panics = Code::new(|conn| {
        conn.batch_execute("CREATE TABLE a (id int)")?;
        panic!("half way");
    });
    let run_it = || {
        MigrationLock::new()
            .run_pending(&mut here, &panics)
            .map(drop)
    };
    panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(run(&mut there, &outside("SELECT 1")), ["2"]);
    assert!(run(&mut here, &outside("SELECT 1")).is_empty());
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
fn a_session_that_ends_in_a_migration_lets_the_next_one_go_on() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let suicide = All::of([("1", "SELECT pg_terminate_backend(pg_backend_pid())")]);
    let error = MigrationLock::new()
        .run_pending(&mut here, &suicide)
        .unwrap_err();
    assert_eq!(
        error.condition(),
        Some(Condition::ConnectionLost),
        "{error:?}"
    );
    assert_eq!(run(&mut there, &two_tables()).len(), 2);
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
