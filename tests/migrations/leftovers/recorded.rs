//! A migration that was done but not recorded is recorded, and no other one is.

use std::sync::atomic::{AtomicBool, Ordering};

use diesel::connection::SimpleConnection;
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use super::fixture::{INDEX, index, leave_invalid};
use crate::code::Code;
use crate::fixture::{
    ACCOUNTS, All, Sql, applied, exists, has_note, is_valid, kinds, leave_note, outside, run,
};
use crate::support::{connect, two_sessions};

#[test]
fn an_index_that_was_finished_but_not_recorded_is_recorded() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    run(&mut here, &All(index(INDEX).0[..1].to_vec()));
    // The session ends between the index and its record.
    leave_note(&mut here, "2", &[]);
    here.batch_execute(INDEX).unwrap();
    drop(here);
    let mut events = Vec::new();
    MigrationLock::new()
        .on_progress(|event| events.push(event.clone()))
        .run_pending(&mut there, &index(INDEX))
        .unwrap();
    assert_eq!(kinds(&events), ["locked", "began", "recovered", "done"]);
    assert_eq!(applied(&mut there), ["1", "2"]);
    assert!(!has_note(&mut there));
}

#[test]
fn an_index_that_was_dropped_but_not_recorded_is_recorded() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("CREATE TABLE accounts (id int, owner text); CREATE INDEX accounts_owner ON accounts (owner)")
        .unwrap();
    let drops = All(vec![
        Sql::new("1", "DROP INDEX CONCURRENTLY accounts_owner").outside(),
    ]);
    run(&mut conn, &All(vec![]));
    leave_note(&mut conn, "1", &["accounts_owner"]);
    conn.batch_execute("DROP INDEX CONCURRENTLY accounts_owner")
        .unwrap();
    assert_eq!(run(&mut conn, &drops), ["1"]);
}

#[test]
fn a_migration_of_which_an_interrupted_run_did_a_part_is_not_recorded_for_it() {
    let half =
        "CREATE INDEX first ON accounts (id); COMMIT; CREATE INDEX second ON accounts (owner)";
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(vec![]));
    conn.batch_execute(ACCOUNTS).unwrap();
    leave_note(&mut conn, "2", &[]);
    conn.batch_execute("CREATE INDEX first ON accounts (id)")
        .unwrap();
    MigrationLock::new()
        .run_pending(&mut conn, &outside(half))
        .unwrap_err();
    assert!(applied(&mut conn).is_empty());
}

#[test]
fn an_index_that_somebody_else_has_made_is_not_taken_for_the_migrations() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    conn.batch_execute("CREATE INDEX accounts_owner ON accounts (id)")
        .unwrap();
    for _ in 0..2 {
        let lock = MigrationLock::new().drop_invalid_indexes(true);
        let error = lock.run_pending(&mut conn, &index(INDEX)).unwrap_err();
        assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
        assert_eq!(applied(&mut conn), ["1"]);
        assert!(is_valid(&mut conn, "accounts_owner"));
    }
}

#[test]
fn an_index_that_was_there_when_the_interrupted_run_began_is_not_taken_for_it_either() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    conn.batch_execute("CREATE INDEX accounts_owner ON accounts (id)")
        .unwrap();
    leave_note(&mut conn, "2", &["accounts_owner"]);
    let error = MigrationLock::new()
        .run_pending(&mut conn, &index(INDEX))
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
}

#[test]
fn an_index_that_was_made_after_a_run_that_changed_nothing_is_not_taken_for_it_either() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    conn.batch_execute("ALTER TABLE accounts RENAME owner TO holder")
        .unwrap();
    MigrationLock::new()
        .run_pending(&mut conn, &index(INDEX))
        .unwrap_err();
    conn.batch_execute(
        "ALTER TABLE accounts RENAME holder TO owner; CREATE INDEX accounts_owner ON accounts (id)",
    )
    .unwrap();
    let error = MigrationLock::new()
        .run_pending(&mut conn, &index(INDEX))
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
}

#[test]
fn a_failure_after_an_index_was_dropped_is_not_taken_for_the_drop() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(vec![]));
    conn.batch_execute(ACCOUNTS).unwrap();
    leave_invalid(&mut conn, "accounts_owner", "accounts");
    let is_first = AtomicBool::new(true);
    let fails = Code::new(move |conn| {
        let is_first = is_first.swap(false, Ordering::Relaxed);
        Ok(conn.batch_execute(if is_first { INDEX } else { "SELECT 1 / 0" })?)
    });
    let error = MigrationLock::new()
        .drop_invalid_indexes(true)
        .run_pending(&mut conn, &fails)
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error:?}");
    assert!(!exists(&mut conn, "accounts_owner"));
    assert!(applied(&mut conn).is_empty());
}
