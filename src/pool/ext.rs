use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection, R2D2Connection};

#[cfg(feature = "watch")]
use crate::Waiting;
use crate::error::LockTarget;
#[cfg(feature = "watch")]
use crate::observe::{Watched, while_told};
use crate::seal::Sealed;
use crate::{AdvisoryLock, AdvisoryLocks, LockError, OwnedAdvisoryLockGuard, Wait};

/// Advisory locks on a pool: each with a connection of its own out of it.
///
/// For every r2d2 pool of connections to PostgreSQL, with Diesel's own manager or with a
/// [`LockAwareManager`](crate::LockAwareManager). Each method borrows a connection first, and then costs what its namesake
/// in [`AdvisoryLockExt`](crate::AdvisoryLockExt) costs. The connection goes back to the pool when
/// the guard is dropped, or when the lock is refused.
///
/// The endings are for both, the connection and the lock: what ends with `_nowait`, or begins with
/// `try_`, does not wait for a connection either, and a `_timeout` is for the whole call. Only a
/// wait without an ending has two limits: that for a connection is the pool's `connection_timeout`.
///
/// A held lock takes a connection out of the pool. So a nested call needs a second one: use the
/// connection inside the guard instead.
///
/// # Errors
///
/// Those of the namesake, and beside them:
///
/// - [`LockError::NotAvailable`] and [`LockError::Timeout`] with
///   [`LockTarget::Connection`]: no connection is idle. A pool with `min_idle` opens one more then, for
///   the next call.
/// - [`LockError::Pool`]: the pool has no connection at all, yet or any more; or, without an ending,
///   every connection was lent for too long.
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
pub trait PoolLockExt: Sealed {
    /// The pool's manager.
    type Manager: ManageConnection<Connection: LoadConnection<Backend = Pg> + R2D2Connection>;

    /// A connection, for at most as long as `wait` says, and the locks on it.
    #[doc(hidden)]
    fn acquire<L: AsRef<[AdvisoryLock]>>(
        &self,
        locks: L,
        wait: Wait,
    ) -> Result<PooledGuard<Self::Manager, L>, LockError>;

    /// Takes `lock`, and waits as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of the trait, and of
    /// [`AdvisoryLockExt::advisory_lock_wait`](crate::AdvisoryLockExt::advisory_lock_wait).
    fn advisory_lock_wait(
        &self,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
    ) -> Result<PooledGuard<Self::Manager>, LockError> {
        self.acquire(lock.into(), wait)
    }

    /// Takes `lock`, and waits until no other session is in the way.
    ///
    /// # Errors
    ///
    /// Those of the trait, and of
    /// [`AdvisoryLockExt::advisory_lock`](crate::AdvisoryLockExt::advisory_lock).
    fn advisory_lock(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<PooledGuard<Self::Manager>, LockError> {
        self.advisory_lock_wait(lock, Wait::Block)
    }

    /// Takes `lock`, or fails at once if another session is in the way, or every connection lent.
    ///
    /// # Errors
    ///
    /// Those of the trait, and of
    /// [`AdvisoryLockExt::advisory_lock_nowait`](crate::AdvisoryLockExt::advisory_lock_nowait).
    fn advisory_lock_nowait(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<PooledGuard<Self::Manager>, LockError> {
        self.advisory_lock_wait(lock, Wait::NoWait)
    }

    /// Takes `lock`, and waits for a connection and for the lock for at most `timeout`.
    ///
    /// # Errors
    ///
    /// Those of the trait, and of
    /// [`AdvisoryLockExt::advisory_lock_timeout`](crate::AdvisoryLockExt::advisory_lock_timeout).
    fn advisory_lock_timeout(
        &self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
    ) -> Result<PooledGuard<Self::Manager>, LockError> {
        self.advisory_lock_wait(lock, Wait::Timeout(timeout))
    }

    /// Takes `lock`, or gives `None` at once if another session is in the way, or every connection
    /// lent.
    ///
    /// # Errors
    ///
    /// Those of the trait, and of
    /// [`AdvisoryLockExt::try_advisory_lock`](crate::AdvisoryLockExt::try_advisory_lock).
    fn try_advisory_lock(
        &self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<Option<PooledGuard<Self::Manager>>, LockError> {
        LockError::unless_not_available(self.advisory_lock_nowait(lock))
    }

    /// Takes all of `locks`, or none, and waits as `wait` says.
    ///
    /// # Errors
    ///
    /// Those of the trait, and of
    /// [`AdvisoryLockExt::advisory_lock_all_wait`](crate::AdvisoryLockExt::advisory_lock_all_wait).
    fn advisory_lock_all_wait(
        &self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
        wait: Wait,
    ) -> Result<PooledGuard<Self::Manager, AdvisoryLocks>, LockError> {
        self.acquire(AdvisoryLocks::new(locks), wait)
    }

    /// Takes all of `locks`, and waits for each until no other session is in the way.
    ///
    /// # Errors
    ///
    /// As for [`advisory_lock`](Self::advisory_lock).
    fn advisory_lock_all(
        &self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
    ) -> Result<PooledGuard<Self::Manager, AdvisoryLocks>, LockError> {
        self.advisory_lock_all_wait(locks, Wait::Block)
    }

    /// Takes all of `locks`, or fails at once, with none.
    ///
    /// # Errors
    ///
    /// As for [`advisory_lock_nowait`](Self::advisory_lock_nowait).
    fn advisory_lock_all_nowait(
        &self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
    ) -> Result<PooledGuard<Self::Manager, AdvisoryLocks>, LockError> {
        self.advisory_lock_all_wait(locks, Wait::NoWait)
    }

    /// Takes all of `locks`, and waits for a connection and for them for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As for [`advisory_lock_timeout`](Self::advisory_lock_timeout).
    fn advisory_lock_all_timeout(
        &self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
        timeout: Duration,
    ) -> Result<PooledGuard<Self::Manager, AdvisoryLocks>, LockError> {
        self.advisory_lock_all_wait(locks, Wait::Timeout(timeout))
    }

    /// Takes all of `locks`, or none and gives `None`.
    ///
    /// # Errors
    ///
    /// As for [`try_advisory_lock`](Self::try_advisory_lock).
    fn try_advisory_lock_all(
        &self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
    ) -> Result<Option<PooledGuard<Self::Manager, AdvisoryLocks>>, LockError> {
        LockError::unless_not_available(self.advisory_lock_all_nowait(locks))
    }

    /// Does `work` on a connection, and if that waits for a lock when `after` has passed, tells `tell`
    /// who is in the way; and again after each further `after` (feature `watch`).
    ///
    /// [`OnWaitExt::on_wait`](crate::OnWaitExt::on_wait) with both connections from the pool. The
    /// second one is borrowed for each look only, and where all are lent, the look is left out. One
    /// round trip beside those of `work` and of the pool itself, and one for each look. The connection
    /// may stay in a guard: `Ok(OwnedAdvisoryLockGuard::acquire(conn, …)?)`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use diesel::prelude::*;
    /// use diesel::r2d2::{ConnectionManager, Pool};
    /// use diesel_locks::{LockError, prelude::*};
    /// use diesel_locks_harness::TestDatabase;
    ///
    /// # mod tracing { macro_rules! log { ($wait:literal) => { println!($wait) } } pub(crate) use log as warn; }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// let pool = Pool::new(ConnectionManager::<PgConnection>::new(database.url()))?;
    /// pool.on_wait(
    ///     Duration::from_secs(5),
    ///     |wait| tracing::warn!("{wait}"),
    ///     |mut conn| {
    ///         conn.transaction_with_advisory_lock("invoices", |conn| {
    ///             diesel::sql_query("SELECT 1").execute(conn)?;
    ///             Ok::<_, LockError>(())
    ///         })
    ///     },
    /// )?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of `work`. [`LockError::Pool`]: every connection was lent for too long, and `work` was
    /// not done; nor was it with [`LockError::Watch`]: the operating system gave no thread.
    #[cfg(feature = "watch")]
    fn on_wait<T, E>(
        &self,
        after: Duration,
        tell: impl FnMut(&Waiting) + Send,
        work: impl FnOnce(PooledConnection<Self::Manager>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>;
}

/// A guard with a pool's connection inside.
pub type PooledGuard<M, L = AdvisoryLock> = OwnedAdvisoryLockGuard<PooledConnection<M>, L>;

impl<M: ManageConnection> Sealed for Pool<M> {}

impl<M> PoolLockExt for Pool<M>
where
    M: ManageConnection<Connection: LoadConnection<Backend = Pg> + R2D2Connection>,
{
    type Manager = M;

    fn acquire<L: AsRef<[AdvisoryLock]>>(
        &self,
        locks: L,
        wait: Wait,
    ) -> Result<PooledGuard<M, L>, LockError> {
        let begun = Instant::now();
        let conn = borrow(self, wait)?;
        let rest = match wait {
            Wait::Timeout(timeout) => Wait::Timeout(timeout.saturating_sub(begun.elapsed())),
            wait => wait,
        };
        OwnedAdvisoryLockGuard::take(conn, locks, rest)
            .map_err(|refused| LockError::from(refused).after(wait))
    }

    #[cfg(feature = "watch")]
    fn on_wait<T, E>(
        &self,
        after: Duration,
        tell: impl FnMut(&Waiting) + Send,
        work: impl FnOnce(PooledConnection<M>) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>,
    {
        let mut conn = borrow(self, Wait::Block)?;
        let watched = Watched::of(&mut conn).map_err(LockError::from)?;
        while_told(watched, after, || self.try_get(), tell, || work(conn))
    }
}

fn borrow<M: ManageConnection>(
    pool: &Pool<M>,
    wait: Wait,
) -> Result<PooledConnection<M>, LockError> {
    let timeout = match wait {
        Wait::Block => return Ok(pool.get()?),
        Wait::NoWait => Duration::ZERO,
        // Longer waits than PostgreSQL's are too long for a clock too.
        Wait::Timeout(timeout) => timeout.min(Duration::from_millis(i32::MAX as u64)),
    };
    pool.get_timeout(timeout).map_err(|error| {
        let target = LockTarget::Connection;
        match wait {
            // The pool could open none: nobody else is in the way.
            _ if pool.state().connections == 0 => LockError::Pool(error),
            Wait::Timeout(timeout) => LockError::Timeout {
                target: Some(target),
                after: Some(timeout),
                source: None,
            },
            _ => LockError::NotAvailable {
                target,
                source: None,
            },
        }
    })
}
