//! Who was in the way of what has failed.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, LockTarget, SessionInfo, TableLockMode};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::schema::{accounts, jobs};
use crate::support::{backend_pid, connect, database, two_sessions};

const SHORT: Duration = Duration::from_millis(20);

fn pids(sessions: &[SessionInfo]) -> Vec<i32> {
    sessions.iter().map(|session| session.pid).collect()
}

#[test]
#[parallel]
fn the_holders_of_an_advisory_lock_are_told_for_every_kind_of_key() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let holder = backend_pid(&mut there);
    for key in [
        AdvisoryLock::exclusive("gold_leader"),
        AdvisoryLock::exclusive(-1),
        AdvisoryLock::exclusive(i64::MIN),
        AdvisoryLock::shared(7),
        AdvisoryLock::exclusive((-7, i32::MIN)),
        AdvisoryLock::exclusive((0, -1)),
    ] {
        let held = there.advisory_lock(key).unwrap();
        let wanted = AdvisoryLock::exclusive(key.key());
        let refused = here.advisory_lock_nowait(wanted).map(drop).unwrap_err();
        let found = refused.holders(&mut here).unwrap();
        assert_eq!(pids(&found), [holder], "{key}");
        assert_eq!(found[0].state.as_deref(), Some("idle"));
        assert!(found[0].backend_start.is_some() && !found[0].is_hidden());
        held.release().unwrap();
        assert_eq!(refused.holders(&mut here).unwrap(), []);
    }
}

#[test]
#[parallel]
fn every_shared_holder_is_told_and_nobody_of_another_database_or_key_space() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let other = TestDatabase::new().unwrap();
    let mut elsewhere = connect(&other);
    let _same_key = elsewhere.advisory_lock(1).unwrap();
    let mut third = connect(&database);
    let _same_bits = third.advisory_lock((0, 1)).unwrap();
    let mut fourth = connect(&database);
    let mut holders = [backend_pid(&mut there), backend_pid(&mut fourth)];
    holders.sort_unstable();
    let _shared = there.advisory_lock(AdvisoryLock::shared(1)).unwrap();
    let _shared = fourth.advisory_lock(AdvisoryLock::shared(1)).unwrap();
    let late = here.advisory_lock_timeout(1, SHORT).map(drop).unwrap_err();
    assert!(matches!(late, LockError::Timeout { .. }));
    let mut found = pids(&late.holders(&mut here).unwrap());
    found.sort_unstable();
    assert_eq!(found, holders);
}

#[test]
#[parallel]
fn who_has_a_table_or_its_rows_is_told_and_a_reader_is_not_in_the_way_of_a_row() {
    let (database, mut here, mut there) = two_sessions(database());
    let mut reader = connect(&database);
    reader.batch_execute("BEGIN; TABLE accounts").unwrap();
    there
        .batch_execute("BEGIN; SELECT FROM accounts FOR UPDATE")
        .unwrap();
    let (writer, reader) = (backend_pid(&mut there), backend_pid(&mut reader));
    let row = here.transaction(|conn| conn.execute_for_update_nowait(accounts::table));
    let row = row.unwrap_err();
    assert_eq!(pids(&row.holders(&mut here).unwrap()), [writer]);

    let mode = TableLockMode::AccessExclusive;
    let table = here.transaction(|conn| conn.lock_table_nowait(accounts::table, mode));
    assert_eq!(
        pids(&table.unwrap_err().holders(&mut here).unwrap()),
        [reader, writer]
    );

    // Jobs have a foreign key to accounts.
    let several = (accounts::table, jobs::table);
    let late = here.transaction(|conn| conn.lock_table_timeout(several, mode, SHORT));
    let late = late.unwrap_err();
    let LockError::Timeout {
        target: Some(LockTarget::OneOf { .. }),
        ..
    } = &late
    else {
        panic!("{late:?}");
    };
    assert_eq!(pids(&late.holders(&mut here).unwrap()), [reader, writer]);
}

#[test]
#[parallel]
fn a_timeout_of_an_unknown_target_has_those_that_have_locked_anything_for_so_long() {
    let (database, mut here, mut there) = two_sessions(database());
    let mut idle = connect(&database);
    idle.batch_execute("BEGIN; SELECT 1").unwrap();
    there.batch_execute("BEGIN; LOCK TABLE accounts").unwrap();
    let late: LockError = here
        .transaction(|conn| {
            conn.with_lock_timeout(SHORT, |conn| {
                conn.batch_execute("SELECT FROM accounts")
                    .map_err(LockError::from)
            })
        })
        .unwrap_err();
    assert!(matches!(late, LockError::Timeout { target: None, .. }));
    let found = late.holders(&mut here).unwrap();
    assert_eq!(pids(&found), [backend_pid(&mut there)]);
    assert_eq!(LockError::NotInTransaction.holders(&mut here).unwrap(), []);
}

#[test]
#[parallel]
fn a_prepared_transaction_is_told_by_its_name() {
    let (_database, mut here, mut there) = two_sessions(database());
    for name in ["payout 7", "payout ''8", "nothing"] {
        let lock = match name {
            "nothing" => "SELECT 1",
            _ => "SELECT pg_advisory_xact_lock_shared(42); LOCK TABLE accounts IN SHARE MODE",
        };
        there
            .batch_execute(&format!("BEGIN; {lock}; PREPARE TRANSACTION '{name}'"))
            .unwrap();
    }
    let refused = here.advisory_lock_nowait(42).map(drop).unwrap_err();
    let mode = TableLockMode::Exclusive;
    let table = here.transaction(|conn| conn.lock_table_nowait(accounts::table, mode));
    for error in [refused, table.unwrap_err()] {
        let found = error.holders(&mut here).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|it| (it.pid, it.prepared.as_deref()))
            .collect();
        assert_eq!(names, [(0, Some("payout 7")), (0, Some("payout '8"))]);
        assert!(found[0].age.is_some() && found[0].user.is_some());
    }
}

#[test]
#[parallel]
fn an_aborted_transaction_says_so() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _held = there.advisory_lock(1).unwrap();
    let refused = here.advisory_lock_nowait(1).map(drop).unwrap_err();
    here.batch_execute("BEGIN").unwrap();
    here.batch_execute("SELECT FROM nowhere").unwrap_err();
    let error = refused.holders(&mut here).unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
}
