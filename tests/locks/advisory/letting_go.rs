//! How a guard ends, and what is left of its lock.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{advisory_locks, backend_pid, connect, database, terminate, two_sessions};

#[test]
#[parallel]
fn a_panic_lets_go() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = conn.advisory_lock("x").unwrap();
        panic!("under the lock");
    }));
    panicked.unwrap_err();
    assert_eq!(advisory_locks(&database), 0);
    conn.batch_execute("SELECT 1").unwrap();
}

#[test]
#[parallel]
fn a_thread_that_panics_with_an_owned_guard_lets_go() {
    let database = TestDatabase::new().unwrap();
    let guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let thread = thread::spawn(move || {
        let _guard = guard;
        panic!("under the lock");
    });
    thread.join().unwrap_err();
    let mut conn = connect(&database);
    let _guard = conn.advisory_lock_nowait("x").unwrap();
}

#[test]
#[parallel]
fn a_guard_dropped_in_an_aborted_transaction_lets_go() {
    let database = database();
    let mut conn = connect(&database);
    let error = conn
        .transaction::<(), LockError, _>(|conn| {
            diesel::delete(accounts::table).execute(conn)?;
            let mut guard = conn.advisory_lock("x")?;
            guard.batch_execute("SELECT 1 / 0").unwrap_err();
            drop(guard);
            assert_eq!(advisory_locks(&database), 0);
            // The transaction is aborted as it was, not begun anew.
            let error = conn.batch_execute("SELECT 1").unwrap_err();
            Err(error.into())
        })
        .unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
    assert_eq!(accounts::table.count().get_result::<i64>(&mut conn), Ok(2));
}

#[test]
#[parallel]
fn a_guard_released_in_an_aborted_savepoint_leaves_the_outer_transaction_as_it_was() {
    let database = database();
    let mut conn = connect(&database);
    conn.transaction::<(), LockError, _>(|conn| {
        diesel::delete(accounts::table.find(1)).execute(conn)?;
        let lost = conn.transaction::<(), LockError, _>(|conn| {
            diesel::delete(accounts::table.find(2)).execute(conn)?;
            let mut guard = conn.advisory_lock(AdvisoryLock::shared((1, 2)))?;
            guard.batch_execute("SELECT 1 / 0").unwrap_err();
            assert!(matches!(
                guard.is_held(),
                Err(LockError::TransactionAborted { .. })
            ));
            guard.release()?;
            assert_eq!(advisory_locks(&database), 0);
            Ok(conn.batch_execute("SELECT 1")?)
        });
        assert!(matches!(lost, Err(LockError::TransactionAborted { .. })));
        Ok(())
    })
    .unwrap();
    let left: Vec<i32> = accounts::table
        .select(accounts::id)
        .load(&mut conn)
        .unwrap();
    assert_eq!(left, [2]);
}

#[test]
#[parallel]
fn a_guard_that_lets_go_in_a_transaction_lets_the_next_holder_in_before_the_commit() {
    let database = database();
    let (mut here, mut there) = (connect(&database), connect(&database));
    let balance = |conn: &mut PgConnection| -> i64 {
        let account = accounts::table.find(1).select(accounts::balance);
        account.first(conn).unwrap()
    };
    here.transaction::<_, LockError, _>(|here| {
        let mut guard = here.advisory_lock("x")?;
        diesel::update(accounts::table.find(1))
            .set(accounts::balance.eq(0))
            .execute(&mut *guard)?;
        guard.release()?;
        let mut next = there.advisory_lock_nowait("x")?;
        assert_eq!(balance(&mut next), 100);
        Ok(())
    })
    .unwrap();
    assert_eq!(balance(&mut there), 0);
}

#[test]
#[parallel]
fn a_lock_outlives_the_rollback_of_its_transaction() {
    let database = TestDatabase::new().unwrap();
    let mut guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    guard
        .transaction::<(), Error, _>(|_| Err(Error::RollbackTransaction))
        .unwrap_err();
    assert!(guard.is_held().unwrap());
    guard.release().unwrap();
}

#[test]
#[parallel]
fn a_lock_that_was_released_behind_the_guard_is_not_held() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut guard = conn.advisory_lock("x").unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert!(!guard.is_held().unwrap());
    let lock = *guard.lock();
    let released = guard.release();
    assert!(matches!(released, Err(LockError::NotHeld { lock: l, .. }) if l == lock));
    conn.batch_execute("SELECT 1").unwrap();
}

#[test]
#[parallel]
fn a_guard_on_another_session_says_so_and_leaves_that_session_alone() {
    let (database, mut conn, mut other) = two_sessions(TestDatabase::new().unwrap());
    let (taken_by, now_at) = (backend_pid(&mut conn), backend_pid(&mut other));
    let mut guard = conn.advisory_lock(AdvisoryLock::shared("x")).unwrap();
    std::mem::forget(other.advisory_lock(AdvisoryLock::shared("x")).unwrap());
    std::mem::swap(&mut *guard, &mut other);
    let changed = |error| match error {
        LockError::SessionChanged { locked_by, now, .. } => (locked_by, now) == (taken_by, now_at),
        _ => false,
    };
    assert!(changed(guard.is_held().unwrap_err()));
    assert!(changed(guard.release().unwrap_err()));
    assert_eq!(advisory_locks(&database), 2);
}

#[test]
#[parallel]
fn a_killed_session_is_a_lost_connection() {
    let database = TestDatabase::new().unwrap();
    let mut guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let pid = backend_pid(&mut *guard);
    terminate(&database, pid);
    let lost = |error: LockError| matches!(error, LockError::ConnectionLost { .. });
    assert!(lost(guard.batch_execute("SELECT 1").unwrap_err().into()));
    assert!(lost(guard.is_held().unwrap_err()));
    assert!(lost(guard.advisory_lock("y").map(drop).unwrap_err()));
    assert!(lost(guard.release().map(drop).unwrap_err()));
    // The lock went with the session, and a guard that is dropped then says nothing.
    let guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let mut guard = guard;
    let pid = backend_pid(&mut *guard);
    terminate(&database, pid);
    drop(guard);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_session_killed_in_a_transaction_is_a_lost_connection() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let pid = backend_pid(&mut conn);
    let error = conn
        .transaction::<(), LockError, _>(|conn| {
            let guard = conn.advisory_lock("x")?;
            terminate(&database, pid);
            guard.release()
        })
        .unwrap_err();
    assert!(
        matches!(error, LockError::ConnectionLost { .. }),
        "{error:?}"
    );
}

#[test]
#[parallel]
fn a_statement_that_never_ran_takes_nothing_from_the_guard_outside() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut outer = here.advisory_lock("x").unwrap();
    // The prepared statement of the first lock is gone, and the second one fails.
    outer.batch_execute("DEALLOCATE ALL").unwrap();
    let error = outer.advisory_lock("x").map(drop).unwrap_err();
    assert!(matches!(error, LockError::Database(_)), "{error:?}");
    assert!(outer.is_held().unwrap());
    assert!(there.try_advisory_lock("x").unwrap().is_none());
}

#[test]
#[parallel]
fn a_guard_lets_go_in_an_aborted_transaction_that_diesel_does_not_know_of() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut guard = conn.advisory_lock("x").unwrap();
    guard.batch_execute("BEGIN").unwrap();
    guard.batch_execute("SELECT 1 / 0").unwrap_err();
    guard.release().unwrap();
    assert_eq!(advisory_locks(&database), 0);
    let error = LockError::from(conn.batch_execute("SELECT 1").unwrap_err());
    assert!(matches!(error, LockError::TransactionAborted { .. }));
    conn.batch_execute("ROLLBACK").unwrap();
    conn.batch_execute("SELECT 1").unwrap();
}
