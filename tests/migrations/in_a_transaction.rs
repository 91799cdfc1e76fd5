//! Migrations inside the caller's own transaction.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, exists, has_note, run, two_tables};
use crate::support::{advisory_locks, connect, two_sessions};

#[test]
fn inside_a_transaction_the_lock_is_the_transactions() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    here.transaction::<_, MigrateError, _>(|conn| {
        assert_eq!(
            MigrationLock::new().run_pending(conn, &two_tables())?.len(),
            2
        );
        let lock = MigrationLock::new().timeout(Duration::ZERO);
        let refused = lock.run_pending(&mut there, &two_tables()).unwrap_err();
        assert!(matches!(refused, MigrateError::Timeout { .. }));
        Ok(())
    })
    .unwrap();
    assert_eq!(advisory_locks(&database), 0);
    assert!(run(&mut there, &two_tables()).is_empty());
}

#[test]
fn a_failure_inside_a_transaction_leaves_it_as_it_was() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.transaction::<_, diesel::result::Error, _>(|conn| {
        conn.batch_execute("CREATE TABLE mine (id int)")?;
        let broken = All::of([("1", "CREATE TABLE a (id int); SELECT 1 / 0")]);
        MigrationLock::new().run_pending(conn, &broken).unwrap_err();
        conn.batch_execute("INSERT INTO mine VALUES (1)")
    })
    .unwrap();
    assert!(exists(&mut conn, "mine") && !exists(&mut conn, "a"));
}

#[test]
fn what_must_run_outside_a_transaction_fails_inside_one_and_leaves_it_as_it_was() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.transaction::<_, diesel::result::Error, _>(|conn| {
        conn.batch_execute("CREATE TABLE mine (id int)")?;
        let concurrent = "CREATE INDEX CONCURRENTLY mine_id ON mine (id)";
        let migrations = All(vec![Sql::new("1", concurrent).outside()]);
        let error = MigrationLock::new()
            .run_pending(conn, &migrations)
            .unwrap_err();
        assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
        conn.batch_execute("INSERT INTO mine VALUES (1)")
    })
    .unwrap();
    assert!(exists(&mut conn, "mine"));
    assert!(!has_note(&mut conn));
}
