//! A lock that is lost between two migrations.

use diesel::prelude::*;
use diesel_locks::{LockError, MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, applied, exists, run};
use crate::support::{connect, two_sessions};

fn assert_lost_in_the_first(conn: &mut PgConnection, migrations: &All) {
    let error = MigrationLock::new()
        .run_pending(conn, migrations)
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::Lock(LockError::NotHeld { .. })),
        "{error}"
    );
    assert_eq!(applied(conn), ["1"]);
}

#[test]
fn a_lock_that_is_lost_between_two_migrations_ends_the_run_before_the_second() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        ("1", "SELECT pg_advisory_unlock_all()"),
        ("2", "CREATE TABLE b (id int)"),
    ]);
    assert_lost_in_the_first(&mut conn, &migrations);
    assert!(!exists(&mut conn, "b"));
    assert_eq!(run(&mut conn, &migrations), ["2"]);
}

#[test]
fn a_lock_that_is_lost_in_the_last_migration_is_an_error_all_the_same() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([("1", "SELECT pg_advisory_unlock_all()")]);
    assert_lost_in_the_first(&mut conn, &migrations);
}

#[test]
fn a_lock_that_goes_with_the_callers_transaction_ends_the_run_before_the_next_migration() {
    let (_database, mut conn, mut other) = two_sessions(TestDatabase::new().unwrap());
    conn.begin_test_transaction().unwrap();
    let migrations = All::of([
        ("1", "CREATE TABLE a (id int); COMMIT"),
        ("2", "CREATE TABLE b (id int)"),
        ("3", "CREATE TABLE c (id int)"),
    ]);
    MigrationLock::new()
        .run_pending(&mut conn, &migrations)
        .unwrap_err();
    assert!(!exists(&mut other, "b") && !exists(&mut other, "c"));
}
