mod functions;
mod guard;
mod owned;
mod session;

use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

pub use self::guard::AdvisoryLockGuard;
pub use self::owned::OwnedAdvisoryLockGuard;
use crate::{AdvisoryLock, LockError, Wait};

/// Advisory locks on a connection.
///
/// For every synchronous connection to PostgreSQL: `PgConnection`, a `PooledConnection`, and the
/// connection inside a guard. The locks are those of the session: they last until their guard
/// lets go, inside and outside of transactions. Every method takes the lock by name, number, pair
/// of numbers, or as an [`AdvisoryLock`], and costs one round trip, and a second one the first
/// time that a connection prepares the statement.
///
/// Locks of a session stack: a session that takes a lock which it has already is granted it once
/// more, and has it until both guards are gone. Only other sessions are kept out.
///
/// # Transactions
///
/// None is needed, and none ends the lock. In an open transaction a failure leaves it aborted, as
/// PostgreSQL does, but a refusal by [`try_advisory_lock`](Self::try_advisory_lock) or
/// [`advisory_lock_nowait`](Self::advisory_lock_nowait) is no failure for PostgreSQL: the
/// transaction stays usable.
///
/// # Pools
///
/// On a pooled connection the guard must be dropped before the connection is given back, which
/// the borrow checker sees to. Through a pooler in transaction mode, such as PgBouncer's, locks of
/// a session do not work: statements outside a transaction may reach different sessions. Letting
/// go then ends in [`LockError::SessionChanged`].
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::{AdvisoryLock, LockError, harness::TestDatabase, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = TestDatabase::new()?;
/// let mut here = PgConnection::establish(database.url())?;
/// let mut there = PgConnection::establish(database.url())?;
///
/// let leader = here.advisory_lock_nowait("gold_leader")?;
/// assert!(there.try_advisory_lock("gold_leader")?.is_none());
/// leader.release()?;
///
/// let reader = here.advisory_lock(AdvisoryLock::shared(42))?;
/// assert!(there.try_advisory_lock(AdvisoryLock::shared(42))?.is_some());
/// assert!(matches!(there.advisory_lock_nowait(42), Err(LockError::NotAvailable { .. })));
/// # Ok(())
/// # }
/// ```
pub trait AdvisoryLockExt: LoadConnection<Backend = Pg> + Sized {
    /// Takes `lock`, and waits until no other session is in the way.
    ///
    /// The wait has no end but the session's own `lock_timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: the session's `lock_timeout` ended the wait.
    /// [`LockError::Deadlock`]: the holder waits for a lock of this session.
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn advisory_lock(
        &mut self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<AdvisoryLockGuard<'_, Self>, LockError> {
        AdvisoryLockGuard::acquire(self, lock.into(), Wait::Block)
    }

    /// Takes `lock`, or fails at once if another session is in the way.
    ///
    /// # Errors
    ///
    /// [`LockError::NotAvailable`]: another session holds the lock. An open transaction stays
    /// usable.
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn advisory_lock_nowait(
        &mut self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<AdvisoryLockGuard<'_, Self>, LockError> {
        AdvisoryLockGuard::acquire(self, lock.into(), Wait::NoWait)
    }

    /// Takes `lock`, and waits for at most `timeout`, measured by the server.
    ///
    /// Whole milliseconds, rounded up: see [`Wait::Timeout`]. The `lock_timeout` of the session or
    /// transaction is as it was afterwards.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another session was in the way for so long.
    /// [`LockError::Deadlock`]: the holder waits for a lock of this session.
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn advisory_lock_timeout(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
    ) -> Result<AdvisoryLockGuard<'_, Self>, LockError> {
        AdvisoryLockGuard::acquire(self, lock.into(), Wait::Timeout(timeout))
    }

    /// Takes `lock`, or gives `None` at once if another session is in the way.
    ///
    /// The compiler does not warn of an unused guard inside an `Option`:
    /// `conn.try_advisory_lock("x")?;` takes the lock and lets go of it again. Bind the guard to a
    /// name.
    ///
    /// # Errors
    ///
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn try_advisory_lock(
        &mut self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<Option<AdvisoryLockGuard<'_, Self>>, LockError> {
        match self.advisory_lock_nowait(lock) {
            Ok(guard) => Ok(Some(guard)),
            Err(LockError::NotAvailable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl<C: LoadConnection<Backend = Pg>> AdvisoryLockExt for C {}
