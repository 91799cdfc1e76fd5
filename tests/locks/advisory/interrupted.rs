//! What a statement leaves behind that was ended half way: no lock without a guard, and no guard
//! without its lock.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use crossbeam::channel;
use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{BigInt, Bool, Integer};
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockAwareManager, LockError, OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::{parallel, serial};

use crate::support::{advisory_locks, backend_pid, connect, eventually, is_blocked, two_sessions};

fn cancel(conn: &mut PgConnection, pid: i32) {
    diesel::select(
        sql::<Bool>("pg_catalog.pg_cancel_backend(")
            .bind::<Integer, _>(pid)
            .sql(")"),
    )
    .execute(conn)
    .unwrap();
}

/// How many advisory locks a session holds.
fn held_by(conn: &mut PgConnection, pid: i32) -> i64 {
    sql::<BigInt>(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks \
         WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND pid OPERATOR(pg_catalog.=) ",
    )
    .bind::<Integer, _>(pid)
    .get_result(conn)
    .unwrap()
}

/// Has `attempt` wait for a lock that another session has, and cancels it there.
fn cancelled<C, T>(
    database: &TestDatabase,
    conn: &mut C,
    attempt: impl FnOnce(&mut C) -> Result<T, LockError> + Send,
) -> LockError
where
    C: LoadConnection<Backend = Pg> + Send,
    T: Send,
{
    let pid = backend_pid(conn);
    thread::scope(|scope| {
        let attempt = scope.spawn(|| attempt(conn).map(drop).unwrap_err());
        let mut observer = connect(database);
        eventually(|| is_blocked(&mut observer, pid));
        cancel(&mut observer, pid);
        attempt.join().unwrap()
    })
}

#[test]
#[parallel]
fn a_cancelled_second_acquisition_leaves_the_first_one_its_locks() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let kinds = |key: i32| {
        [
            AdvisoryLock::exclusive(i64::from(key)),
            AdvisoryLock::shared(i64::from(key)),
            AdvisoryLock::exclusive((key, -key)),
            AdvisoryLock::shared((key, -key)),
        ]
    };
    let outer_locks: Vec<_> = [-2, 1, 4].into_iter().flat_map(kinds).collect();
    let wanted: Vec<_> = [-2, 1, 2, 3, 4].into_iter().flat_map(kinds).collect();
    let in_the_way = there.advisory_lock(AdvisoryLock::shared(3)).unwrap();

    let mut outer = here.advisory_lock_all(outer_locks.clone()).unwrap();
    let pid = backend_pid(&mut *outer);
    for round in 0..3 {
        let error = cancelled(&database, &mut *outer, |conn| {
            conn.advisory_lock_all(wanted.clone()).map(drop)
        });
        assert!(matches!(error, LockError::Canceled { .. }), "{error:?}");
        assert!(outer.is_held().unwrap(), "round {round}");
        assert_eq!(held_by(&mut connect(&database), pid), 12, "round {round}");
    }
    // Nor is anything kept beyond.
    outer.release().unwrap();
    assert_eq!(held_by(&mut connect(&database), pid), 0);
    in_the_way.release().unwrap();
}

#[test]
#[parallel]
fn a_cancelled_third_acquisition_leaves_both_others_their_locks() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let in_the_way = there.advisory_lock(2).unwrap();
    let mut first = here.advisory_lock(1).unwrap();
    let mut second = first.advisory_lock_all([1, 3]).unwrap();
    let error = cancelled(&database, &mut *second, |conn| {
        conn.transaction(|conn| conn.advisory_lock_all([1, 2, 3]).map(drop))
    });
    assert!(matches!(error, LockError::Canceled { .. }), "{error:?}");
    assert!(second.is_held().unwrap());
    second.release().unwrap();
    assert!(first.is_held().unwrap());
    first.release().unwrap();
    assert_eq!(advisory_locks(&database), 1);
    in_the_way.release().unwrap();
}

#[test]
#[parallel]
fn three_thousand_locks_that_are_taken_again_stay_with_the_first_guard() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let in_the_way = there.advisory_lock(3001).unwrap();
    let mut outer = here.advisory_lock_all(1..=3000_i64).unwrap();
    let error = cancelled(&database, &mut *outer, |conn| {
        conn.advisory_lock_all(1..=3001_i64).map(drop)
    });
    assert!(matches!(error, LockError::Canceled { .. }), "{error:?}");
    assert!(outer.is_held().unwrap());
    outer.release().unwrap();
    assert_eq!(advisory_locks(&database), 1);
    in_the_way.release().unwrap();
}

/// Cancels whatever a session does, again and again, until `work` has ended.
fn under_a_hail_of_cancels<T>(hand: &mut PgConnection, pid: i32, work: impl FnOnce() -> T) -> T {
    let is_over = AtomicBool::new(false);
    let (begun_sender, begun) = channel::bounded(1);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                cancel(hand, pid);
                let _ = begun_sender.try_send(());
            }
        });
        begun.recv().unwrap();
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        done
    })
}

#[test]
#[parallel]
fn under_a_hail_of_cancels_a_guard_has_its_lock_or_says_that_it_has_not() {
    let (database, mut there, mut hand) = two_sessions(TestDatabase::new().unwrap());
    for set in [&[7][..], &[5, 6, 7, 8]] {
        let mut refused = 0;
        while refused < 50 {
            let mut here = connect(&database);
            let pid = backend_pid(&mut here);
            let mut outer = here.advisory_lock_all(set.iter().copied()).unwrap();
            under_a_hail_of_cancels(&mut hand, pid, || {
                for _ in 0..50 {
                    let inner = outer.advisory_lock_all_nowait(set.iter().copied());
                    refused += usize::from(inner.map(drop).is_err());
                }
            });
            // One that came too late for the work.
            let _ = outer.batch_execute("SELECT 1");
            let is_held = outer.is_held();
            let elsewhere = there.try_advisory_lock(7);
            match is_held {
                Ok(is_held) => {
                    assert!(is_held);
                    assert!(elsewhere.unwrap().is_none());
                    outer.release().unwrap();
                }
                Err(error) => {
                    assert!(
                        matches!(error, LockError::ConnectionLost { .. }),
                        "{error:?}"
                    );
                    drop(elsewhere);
                }
            }
            eventually(|| advisory_locks(&database) == 0);
        }
    }
}

#[test]
#[parallel]
fn what_is_released_under_a_hail_of_cancels_is_released() {
    let database = TestDatabase::new().unwrap();
    let mut hand = connect(&database);
    for locks in [1, 2] {
        for _ in 0..50 {
            let mut here = connect(&database);
            let pid = backend_pid(&mut here);
            let mut outer = here.advisory_lock(1).unwrap();
            let inner = outer.advisory_lock_all(1..=locks).unwrap();
            let released = under_a_hail_of_cancels(&mut hand, pid, || inner.release());
            let left = held_by(&mut connect(&database), pid);
            match released {
                Ok(()) => assert_eq!(left, 1),
                Err(error) => {
                    assert!(outer.is_held().is_err(), "{error:?}");
                    eventually(|| held_by(&mut connect(&database), pid) == 0);
                }
            }
        }
    }
}

#[test]
#[parallel]
fn what_follows_a_release_in_an_aborted_transaction_is_part_of_it_even_under_a_hail_of_cancels() {
    let (database, mut observer, mut hand) = two_sessions(TestDatabase::new().unwrap());
    observer
        .batch_execute("CREATE TABLE marks (id int)")
        .unwrap();
    for _ in 0..100 {
        let mut here = connect(&database);
        let pid = backend_pid(&mut here);
        let ended = here.transaction::<(), LockError, _>(|conn| {
            let mut guard = conn.advisory_lock(1)?;
            guard.batch_execute("SELECT 1 / 0").unwrap_err();
            under_a_hail_of_cancels(&mut hand, pid, || drop(guard));
            for _ in 0..2 {
                conn.batch_execute("INSERT INTO marks VALUES (1)")
                    .unwrap_err();
            }
            Err(LockError::NotInTransaction)
        });
        // The closure's own error, not Diesel's that there is nothing to roll back.
        assert!(
            matches!(ended, Err(LockError::NotInTransaction)),
            "{ended:?}"
        );
        let marks = sql::<BigInt>("SELECT pg_catalog.count(*) FROM marks");
        assert_eq!(marks.get_result::<i64>(&mut observer).unwrap(), 0);
    }
    eventually(|| advisory_locks(&database) == 0);
}

/// Whatever ends a statement in the middle of a set: none of it is kept, or the session is over.
fn keeps_nothing(
    pool: &Pool<
        impl diesel::r2d2::ManageConnection<Connection = PgConnection, Error = diesel::r2d2::Error>,
    >,
    observer: &mut PgConnection,
    attempt: impl FnOnce(&mut PgConnection) -> LockError,
) {
    let mut conn = pool.get().unwrap();
    let pid = backend_pid(&mut conn);
    let error = attempt(&mut conn);
    assert!(
        !matches!(error, LockError::ConnectionLost { .. }),
        "{error:?}"
    );
    // A statement that succeeds does not make it forgotten.
    let _ = conn.batch_execute("SET statement_timeout = 0; SELECT 1");
    eventually(|| held_by(observer, pid) == 0);
    drop(conn);
    pool.get().unwrap().batch_execute("SELECT 1").unwrap();
    assert_eq!(held_by(observer, pid), 0);
}

#[test]
#[parallel]
fn an_error_in_the_middle_of_a_set_leaves_none_of_it() {
    let server = TempPostgres::start().unwrap();
    let mut observer = PgConnection::establish(server.url()).unwrap();
    let in_the_way = observer.advisory_lock(3001).unwrap();
    let mut observer = PgConnection::establish(server.url()).unwrap();
    let manager = || ConnectionManager::<PgConnection>::new(server.url());
    let statement_timeout = |conn: &mut PgConnection| {
        conn.batch_execute("SET statement_timeout = '100ms'")
            .unwrap();
        let error = conn.advisory_lock_all(1..=3001_i64).unwrap_err();
        assert!(
            matches!(error, LockError::StatementTimeout { .. }),
            "{error:?}"
        );
        error
    };
    // The clean-up has no time either.
    let no_time = |conn: &mut PgConnection| {
        conn.batch_execute("SET statement_timeout = '1ms'").unwrap();
        let error = conn.advisory_lock_all_nowait(1..=3000_i64).unwrap_err();
        assert!(
            matches!(error, LockError::StatementTimeout { .. }),
            "{error:?}"
        );
        error
    };
    let out_of_memory = |conn: &mut PgConnection| {
        let error = conn.advisory_lock_all(10_000..=80_000_i64).unwrap_err();
        assert!(matches!(error, LockError::Database(_)), "{error:?}");
        error
    };
    for attempt in [
        &statement_timeout as &dyn Fn(&mut _) -> _,
        &no_time,
        &out_of_memory,
    ] {
        let pool = Pool::builder().max_size(1);
        keeps_nothing(&pool.build(manager()).unwrap(), &mut observer, attempt);
        let pool = Pool::builder().max_size(1).test_on_check_out(false);
        let pool = pool.build(LockAwareManager::new(manager())).unwrap();
        keeps_nothing(&pool, &mut observer, attempt);
    }
    in_the_way.release().unwrap();
}

/// A clean-up that has no time to end ends the session.
fn lose_the_session(outer: &mut PgConnection) -> LockError {
    outer
        .batch_execute("SET statement_timeout = '1ms'")
        .unwrap();
    let error = outer.advisory_lock_all_nowait(1..=6000_i64).unwrap_err();
    assert!(
        matches!(error, LockError::StatementTimeout { .. }),
        "{error:?}"
    );
    error
}

#[test]
#[serial]
fn where_nothing_can_be_proved_the_session_ends_and_the_outer_guard_says_so() {
    let database = TestDatabase::new().unwrap();
    for role in [
        "SELECT 1",
        "CREATE ROLE nobody_in_particular; SET ROLE nobody_in_particular",
    ] {
        let mut outer = OwnedAdvisoryLockGuard::connect(database.url(), 1, Wait::NoWait).unwrap();
        let pid = backend_pid(&mut *outer);
        outer.batch_execute(role).unwrap();
        lose_the_session(&mut outer);
        let held = outer.is_held();
        assert!(
            matches!(held, Err(LockError::ConnectionLost { .. })),
            "{held:?}"
        );
        assert!(outer.batch_execute("SELECT 1").is_err());
        eventually(|| held_by(&mut connect(&database), pid) == 0);
        let released = outer.release().map(drop);
        assert!(
            matches!(released, Err(LockError::ConnectionLost { .. })),
            "{released:?}"
        );
    }
    connect(&database)
        .batch_execute("DROP ROLE nobody_in_particular")
        .unwrap();
}

#[test]
#[parallel]
fn a_release_that_is_cut_short_in_a_transaction_gives_back_once() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let pid = backend_pid(&mut here);
    let mut outer = here.advisory_lock_all(1..=3000_i64).unwrap();
    // The statements are prepared, so that the time is spent on the locks.
    drop(outer.advisory_lock_all(1..=3000_i64).unwrap());
    for milliseconds in [1, 2, 3, 5] {
        let ended = outer.transaction::<_, LockError, _>(|conn| {
            let mut inner = conn.advisory_lock_all(1..=3000_i64)?;
            inner.batch_execute(&format!("SET LOCAL statement_timeout = {milliseconds}"))?;
            inner.release()
        });
        // It was given back in time, or by what follows a failure, or the session has ended.
        let Ok(is_held) = outer.is_held() else {
            eventually(|| held_by(&mut there, pid) == 0);
            return;
        };
        assert!(is_held, "{ended:?}");
        assert!(
            !matches!(ended, Err(LockError::NotHeld { .. })),
            "{ended:?}"
        );
    }
    outer.release().unwrap();
    assert_eq!(held_by(&mut there, pid), 0);
}

#[test]
#[parallel]
fn a_session_that_may_not_be_terminated_ends_all_the_same() {
    let server = TempPostgres::start().unwrap();
    let mut admin = PgConnection::establish(server.url()).unwrap();
    admin
        .batch_execute(
            "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_terminate_backend FROM PUBLIC; \
             CREATE ROLE app LOGIN",
        )
        .unwrap();
    let url = server
        .url()
        .replace("postgres://postgres@", "postgres://app@");
    let mut outer = OwnedAdvisoryLockGuard::connect(&url, 1, Wait::NoWait).unwrap();
    let pid = backend_pid(&mut *outer);
    lose_the_session(&mut outer);
    assert!(outer.batch_execute("SELECT 1").is_err());
    eventually(|| held_by(&mut admin, pid) == 0);
}
