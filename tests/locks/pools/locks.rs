//! Advisory locks on r2d2 pools.

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{
    Instrumentation, InstrumentationEvent, SimpleConnection, set_default_instrumentation,
};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, ManageConnection, Pool, PooledConnection};
use diesel_locks::prelude::*;
use diesel_locks::{LockAwareManager, LockError, LockTarget, Wait};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::{parallel, serial};

use crate::support::{advisory_locks, backend_pid, eventually};

type Manager = LockAwareManager<PgConnection>;

fn manager(database: &TestDatabase) -> Manager {
    LockAwareManager::new(ConnectionManager::new(database.url()))
}

fn pool(database: &TestDatabase, size: u32) -> Pool<Manager> {
    let builder = Pool::builder().max_size(size);
    builder
        .connection_timeout(Duration::from_secs(5))
        .build(manager(database))
        .unwrap()
}

#[test]
#[parallel]
fn a_pool_has_every_way_to_wait() {
    let database = TestDatabase::new().unwrap();
    let diesels = Pool::new(ConnectionManager::<PgConnection>::new(database.url())).unwrap();
    let pool = pool(&database, 2);
    let mut leader = diesels.advisory_lock("x").unwrap();
    assert!(leader.is_held().unwrap());

    let refused = pool.advisory_lock_nowait("x");
    assert!(matches!(refused, Err(LockError::NotAvailable { .. })));
    let late = pool.advisory_lock_timeout("x", Duration::from_millis(20));
    assert!(matches!(
        late,
        Err(LockError::Timeout {
            target: Some(_),
            ..
        })
    ));
    assert!(pool.try_advisory_lock("x").unwrap().is_none());
    // Nothing but the lock was refused.
    assert_eq!(pool.state().idle_connections, 2);

    drop(leader);
    let conn: PooledConnection<Manager> = pool.advisory_lock("x").unwrap().release().unwrap();
    assert_eq!(advisory_locks(&database), 0);
    drop(conn);
}

#[test]
#[parallel]
fn a_guard_dropped_gives_the_lock_back_and_the_connection_too() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);
    let pid = backend_pid(&mut pool.get().unwrap());
    for _ in 0..3 {
        drop(pool.advisory_lock_nowait("x").unwrap());
        assert_eq!(advisory_locks(&database), 0);
    }
    assert_eq!(backend_pid(&mut pool.get().unwrap()), pid);
}

#[test]
#[parallel]
fn a_nested_call_in_a_pool_of_one_is_an_error_and_not_a_hang() {
    let database = TestDatabase::new().unwrap();
    let pool = Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_secs(2))
        .build(manager(&database))
        .unwrap();
    let mut outer = pool.advisory_lock("x").unwrap();
    assert!(matches!(pool.advisory_lock("y"), Err(LockError::Pool(_))));
    // The connection inside the guard takes it.
    outer.advisory_lock("y").unwrap().release().unwrap();
}

#[test]
#[parallel]
fn what_does_not_wait_for_a_lock_does_not_wait_for_a_connection_either() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);
    let outer = pool.advisory_lock("x").unwrap();
    let begun = Instant::now();
    let refused = [
        pool.advisory_lock_nowait("y").map(drop),
        pool.advisory_lock_all_nowait(["y", "z"]).map(drop),
        pool.advisory_lock_wait("y", Wait::NoWait).map(drop),
    ];
    for refused in refused {
        let error = refused.unwrap_err();
        assert!(error.is_contention());
        assert_eq!(error.to_string(), "no connection of the pool is idle");
    }
    assert!(pool.try_advisory_lock("y").unwrap().is_none());
    assert!(pool.try_advisory_lock_all(["y", "z"]).unwrap().is_none());
    let timeout = Duration::from_millis(50);
    let late = pool
        .advisory_lock_timeout("y", timeout)
        .map(drop)
        .unwrap_err();
    assert!(matches!(
        late,
        LockError::Timeout { target: Some(LockTarget::Connection), after: Some(after), .. }
            if after == timeout
    ));
    assert_eq!(
        late.to_string(),
        "a connection of the pool was not granted within 50ms"
    );
    drop(outer);
    drop(pool.advisory_lock_timeout("y", Duration::MAX).unwrap());
    // Far below the 30 s for which a pool waits.
    assert!(begun.elapsed() < Duration::from_secs(10));
    drop(pool.advisory_lock_nowait("y").unwrap());
}

#[test]
#[parallel]
fn a_server_that_is_gone_is_not_taken_for_contention() {
    let server = TempPostgres::start().unwrap();
    let manager = ConnectionManager::<PgConnection>::new(server.url());
    drop(server);
    let pool = Pool::builder()
        .max_size(1)
        .error_handler(Box::new(diesel::r2d2::NopErrorHandler))
        .build_unchecked(LockAwareManager::new(manager));
    for refused in [
        pool.advisory_lock_nowait("x").map(drop),
        pool.try_advisory_lock("x").map(drop),
        pool.advisory_lock_timeout("x", Duration::from_millis(20))
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        assert!(matches!(error, LockError::Pool(_)), "{error:?}");
    }
}

#[test]
#[parallel]
fn a_pool_has_sets_of_locks_too() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 2);
    let minute = Duration::from_secs(60);
    let both = pool.advisory_lock_all(["x", "y"]).unwrap();
    assert_eq!(both.locks().len(), 2);
    assert!(pool.try_advisory_lock_all(["y", "z"]).unwrap().is_none());
    let error = pool
        .advisory_lock_all_timeout(["y"], Duration::ZERO)
        .unwrap_err();
    assert!(matches!(error, LockError::Timeout { .. }));
    drop(both.release().unwrap());
    drop(pool.advisory_lock_all_timeout(["x", "y"], minute).unwrap());
    drop(
        pool.advisory_lock_all_wait(["x", "y"], Wait::Block)
            .unwrap(),
    );
    drop(pool.try_advisory_lock_all(["x", "y"]).unwrap().unwrap());
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_forgotten_guard_closes_its_connection() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);
    let mut conn = pool.get().unwrap();
    let pid = backend_pid(&mut conn);
    mem::forget(conn.advisory_lock("x").unwrap());
    mem::forget(conn.advisory_lock_all(["y", "z"]).unwrap());
    conn.advisory_lock("w").unwrap().release().unwrap();
    drop(conn);
    // At once, and not when the connection is lent again.
    eventually(|| advisory_locks(&database) == 0);
    assert_ne!(backend_pid(&mut pool.get().unwrap()), pid);
}

#[test]
#[parallel]
fn without_a_test_at_check_out_a_forgotten_guard_closes_its_connection_too() {
    let database = TestDatabase::new().unwrap();
    let builder = Pool::builder().max_size(1).test_on_check_out(false);
    let pool = builder.build(manager(&database)).unwrap();
    let mut conn = pool.get().unwrap();
    mem::forget(conn.advisory_lock("x").unwrap());
    drop(conn);
    eventually(|| advisory_locks(&database) == 0);
    pool.get().unwrap().batch_execute("SELECT 1").unwrap();
}

#[test]
#[parallel]
fn a_lock_by_sql_of_ones_own_is_gone_before_the_connection_is_lent_again() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);
    let mut conn = pool.get().unwrap();
    let pid = backend_pid(&mut conn);
    conn.batch_execute("SELECT pg_advisory_lock(42), pg_advisory_lock_shared(1, 2)")
        .unwrap();
    drop(conn);
    assert_eq!(advisory_locks(&database), 2);
    assert_eq!(backend_pid(&mut pool.get().unwrap()), pid);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_guard_that_finds_its_lock_gone_leaves_a_clean_connection() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);
    let mut conn = pool.get().unwrap();
    let pid = backend_pid(&mut conn);
    let mut guard = conn.advisory_lock("x").unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert!(matches!(guard.release(), Err(LockError::NotHeld { .. })));
    drop(conn);
    assert_eq!(backend_pid(&mut pool.get().unwrap()), pid);
}

/// What r2d2 does when it looks for connections that are too old, every 30 s, is shown in
/// `faults.rs`.
#[test]
#[parallel]
fn a_guard_keeps_its_lock_beyond_the_lifetime_of_its_connection() {
    let database = TestDatabase::new().unwrap();
    let instant = Some(Duration::from_nanos(1));
    let builder = Pool::builder().max_size(2).min_idle(Some(0));
    let builder = builder.max_lifetime(instant).idle_timeout(instant);
    let pool = builder.build(manager(&database)).unwrap();
    let mut leader = pool.advisory_lock("x").unwrap();
    for _ in 0..3 {
        // Too old each time that it is lent, and each time that it comes back.
        assert!(pool.try_advisory_lock("x").unwrap().is_none());
        assert!(leader.is_held().unwrap());
    }
    leader.release().unwrap();
    assert_eq!(advisory_locks(&database), 0);
    // It came back too old, and is lent again without the lock.
    let leader = pool.advisory_lock_nowait("x").unwrap();
    assert_eq!(advisory_locks(&database), 1);
    drop(leader);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[serial]
fn diesels_default_instrumentation_is_kept() {
    static BEGUN: AtomicUsize = AtomicUsize::new(0);
    fn count() -> Option<Box<dyn Instrumentation>> {
        Some(Box::new(|event: InstrumentationEvent<'_>| {
            if let InstrumentationEvent::BeginTransaction { .. } = event {
                BEGUN.fetch_add(1, Ordering::Relaxed);
            }
        }))
    }
    let database = TestDatabase::new().unwrap();
    set_default_instrumentation(count).unwrap();
    let manager = manager(&database);
    let mut conn = manager.connect().unwrap();
    set_default_instrumentation(|| None).unwrap();
    conn.transaction::<_, diesel::result::Error, _>(|_| Ok(()))
        .unwrap();
    assert!(BEGUN.load(Ordering::Relaxed) > 0);
    // And the guards are counted beside it.
    std::mem::forget(conn.advisory_lock(1).unwrap());
    assert!(manager.has_broken(&mut conn));
}
