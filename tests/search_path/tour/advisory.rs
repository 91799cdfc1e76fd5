use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, Wait};

use super::{LONG, SHORT, Tour, fail, fails, kill};

pub(super) fn go(tour: &Tour) {
    granted(tour);
    refused(tour);
    refused_in_a_transaction(tour);
    ended(tour);
    lost(tour);
    of_a_transaction(tour);
}

/// One of each kind.
fn kinds() -> [AdvisoryLock; 4] {
    [
        AdvisoryLock::exclusive("x"),
        AdvisoryLock::exclusive((1, -2)),
        AdvisoryLock::shared(i64::MIN),
        AdvisoryLock::shared((3, 4)),
    ]
}

fn granted(tour: &Tour) {
    let conn = &mut tour.connect();
    for lock in kinds() {
        let mut guard = conn.advisory_lock(lock).unwrap();
        assert!(guard.is_held().unwrap());
        guard.release().unwrap();
        conn.advisory_lock_nowait(lock).unwrap().release().unwrap();
        conn.advisory_lock_timeout(lock, LONG)
            .unwrap()
            .release()
            .unwrap();
        drop(conn.try_advisory_lock(lock).unwrap().unwrap());
        drop(conn.advisory_lock_wait(lock, Wait::Block).unwrap());
        let done = |_: &mut PgConnection| Ok::<_, LockError>(());
        conn.with_advisory_lock(lock, done).unwrap();
        conn.with_advisory_lock_nowait(lock, done).unwrap();
        conn.with_advisory_lock_timeout(lock, LONG, done).unwrap();
        conn.with_advisory_lock_wait(lock, Wait::Block, done)
            .unwrap();
        conn.try_with_advisory_lock(lock, done).unwrap().unwrap();
    }
    let mut guard = conn.advisory_lock_all(kinds()).unwrap();
    assert!(guard.is_held().unwrap());
    guard.release().unwrap();
    drop(conn.advisory_lock_all_nowait(kinds()).unwrap());
    drop(conn.advisory_lock_all_timeout(kinds(), LONG).unwrap());
    drop(conn.try_advisory_lock_all(kinds()).unwrap().unwrap());
    drop(conn.advisory_lock_all([0; 0]).unwrap());
    drop(conn.advisory_lock_all_wait(kinds(), Wait::Block).unwrap());
}

fn refused(tour: &Tour) {
    let there = &mut tour.connect();
    let conn = &mut tour.connect();
    let held = there.advisory_lock_all(kinds()).unwrap();
    let free = AdvisoryLock::exclusive(i64::MIN + 1);
    for lock in kinds().map(|lock| AdvisoryLock::exclusive(lock.key())) {
        fails!(conn.advisory_lock_nowait(lock), NotAvailable);
        assert!(conn.try_advisory_lock(lock).unwrap().is_none());
        fails!(conn.advisory_lock_timeout(lock, SHORT), Timeout);
        fails!(conn.advisory_lock_all_nowait([free, lock]), NotAvailable);
        assert!(conn.try_advisory_lock_all([free, lock]).unwrap().is_none());
        fails!(conn.advisory_lock_all_timeout([free, lock], SHORT), Timeout);
    }
    conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
    fails!(conn.advisory_lock("x"), Timeout);
    fails!(
        conn.advisory_lock_all([1.into(), "x".into()] as [AdvisoryLock; 2]),
        Timeout
    );
    held.release().unwrap();
}

fn refused_in_a_transaction(tour: &Tour) {
    let there = &mut tour.connect();
    let conn = &mut tour.connect();
    let held = there.advisory_lock("x").unwrap();
    let both = || [AdvisoryLock::exclusive(1), AdvisoryLock::exclusive("x")];
    let mut roll_back = |work: &dyn Fn(&mut PgConnection)| {
        for depth in [1, 2] {
            let done = conn.transaction::<(), _, _>(|conn| match depth {
                1 => {
                    work(conn);
                    Err(diesel::result::Error::RollbackTransaction)
                }
                _ => conn.transaction(|conn| {
                    work(conn);
                    Err(diesel::result::Error::RollbackTransaction)
                }),
            });
            assert_eq!(done, Err(diesel::result::Error::RollbackTransaction));
        }
    };
    roll_back(&|conn| fails!(conn.advisory_lock_nowait("x"), NotAvailable));
    roll_back(&|conn| fails!(conn.advisory_lock_timeout("x", SHORT), Timeout));
    roll_back(&|conn| fails!(conn.advisory_lock_all_nowait(both()), NotAvailable));
    roll_back(&|conn| fails!(conn.advisory_lock_all_timeout(both(), SHORT), Timeout));
    roll_back(&|conn| fail(&mut *conn.advisory_lock(7).unwrap()));
    roll_back(&|conn| fail(&mut *conn.advisory_lock_all([7, 8]).unwrap()));
    conn.batch_execute("BEGIN").unwrap();
    fail(&mut *conn.advisory_lock(7).unwrap());
    fails!(conn.advisory_lock(7), TransactionAborted);
    conn.batch_execute("ROLLBACK").unwrap();
    held.release().unwrap();
}

/// A wait is ended by something else than a timeout of its own.
fn ended(tour: &Tour) {
    let there = &mut tour.connect();
    let conn = &mut tour.connect();
    let cancel = |pid| tour.signal("pg_cancel_backend", pid);
    let held = there.advisory_lock(2).unwrap();
    let lock = |conn: &mut PgConnection| conn.advisory_lock(2).map(drop);
    fails!(tour.when_waiting(conn, lock, cancel), Canceled);
    let lock_all = |conn: &mut PgConnection| conn.advisory_lock_all([1, 2, 3]).map(drop);
    fails!(tour.when_waiting(conn, lock_all, cancel), Canceled);
    conn.batch_execute("SET statement_timeout = '20ms'")
        .unwrap();
    fails!(conn.advisory_lock(2), StatementTimeout);
    fails!(conn.advisory_lock_all([1, 2, 3]), StatementTimeout);
    held.release().unwrap();

    let conn = &mut tour.connect();
    let mut mine = conn.advisory_lock(4).unwrap();
    mine.batch_execute("SET deadlock_timeout = '1min'").unwrap();
    there
        .batch_execute("SET deadlock_timeout = '10ms'")
        .unwrap();
    let mut theirs = there.advisory_lock(5).unwrap();
    let lock = |conn: &mut PgConnection| conn.advisory_lock(5).map(drop);
    let close_the_circle = |_| {
        fails!(theirs.advisory_lock_all([4, 6]), Deadlock);
        drop(theirs);
    };
    tour.when_waiting(&mut mine, lock, close_the_circle)
        .unwrap();
}

fn lost(tour: &Tour) {
    let conn = &mut tour.connect();
    let give_away = "SELECT pg_catalog.pg_advisory_unlock_all()";
    let mut one = conn.advisory_lock(1).unwrap();
    one.batch_execute(give_away).unwrap();
    assert!(!one.is_held().unwrap());
    fails!(one.release(), NotHeld);
    let conn = &mut tour.connect();
    let mut several = conn.advisory_lock_all(kinds()).unwrap();
    several.batch_execute(give_away).unwrap();
    assert!(!several.is_held().unwrap());
    fails!(several.release(), NotHeld);

    let conn = &mut tour.connect();
    let mut guard = conn.advisory_lock_all(kinds()).unwrap();
    kill(&mut *guard);
    fails!(guard.is_held(), ConnectionLost);
    fails!(guard.release(), ConnectionLost);
}

fn of_a_transaction(tour: &Tour) {
    let there = &mut tour.connect();
    let conn = &mut tour.connect();
    let done = |_: &mut PgConnection| Ok::<_, LockError>(());
    let waits = [Wait::Block, Wait::NoWait, Wait::Timeout(LONG)];
    for lock in kinds() {
        conn.transaction(|conn| {
            conn.advisory_xact_lock(lock)?;
            conn.advisory_xact_lock_nowait(lock)?;
            conn.advisory_xact_lock_timeout(lock, LONG)?;
            conn.advisory_xact_lock_wait(lock, Wait::Block)?;
            assert!(conn.try_advisory_xact_lock(lock)?);
            conn.transaction_with_advisory_lock(lock, done)
        })
        .unwrap();
        conn.transaction_with_advisory_lock(lock, done).unwrap();
        conn.transaction_with_advisory_lock_nowait(lock, done)
            .unwrap();
        conn.transaction_with_advisory_lock_timeout(lock, LONG, done)
            .unwrap();
        conn.try_transaction_with_advisory_lock(lock, done)
            .unwrap()
            .unwrap();
        for wait in waits {
            conn.transaction_with_advisory_lock_wait(lock, wait, done)
                .unwrap();
        }
    }
    let held = there.advisory_lock("x").unwrap();
    let refused: Result<(), LockError> = conn.transaction(|conn| {
        fails!(conn.advisory_xact_lock_nowait("x"), NotAvailable);
        assert!(!conn.try_advisory_xact_lock("x")?);
        conn.advisory_xact_lock_timeout("x", SHORT)
    });
    fails!(refused, Timeout);
    for wait in [Wait::NoWait, Wait::Timeout(SHORT)] {
        conn.transaction_with_advisory_lock_wait("x", wait, done)
            .unwrap_err();
    }
    held.release().unwrap();
}
