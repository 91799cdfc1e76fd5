//! Advisory locks of a session, and the guards that hold them.

use std::error::Error as _;
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks::{
    AcquireError, AdvisoryLockGuard, LockError, LockTarget, OwnedAdvisoryLockGuard, Wait,
};
use diesel_locks_harness::{Contention, TestDatabase};
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{
    advisory_locks, backend_pid, connect, database, eventually, lock_timeout, pool, two_sessions,
};

#[test]
#[parallel]
fn a_query_runs_under_the_lock() {
    let database = database();
    let mut leader =
        OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait).unwrap();
    diesel::update(accounts::table.find(1))
        .set(accounts::balance.eq(42))
        .execute(&mut *leader)
        .unwrap();
    let mut conn = leader.release().unwrap();
    let balance: i64 = accounts::table
        .find(1)
        .select(accounts::balance)
        .first(&mut conn)
        .unwrap();
    assert_eq!(balance, 42);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_second_lock_inside_the_scope_fails() {
    let database = TestDatabase::new().unwrap();
    let url = database.url();
    let leader = OwnedAdvisoryLockGuard::connect(url, "gold_leader", Wait::NoWait).unwrap();
    let error = OwnedAdvisoryLockGuard::connect(url, "gold_leader", Wait::NoWait).unwrap_err();
    assert!(error.is_contention() && !error.is_retryable());
    let LockError::NotAvailable { target, source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*target, LockTarget::Advisory("gold_leader".into()));
    assert!(source.is_none() && error.source().is_none());
    assert_eq!(
        error.to_string(),
        "advisory lock \"gold_leader\" is locked by another session"
    );
    drop(leader);
    let _leader = OwnedAdvisoryLockGuard::connect(url, "gold_leader", Wait::NoWait).unwrap();
}

#[test]
#[parallel]
fn a_refusal_gives_back_the_connection_that_it_was_handed() {
    let database = TestDatabase::new().unwrap();
    let mut here = connect(&database);
    let leader = here.advisory_lock("x").unwrap();
    let mut conn = connect(&database);
    let pid = backend_pid(&mut conn);
    for wait in [Wait::NoWait, Wait::Timeout(Duration::from_millis(1))] {
        let AcquireError { conn: again, error } =
            OwnedAdvisoryLockGuard::acquire(conn, "x", wait).unwrap_err();
        assert!(error.is_contention(), "{error:?}");
        let refused = OwnedAdvisoryLockGuard::acquire_all(again, ["w", "x"], wait).unwrap_err();
        assert!(refused.error.is_contention(), "{refused}");
        conn = refused.conn;
        assert_eq!(backend_pid(&mut conn), pid);
    }
    leader.release().unwrap();
    let both = OwnedAdvisoryLockGuard::acquire_all(conn, ["w", "x"], Wait::NoWait).unwrap();
    assert_eq!(both.locks().len(), 2);
    let mut conn = both.release().unwrap();
    assert_eq!(backend_pid(&mut conn), pid);
    let url = database.url();
    drop(OwnedAdvisoryLockGuard::connect_all(url, [1, 2], Wait::NoWait).unwrap());
}

#[test]
#[parallel]
fn work_under_a_lock_has_every_way_to_wait() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let short = Duration::from_millis(20);
    let guard = here.advisory_lock("x").unwrap();
    let work = |_: &mut PgConnection| Ok::<_, LockError>(7);
    let refused = [
        there.with_advisory_lock_nowait("x", work),
        there.with_advisory_lock_timeout("x", short, work),
        there.with_advisory_lock_wait("x", Wait::NoWait, work),
        there.transaction_with_advisory_lock_nowait("x", work),
        there.transaction_with_advisory_lock_timeout("x", short, work),
        there.transaction_with_advisory_lock_wait("x", Wait::NoWait, work),
    ];
    for refused in refused {
        assert!(refused.unwrap_err().is_contention());
    }
    assert_eq!(there.try_with_advisory_lock("x", work).unwrap(), None);
    assert_eq!(
        there.try_transaction_with_advisory_lock("x", work).unwrap(),
        None
    );
    guard.release().unwrap();
    let done = [
        there.with_advisory_lock_nowait("x", work),
        there.with_advisory_lock_timeout("x", short, work),
        there.with_advisory_lock_wait("x", Wait::Block, work),
        there.transaction_with_advisory_lock_nowait("x", work),
        there.transaction_with_advisory_lock_timeout("x", short, work),
        there.transaction_with_advisory_lock_wait("x", Wait::NoWait, work),
    ];
    for done in done {
        assert_eq!(done.unwrap(), 7);
    }
    assert_eq!(there.try_with_advisory_lock("x", work).unwrap(), Some(7));
    assert_eq!(
        there.try_transaction_with_advisory_lock("x", work).unwrap(),
        Some(7)
    );
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_refused_connection_is_closed() {
    let database = TestDatabase::new().unwrap();
    let mut leader =
        OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait).unwrap();
    OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait).unwrap_err();
    let others = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually(|| sql::<BigInt>(others).get_result(&mut *leader) == Ok(0));
}

#[test]
#[parallel]
fn two_threads_contend_and_one_is_refused() {
    let database = TestDatabase::new().unwrap();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run_scoped(|conn, hold| {
            let guard = conn.advisory_lock_nowait("gold_leader")?;
            hold.until_settled();
            guard.release()
        })
        .unwrap();
    assert_eq!(outcome.granted(), 1);
    assert!(matches!(outcome.errors(), [LockError::NotAvailable { .. }]));
    assert!(matches!(outcome.endings(), [Ok(())]));
}

#[test]
#[parallel]
fn locks_of_one_session_stack() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut outer = here.advisory_lock_nowait("x").unwrap();
    let inner = outer.advisory_lock_nowait("x").unwrap();
    inner.release().unwrap();
    assert!(outer.is_held().unwrap());
    assert!(there.try_advisory_lock("x").unwrap().is_none());
    outer.release().unwrap();
    assert!(there.try_advisory_lock("x").unwrap().is_some());
}

#[test]
#[parallel]
fn a_refusal_leaves_the_transaction_usable() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _guard = here.advisory_lock("x").unwrap();
    there
        .transaction::<_, LockError, _>(|conn| {
            assert!(conn.try_advisory_lock("x")?.is_none());
            let refused = conn.advisory_lock_nowait("x").map(drop);
            assert!(matches!(refused, Err(LockError::NotAvailable { .. })));
            Ok(conn.batch_execute("SELECT 1")?)
        })
        .unwrap();
}

#[test]
#[parallel]
fn a_timeout_is_measured_by_the_server_and_put_back() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let short = Duration::from_millis(20);
    there.batch_execute("SET lock_timeout = '2min'").unwrap();

    let guard = here.advisory_lock("x").unwrap();
    let error = there.advisory_lock_timeout("x", short).unwrap_err();
    assert!(matches!(error, LockError::Timeout { .. }) && error.is_contention());
    assert_eq!(lock_timeout(&mut there), "2min");
    drop(guard);

    there
        .transaction::<_, LockError, _>(|conn| {
            conn.batch_execute("SET LOCAL lock_timeout = '1500ms'")?;
            conn.advisory_lock_timeout("x", short)?.release()?;
            assert_eq!(lock_timeout(conn), "1500ms");
            Ok(())
        })
        .unwrap();
    assert_eq!(lock_timeout(&mut there), "2min");
    there
        .advisory_lock_timeout("x", Duration::MAX)
        .unwrap()
        .release()
        .unwrap();
    assert_eq!(lock_timeout(&mut there), "2min");
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_timeout_of_zero_does_not_wait_for_ever() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _guard = here.advisory_lock("x").unwrap();
    let error = there.advisory_lock_timeout("x", Duration::ZERO);
    assert!(matches!(error, Err(LockError::Timeout { .. })));
    let wait = Wait::Timeout(Duration::ZERO);
    let error = OwnedAdvisoryLockGuard::connect(database.url(), "x", wait);
    assert!(matches!(error, Err(LockError::Timeout { .. })));
}

#[test]
#[parallel]
fn the_sessions_own_lock_timeout_ends_a_wait() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    there.batch_execute("SET lock_timeout = '20ms'").unwrap();
    let _guard = here.advisory_lock("x").unwrap();
    let error = there.advisory_lock("x").unwrap_err();
    assert!(matches!(error, LockError::Timeout { .. }));
    // Inside a transaction the caller is left where the failure has put it.
    let error = there
        .transaction::<(), LockError, _>(|conn| {
            conn.advisory_lock("x").map(drop).unwrap_err();
            Ok(conn.batch_execute("SELECT 1")?)
        })
        .unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
    there.batch_execute("SELECT 1").unwrap();
}

#[test]
#[parallel]
fn a_wrong_url_is_a_connection_error() {
    for url in [
        "postgres://nobody@127.0.0.1:1/none",
        "nonsense",
        "post\0gres://",
    ] {
        let error = OwnedAdvisoryLockGuard::connect(url, "x", Wait::NoWait).unwrap_err();
        assert!(matches!(error, LockError::Connection(_)), "{error:?}");
        assert!(error.source().is_some());
    }
}

#[test]
#[parallel]
fn a_lock_in_an_aborted_transaction_is_refused() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let error = conn
        .transaction::<(), LockError, _>(|conn| {
            conn.batch_execute("SELECT 1 / 0").unwrap_err();
            conn.advisory_lock("x").map(drop)
        })
        .unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
}

#[test]
#[parallel]
fn a_pooled_connection_takes_locks_and_a_poisoned_one_leaves_the_pool() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);

    let mut conn = pool.get().unwrap();
    let first = backend_pid(&mut conn);
    let guard = conn.advisory_lock_nowait("x").unwrap();
    guard.release().unwrap();
    drop(conn);
    let mut guard = OwnedAdvisoryLockGuard::acquire(pool.get().unwrap(), "x", Wait::Block).unwrap();
    assert_eq!(backend_pid(&mut *guard), first);

    drop(guard);
    assert_eq!(advisory_locks(&database), 0);
    let mut guard = OwnedAdvisoryLockGuard::acquire(pool.get().unwrap(), "x", Wait::Block).unwrap();

    // The lock stays with the first session, and nobody is lent a connection of which the guard
    // could not say that it is clean.
    let mut elsewhere = connect(&database);
    let second = backend_pid(&mut elsewhere);
    std::mem::swap(&mut **guard, &mut elsewhere);
    drop(guard);
    let mut conn = pool.get().unwrap();
    assert!(![first, second].contains(&backend_pid(&mut conn)));
}

#[test]
#[parallel]
fn guards_go_to_other_threads_with_their_connections() {
    fn assert_send<T: Send>() {}
    assert_send::<AdvisoryLockGuard<'_, PgConnection>>();
    assert_send::<OwnedAdvisoryLockGuard<PgConnection>>();
    assert_send::<LockError>();
    fn assert_sync<T: Sync>() {}
    assert_sync::<LockError>();

    let database = TestDatabase::new().unwrap();
    let guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    thread::spawn(move || drop(guard)).join().unwrap();
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn the_timeout_is_in_force_while_the_lock_is_taken_whatever_the_planner_does() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("SET geqo_threshold = 2").unwrap();
    conn.transaction::<_, LockError, _>(|conn| {
        conn.batch_execute("SET LOCAL lock_timeout = '700ms'")?;
        let timeout = Duration::from_secs(3);
        conn.advisory_lock_timeout("x", timeout)?.release()?;
        conn.advisory_lock_all_timeout(["x", "y"], timeout)?
            .release()?;
        conn.advisory_xact_lock_timeout("x", timeout)?;
        assert_eq!(lock_timeout(conn), "700ms");
        Ok(())
    })
    .unwrap();
}
