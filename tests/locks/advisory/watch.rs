//! Knowing that a lock was lost, without a query.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::parallel;

use crate::support::server::signal;
use crate::support::{advisory_locks, backend_pid, connect, pool, terminate};

const INTERVAL: Duration = Duration::from_secs(1);

/// Far above the interval, for a machine that is busy.
const AT_LAST: Duration = Duration::from_secs(20);

#[test]
#[parallel]
fn a_killed_session_is_reported() {
    let database = TestDatabase::new().unwrap();
    let mut guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let pid = backend_pid(&mut *guard);
    let watched = guard.watch(INTERVAL).unwrap();
    assert_eq!(*watched.lock(), "x".into());
    assert!(watched.lost().recv_timeout(INTERVAL * 2).is_err());
    assert!(!watched.is_lost());
    terminate(&database, pid);
    let lost = watched.lost().recv_timeout(AT_LAST).unwrap();
    assert!(matches!(lost, LockError::ConnectionLost { .. }), "{lost:?}");
    // Told once, and lost for good.
    assert!(watched.lost().recv_timeout(Duration::ZERO).is_err());
    assert!(watched.is_lost());
    let released = watched.release().map(drop);
    assert!(matches!(released, Err(LockError::ConnectionLost { .. })));
}

#[test]
#[parallel]
fn a_lock_that_was_released_before_is_reported() {
    let database = TestDatabase::new().unwrap();
    let mut guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    let watched = guard.watch(INTERVAL).unwrap();
    let lost = watched.lost().recv_timeout(AT_LAST).unwrap();
    assert!(matches!(lost, LockError::NotHeld { .. }), "{lost:?}");
}

#[test]
#[parallel]
fn a_server_that_is_silent_is_reported_and_hangs_nobody() {
    // Its processes are on this machine.
    let server = TempPostgres::start().unwrap();
    for (release, is_told) in [(true, true), (false, true), (true, false), (false, false)] {
        let guard = OwnedAdvisoryLockGuard::connect(server.url(), "x", Wait::Block);
        let mut guard = guard.unwrap();
        let pid = backend_pid(&mut *guard);
        let watched = guard.watch(INTERVAL).unwrap();
        signal("-STOP", &[pid]);
        if is_told {
            let lost = watched.lost().recv_timeout(AT_LAST).unwrap();
            assert!(matches!(lost, LockError::Unresponsive { after, .. } if after == INTERVAL));
        }
        let begun = Instant::now();
        if release {
            let released = watched.release().map(drop);
            assert!(matches!(released, Err(LockError::Unresponsive { .. })));
        } else {
            drop(watched);
        }
        assert!(begun.elapsed() < AT_LAST);
        // The lock is let go as soon as the server answers: the next round waits for that.
        signal("-CONT", &[pid]);
    }
}

#[test]
#[parallel]
fn a_watch_that_is_dropped_waits_until_the_lock_is_let_go() {
    let server = TempPostgres::start().unwrap();
    let guard = OwnedAdvisoryLockGuard::connect(server.url(), "x", Wait::Block);
    let mut guard = guard.unwrap();
    let pid = backend_pid(&mut *guard);
    let watched = guard.watch(AT_LAST).unwrap();
    signal("-STOP", &[pid]);
    let (is_over, over) = mpsc::channel();
    let dropping = thread::spawn(move || {
        drop(watched);
        is_over.send(())
    });
    assert!(over.recv_timeout(INTERVAL).is_err(), "it did not wait");
    signal("-CONT", &[pid]);
    dropping.join().unwrap().unwrap();
    let mut conn = PgConnection::establish(server.url()).unwrap();
    assert!(conn.try_advisory_lock("x").unwrap().is_some());
}

#[test]
#[parallel]
fn a_watch_that_ends_hands_back_the_connection_and_the_lock() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);
    let pid = backend_pid(&mut pool.get().unwrap());
    // The shortest interval may be too short for a busy server; it must only hang nobody.
    drop(
        pool.advisory_lock("x")
            .unwrap()
            .watch(Duration::ZERO)
            .unwrap(),
    );
    for interval in [AT_LAST, Duration::MAX] {
        let watched = pool.advisory_lock("x").unwrap().watch(interval).unwrap();
        let mut conn = connect(&database);
        assert!(conn.try_advisory_lock("x").unwrap().is_none());
        assert!(watched.lost().try_recv().is_err());
        let mut conn = watched.release().unwrap();
        assert_eq!(backend_pid(&mut conn), pid);
    }
    let watched = pool.advisory_lock("x").unwrap().watch(AT_LAST).unwrap();
    drop(watched);
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(backend_pid(&mut pool.get().unwrap()), pid);
}
