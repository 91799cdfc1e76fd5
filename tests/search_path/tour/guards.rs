use std::mem;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error, ManageConnection, Pool};
use diesel_locks::prelude::*;
use diesel_locks::{LockAwareManager, LockError, OwnedAdvisoryLockGuard, Wait};

use super::{LONG, Prepare, SHORT, Tour, fail, fails, kill};
use crate::support::backend_pid;

pub(super) fn go(tour: &Tour) {
    owned(tour);
    watched(tour);
    let manager = || ConnectionManager::<PgConnection>::new(tour.url);
    pooled(tour, manager());
    pooled(tour, LockAwareManager::new(manager()));
}

fn owned(tour: &Tour) {
    let mut leader = OwnedAdvisoryLockGuard::connect(tour.url, "gold", Wait::Block).unwrap();
    assert!(leader.is_held().unwrap());
    for wait in [Wait::NoWait, Wait::Timeout(SHORT)] {
        OwnedAdvisoryLockGuard::connect(tour.url, "gold", wait).unwrap_err();
        OwnedAdvisoryLockGuard::acquire(tour.connect(), "gold", wait).unwrap_err();
    }
    let conn = leader.release().unwrap();
    for wait in [Wait::Block, Wait::NoWait, Wait::Timeout(LONG)] {
        let mut leader = OwnedAdvisoryLockGuard::acquire(tour.connect(), (1, 2), wait).unwrap();
        leader.batch_execute("BEGIN").unwrap();
        fail(&mut *leader);
        leader.release().unwrap();
    }
    drop(OwnedAdvisoryLockGuard::acquire(conn, "gold", Wait::NoWait).unwrap());
    drop(OwnedAdvisoryLockGuard::connect_all(tour.url, [1, 2], Wait::NoWait).unwrap());
    drop(OwnedAdvisoryLockGuard::acquire_all(tour.connect(), [1, 2], Wait::NoWait).unwrap());
}

fn watched(tour: &Tour) {
    let acquire = || OwnedAdvisoryLockGuard::acquire(tour.connect(), "gold", Wait::Block).unwrap();
    let second = Duration::from_secs(1);
    let leader = acquire().watch(second).unwrap();
    // It has asked by then, and what it was told is of no interest here.
    let _ = leader.lost().recv_timeout(second * 7 / 10);
    let _ = leader.release();

    let mut leader = acquire();
    let pid = backend_pid(&mut *leader);
    let leader = leader.watch(second).unwrap();
    tour.signal("pg_terminate_backend", pid);
    leader.lost().recv().unwrap();
    assert!(leader.release().is_err());
}

#[derive(Debug)]
struct Prepared(Prepare);

impl CustomizeConnection<PgConnection, Error> for Prepared {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), Error> {
        (self.0)(conn);
        Ok(())
    }
}

fn pooled<M>(tour: &Tour, manager: M)
where
    M: ManageConnection<Connection = PgConnection, Error = Error>,
{
    let pool = Pool::builder()
        .max_size(2)
        .connection_customizer(Box::new(Prepared(tour.prepare)))
        .build(manager)
        .unwrap();
    let mut leader = pool.advisory_lock("gold").unwrap();
    assert!(leader.is_held().unwrap());
    fails!(pool.advisory_lock_nowait("gold"), NotAvailable);
    fails!(pool.advisory_lock_timeout("gold", SHORT), Timeout);
    assert!(pool.try_advisory_lock("gold").unwrap().is_none());
    drop(leader.release().unwrap());
    drop(pool.advisory_lock_nowait((1, 2)).unwrap());
    drop(pool.advisory_lock_timeout("gold", LONG).unwrap());
    drop(pool.try_advisory_lock("gold").unwrap().unwrap());
    drop(pool.advisory_lock_all_wait([1, 2], Wait::Block).unwrap());
    let held = pool.advisory_lock("gold").unwrap();
    let late = pool.on_wait(
        SHORT / 2,
        |_| (),
        |mut conn| conn.advisory_lock_timeout("gold", SHORT).map(drop),
    );
    fails!(late, Timeout);
    drop(held);

    let conn = &mut pool.get().unwrap();
    conn.with_advisory_lock("gold", |_| Ok::<_, LockError>(()))
        .unwrap();
    let mut guard = conn.advisory_lock_all([1, 2]).unwrap();
    fail(&mut *guard);
    guard.release().unwrap();
    let mut other = pool.get().unwrap();
    mem::forget(other.advisory_lock("silver").unwrap());
    drop(other);
    let mut other = pool.get().unwrap();
    other
        .batch_execute("SELECT pg_catalog.pg_advisory_lock(42)")
        .unwrap();
    drop(other);
    let mut other = pool.get().unwrap();
    kill(&mut other);
    drop(other);
    drop(pool.get().unwrap());
}
