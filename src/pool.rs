use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::r2d2::{
    ConnectionManager, Error, ManageConnection, Pool, PooledConnection, R2D2Connection,
};

use crate::advisory::give_back_all;
use crate::{AdvisoryLock, LockError, OwnedAdvisoryLockGuard, Wait, slot};

/// Advisory locks on a pool: each with a connection of its own out of it.
///
/// For every r2d2 pool of connections to PostgreSQL, with Diesel's own manager or with a
/// [`LockAwareManager`]. Each method waits for a connection first, for as long as the pool's
/// `connection_timeout` says, and then costs what its namesake in
/// [`AdvisoryLockExt`](crate::AdvisoryLockExt) costs. The connection goes back to the pool when
/// the guard is dropped, or when the lock is refused.
///
/// A held lock takes a connection out of the pool. So a nested call needs a second one: in a pool
/// of one it fails with [`LockError::Pool`] after the pool's timeout, which is 30 s unless set.
/// Use the connection inside the guard instead.
///
/// ```
/// use diesel::prelude::*;
/// use diesel::r2d2::{ConnectionManager, Pool};
/// use diesel_locks::{LockAwareManager, LockError, prelude::*};
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// let manager = ConnectionManager::<PgConnection>::new(database.url());
/// let pool = Pool::builder().max_size(2).build(LockAwareManager::new(manager))?;
///
/// let mut leader = pool.advisory_lock_nowait("gold_leader")?;
/// diesel::sql_query("SELECT 1").execute(&mut *leader)?;
/// let refused = pool.advisory_lock_nowait("gold_leader");
/// assert!(matches!(refused, Err(LockError::NotAvailable { .. })));
/// let conn = leader.release()?;
/// # drop(conn);
/// # Ok(())
/// # }
/// ```
pub trait PoolLockExt {
    /// The pool's manager.
    type Manager: ManageConnection<Connection: LoadConnection<Backend = Pg> + R2D2Connection>;

    /// Takes `lock`, and waits until no other session is in the way.
    ///
    /// # Errors
    ///
    /// [`LockError::Pool`]: the pool lent no connection. Else as for
    /// [`AdvisoryLockExt::advisory_lock`](crate::AdvisoryLockExt::advisory_lock).
    fn advisory_lock(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<OwnedAdvisoryLockGuard<PooledConnection<Self::Manager>>, LockError>;

    /// Takes `lock`, or fails at once if another session is in the way.
    ///
    /// # Errors
    ///
    /// [`LockError::Pool`]: the pool lent no connection. Else as for
    /// [`AdvisoryLockExt::advisory_lock_nowait`](crate::AdvisoryLockExt::advisory_lock_nowait).
    fn advisory_lock_nowait(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<OwnedAdvisoryLockGuard<PooledConnection<Self::Manager>>, LockError>;

    /// Takes `lock`, and waits for it for at most `timeout`, measured by the server; the wait for
    /// a connection comes on top.
    ///
    /// # Errors
    ///
    /// [`LockError::Pool`]: the pool lent no connection. Else as for
    /// [`AdvisoryLockExt::advisory_lock_timeout`](crate::AdvisoryLockExt::advisory_lock_timeout).
    fn advisory_lock_timeout(
        &self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
    ) -> Result<OwnedAdvisoryLockGuard<PooledConnection<Self::Manager>>, LockError>;

    /// Takes `lock`, or gives `None` at once if another session is in the way.
    ///
    /// # Errors
    ///
    /// [`LockError::Pool`]: the pool lent no connection. Else as for
    /// [`AdvisoryLockExt::try_advisory_lock`](crate::AdvisoryLockExt::try_advisory_lock).
    fn try_advisory_lock(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<Option<OwnedAdvisoryLockGuard<PooledConnection<Self::Manager>>>, LockError> {
        LockError::unless_not_available(self.advisory_lock_nowait(lock))
    }
}

impl<M> PoolLockExt for Pool<M>
where
    M: ManageConnection<Connection: LoadConnection<Backend = Pg> + R2D2Connection>,
{
    type Manager = M;

    fn advisory_lock(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<OwnedAdvisoryLockGuard<PooledConnection<M>>, LockError> {
        OwnedAdvisoryLockGuard::acquire(self.get()?, lock, Wait::Block)
    }

    fn advisory_lock_nowait(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<OwnedAdvisoryLockGuard<PooledConnection<M>>, LockError> {
        OwnedAdvisoryLockGuard::acquire(self.get()?, lock, Wait::NoWait)
    }

    fn advisory_lock_timeout(
        &self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
    ) -> Result<OwnedAdvisoryLockGuard<PooledConnection<M>>, LockError> {
        OwnedAdvisoryLockGuard::acquire(self.get()?, lock, Wait::Timeout(timeout))
    }
}

/// A connection manager around Diesel's own, whose pool never lends a connection on which a guard
/// of this crate still holds an advisory lock.
///
/// A connection comes back with a lock if a guard was forgotten (`std::mem::forget`), or if the
/// lock was taken by SQL of one's own. With Diesel's manager the next borrower has that lock
/// without knowing it, and nobody else can ever get it.
///
/// - A connection with a guard's lock is closed when it is given back. Nothing is asked of the
///   server: the guards are counted, in the connection's place for instrumentation. An
///   instrumentation of the application's own goes there by
///   [`set_instrumentation`](crate::set_instrumentation); Diesel's method of that name ends the
///   count, and leaves the second way.
/// - When the pool tests a connection before it lends it, which r2d2 does unless
///   `test_on_check_out(false)` is set, the test is `SELECT pg_advisory_unlock_all()`, instead of
///   Diesel's `SELECT 1`. So locks by SQL of one's own are given back at that time; without the
///   test, such a lock is lent with its connection. Through a pooler, what another client has in
///   the same session is left alone.
///
/// Neither costs a round trip more than Diesel's manager does.
#[derive(Debug, Clone)]
pub struct LockAwareManager<C> {
    manager: ConnectionManager<C>,
}

impl<C> LockAwareManager<C> {
    /// Wraps Diesel's manager.
    pub fn new(manager: ConnectionManager<C>) -> Self {
        Self { manager }
    }
}

impl<C> ManageConnection for LockAwareManager<C>
where
    C: LoadConnection<Backend = Pg> + R2D2Connection + 'static,
{
    type Connection = C;
    type Error = Error;

    fn connect(&self) -> Result<C, Error> {
        let mut conn = self.manager.connect()?;
        slot::install(&mut conn);
        Ok(conn)
    }

    fn is_valid(&self, conn: &mut C) -> Result<(), Error> {
        Ok(give_back_all(conn)?)
    }

    fn has_broken(&self, conn: &mut C) -> bool {
        slot::may_have_locks(conn) || self.manager.has_broken(conn)
    }
}
