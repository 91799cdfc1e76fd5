//! Advisory locks on r2d2 pools.

mod support;

use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::connection::{
    Instrumentation, InstrumentationEvent, SimpleConnection, set_default_instrumentation,
};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, ManageConnection, Pool, PooledConnection};
use diesel_locks::harness::TestDatabase;
use diesel_locks::prelude::*;
use diesel_locks::{LockAwareManager, LockError};
use support::{advisory_locks, backend_pid, eventually};

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
fn a_nested_call_in_a_pool_of_one_is_an_error_and_not_a_hang() {
    let database = TestDatabase::new().unwrap();
    let pool = Pool::builder()
        .max_size(1)
        .connection_timeout(Duration::from_millis(100))
        .build(manager(&database))
        .unwrap();
    let mut outer = pool.advisory_lock("x").unwrap();
    assert!(matches!(pool.advisory_lock("y"), Err(LockError::Pool(_))));
    // The connection inside the guard takes it.
    outer.advisory_lock("y").unwrap().release().unwrap();
}

#[test]
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
    let mut conn = manager(&database).connect().unwrap();
    set_default_instrumentation(|| None).unwrap();
    conn.transaction::<_, diesel::result::Error, _>(|_| Ok(()))
        .unwrap();
    assert!(BEGUN.load(Ordering::Relaxed) > 0);
}
