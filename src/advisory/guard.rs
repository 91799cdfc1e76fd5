use std::fmt;
use std::ops::{Deref, DerefMut};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::session::SessionLocks;
use crate::{AdvisoryLock, LockError, Wait};

/// A session's advisory lock, held as long as the guard lives, on a borrowed connection.
///
/// `L` is what it holds: an [`AdvisoryLock`], or several as
/// [`AdvisoryLocks`](crate::AdvisoryLocks).
///
/// Made by the methods of [`AdvisoryLockExt`](crate::AdvisoryLockExt). It dereferences to the
/// connection, which is therefore used through the guard while the lock is held. Diesel's methods
/// want `&mut *guard`; of `&mut guard` the compiler says only that `Connection`, or
/// `LoadConnection`, is not implemented for it.
///
/// # What drop does
///
/// Dropping the guard lets go of the lock, in one round trip, also while a panic unwinds and also
/// in an aborted transaction, which stays aborted. Drop is silent: use [`release`](Self::release)
/// to learn that the lock was lost meanwhile. Where it cannot be proved that the lock is gone,
/// the server ends the session, and the lock with it: the connection is of no use then, and a pool
/// throws it away. `std::mem::forget` on a guard keeps the lock until the connection is closed.
///
/// # Transactions
///
/// A session's lock knows nothing of transactions: it is neither given back by a rollback nor
/// kept by a commit. In an aborted transaction, letting go rolls back what PostgreSQL has given
/// up already: to the innermost savepoint that Diesel made, or to the start. A savepoint that was
/// made by a statement of one's own, after that, is lost.
///
/// Who lets go inside a transaction lets the next holder in before the commit, and that one does
/// not see the work yet. Let go after the commit, or take a lock of the transaction.
#[must_use = "the lock is let go as soon as the guard is dropped"]
#[clippy::has_significant_drop]
pub struct AdvisoryLockGuard<'c, C, L = AdvisoryLock>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    conn: &'c mut C,
    held: SessionLocks<L>,
    is_released: bool,
}

impl<C: LoadConnection<Backend = Pg>> AdvisoryLockGuard<'_, C> {
    /// The lock that was taken.
    pub fn lock(&self) -> &AdvisoryLock {
        self.held.locks()
    }
}

impl<'c, C, L> AdvisoryLockGuard<'c, C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    pub(super) fn acquire(conn: &'c mut C, locks: L, wait: Wait) -> Result<Self, LockError> {
        let held = SessionLocks::acquire(conn, locks, wait)?;
        Ok(Self {
            conn,
            held,
            is_released: false,
        })
    }

    /// Runs `work` under the lock, and lets go.
    pub(super) fn run<T, E>(self, work: impl FnOnce(&mut C) -> Result<T, E>) -> Result<T, E>
    where
        E: From<LockError>,
    {
        let done = work(self.conn)?;
        self.release()?;
        Ok(done)
    }

    /// The locks that were taken.
    pub fn locks(&self) -> &[AdvisoryLock] {
        self.held.locks().as_ref()
    }

    /// Asks the server whether this session holds the lock, in one round trip.
    ///
    /// `false` means that somebody has released it through the same connection, by
    /// `pg_advisory_unlock_all()` for one. PostgreSQL does not tell a session's lock from a
    /// transaction's lock of the same key and mode: either counts.
    ///
    /// # Errors
    ///
    /// [`LockError::ConnectionLost`]: the lock is gone with its session.
    /// [`LockError::SessionChanged`]: the connection is at another session.
    /// [`LockError::TransactionAborted`]: the server answers nothing before the rollback.
    pub fn is_held(&mut self) -> Result<bool, LockError> {
        self.held.is_held(self.conn)
    }

    /// Lets go of the lock, like dropping the guard, and says whether it was still held.
    ///
    /// One round trip; in an aborted transaction, which stays aborted, four.
    ///
    /// # Errors
    ///
    /// [`LockError::NotHeld`]: the session did not have the lock any more.
    /// [`LockError::ConnectionLost`]: the session is gone, and the lock with it.
    /// [`LockError::SessionChanged`]: the connection is at another session, and the one that took
    /// the lock may still have it. A `LockAwareManager` closes such a connection.
    /// Whatever else kept the server from letting go, such as [`LockError::Canceled`]: the session
    /// was ended, and the lock with it.
    pub fn release(mut self) -> Result<(), LockError> {
        self.is_released = true;
        self.held.release(self.conn)
    }
}

impl<C, L> Drop for AdvisoryLockGuard<'_, C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    fn drop(&mut self) {
        if !self.is_released {
            self.held.release_in_drop(self.conn);
        }
    }
}

impl<C, L> Deref for AdvisoryLockGuard<'_, C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    type Target = C;

    fn deref(&self) -> &C {
        self.conn
    }
}

impl<C, L> DerefMut for AdvisoryLockGuard<'_, C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    fn deref_mut(&mut self) -> &mut C {
        self.conn
    }
}

impl<C, L> fmt::Debug for AdvisoryLockGuard<'_, C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]> + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdvisoryLockGuard")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
