//! Several advisory locks at once.

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, LockKey, LockTarget, OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::{Contention, TestDatabase};
use serial_test::parallel;

use crate::support::{
    advisory_locks, backend_pid, connect, eventually, lock_timeout, terminate, two_sessions,
};

/// One of each kind, and the ends of the key spaces.
fn every_kind() -> Vec<AdvisoryLock> {
    let keys = [
        LockKey::Single(i64::MIN),
        LockKey::Single(i64::MAX),
        LockKey::Single(-1),
        LockKey::Single(1 << 32),
        LockKey::Pair(i32::MIN, i32::MAX),
        LockKey::Pair(-1, -1),
        LockKey::Pair(1, 0),
    ];
    let shared = keys.iter().rev().map(|key| AdvisoryLock::shared(*key));
    let exclusive = keys.iter().map(|key| AdvisoryLock::exclusive(*key));
    shared.chain(exclusive).collect()
}

#[test]
#[parallel]
fn all_are_taken_and_all_are_given_back() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let wanted = every_kind();
    let mut guard = here.advisory_lock_all(wanted.clone()).unwrap();
    assert_eq!(guard.locks().len(), 14);
    assert!(guard.is_held().unwrap());
    assert_eq!(advisory_locks(&database), 14);
    for lock in wanted {
        assert!(there.try_advisory_lock(lock).unwrap().is_none(), "{lock}");
        if !lock.is_shared() {
            // The lock is the one that a single call takes.
            guard.advisory_lock(lock).unwrap().release().unwrap();
        }
    }
    guard.release().unwrap();
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn duplicates_are_taken_once_and_none_is_a_set_too() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let guard = conn.advisory_lock_all(["b", "a", "b"]).unwrap();
    assert_eq!(guard.locks().len(), 2);
    guard.release().unwrap();
    let mut guard = conn.advisory_lock_all(["a"; 3]).unwrap();
    assert_eq!(guard.locks(), [AdvisoryLock::from("a")]);
    assert!(guard.is_held().unwrap());
    drop(guard);
    assert_eq!(advisory_locks(&database), 0);
    for none in [
        conn.advisory_lock_all([0; 0])
            .map(|mut none| none.is_held()),
        conn.advisory_lock_all_nowait([0; 0])
            .map(|mut none| none.is_held()),
        conn.advisory_lock_all_timeout([0; 0], Duration::ZERO)
            .map(|mut none| none.is_held()),
    ] {
        assert!(none.unwrap().unwrap());
    }
}

#[test]
#[parallel]
fn none_is_kept_when_one_is_refused_and_the_error_names_the_one_in_the_way() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _third = here.advisory_lock(3).unwrap();
    let mut outer = there.advisory_lock(1).unwrap();

    let error = outer.advisory_lock_all_nowait([4, 3, 2, 1]).unwrap_err();
    let LockError::NotAvailable { target, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(target, LockTarget::Advisory(3.into()));
    assert!(outer.try_advisory_lock_all([2, 3]).unwrap().is_none());
    // Those that were held before still are, and as often.
    assert_eq!(advisory_locks(&database), 2);
    assert!(outer.is_held().unwrap());

    let error = outer
        .transaction(|conn| {
            assert!(conn.try_advisory_lock_all([2, 3])?.is_none());
            conn.batch_execute("SELECT 1")?;
            let timeout = Duration::from_millis(20);
            conn.advisory_lock_all_timeout([4, 3, 2], timeout).map(drop)
        })
        .unwrap_err();
    let LockError::Timeout { ref target, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(*target, Some(LockTarget::Advisory(3.into())));
    assert_eq!(
        error.to_string(),
        "advisory lock 3 was not granted within 20ms"
    );
    assert_eq!(advisory_locks(&database), 2);

    // Not even one that comes after the lock in the way.
    outer.batch_execute("SET lock_timeout = '20ms'").unwrap();
    let mut fourth = outer.advisory_lock(4).unwrap();
    let error = fourth.advisory_lock_all([4, 3, 2]).unwrap_err();
    let LockError::Timeout { target, after, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(
        (target, after),
        (Some(LockTarget::Advisory(3.into())), None)
    );
    assert_eq!(advisory_locks(&database), 3);
    assert!(fourth.is_held().unwrap());
    fourth.release().unwrap();
    outer.release().unwrap();
}

#[test]
#[parallel]
fn the_callers_timeout_is_put_back() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("SET lock_timeout = '90s'").unwrap();
    conn.transaction::<_, LockError, _>(|conn| {
        conn.batch_execute("SET LOCAL lock_timeout = '1500ms'")?;
        let timeout = Duration::from_millis(20);
        conn.advisory_lock_all_timeout([1, 2], timeout)?.release()?;
        assert_eq!(lock_timeout(conn), "1500ms");
        Ok(())
    })
    .unwrap();
    assert_eq!(lock_timeout(&mut conn), "90s");
}

#[test]
#[parallel]
fn one_contender_has_all() {
    let database = TestDatabase::new().unwrap();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .contenders(4)
        .run_scoped(|conn, hold| {
            let all = conn.advisory_lock_all(1..=10)?;
            hold.until_settled();
            all.release()
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 3 waited");
    assert!(outcome.afterwards().iter().all(Result::is_ok));
}

#[test]
#[parallel]
fn opposite_orders_never_deadlock() {
    let database = TestDatabase::new().unwrap();
    let begin = Barrier::new(2);
    let take = |keys: Vec<i64>| {
        let mut conn = connect(&database);
        begin.wait();
        for _ in 0..1_000 {
            let all = conn.advisory_lock_all(keys.iter().copied()).unwrap();
            all.release().unwrap();
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| take((1..=10).collect()));
        scope.spawn(|| take((1..=10).rev().collect()));
    });
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn what_is_no_longer_held_is_named() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut guard = conn.advisory_lock_all([1, 2, 3]).unwrap();
    guard.batch_execute("SELECT pg_advisory_unlock(2)").unwrap();
    assert!(!guard.is_held().unwrap());
    let released = guard.release();
    assert!(matches!(released, Err(LockError::NotHeld { lock, .. }) if lock == 2.into()));
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_set_dropped_in_an_aborted_savepoint_lets_go() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.transaction::<_, LockError, _>(|conn| {
        let lost = conn.transaction::<(), LockError, _>(|conn| {
            let mut guard = conn.advisory_lock_all(every_kind())?;
            Ok(guard.batch_execute("SELECT 1 / 0")?)
        });
        assert!(matches!(lost, Err(LockError::Database(_))));
        assert_eq!(advisory_locks(&database), 0);
        Ok(conn.batch_execute("SELECT 1")?)
    })
    .unwrap();
}

#[test]
#[parallel]
fn a_killed_session_is_a_lost_connection() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let pid = backend_pid(&mut conn);
    let mut guard = conn.advisory_lock_all([1, 2]).unwrap();
    terminate(&database, pid);
    let held = guard.is_held();
    assert!(matches!(held, Err(LockError::ConnectionLost { .. })));
    let released = guard.release();
    assert!(matches!(released, Err(LockError::ConnectionLost { .. })));
}

#[test]
#[parallel]
fn a_timeout_is_for_the_whole_set() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let timeout = Duration::from_secs(4);
    let hold = |key: i32| OwnedAdvisoryLockGuard::connect(database.url(), key, Wait::NoWait);
    let (first, second) = (hold(1).unwrap(), hold(2).unwrap());
    let begun = Instant::now();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| conn.advisory_lock_all_timeout([1, 2], timeout).map(drop));
        // Most of the time is over when the first lock is granted.
        eventually(|| begun.elapsed() >= timeout * 3 / 4);
        first.release().unwrap();
        let error = waiter.join().unwrap().unwrap_err();
        assert_eq!(
            error.to_string(),
            "advisory lock 2 was not granted within 4s"
        );
    });
    // Each for itself would be seven seconds.
    let elapsed = begun.elapsed();
    assert!(
        elapsed >= timeout && elapsed < timeout * 3 / 2,
        "{elapsed:?}"
    );
    assert_eq!(advisory_locks(&database), 1);
    second.release().unwrap();
}
