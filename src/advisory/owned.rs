use std::fmt;
use std::ops::{Deref, DerefMut};

use diesel::connection::{Connection, LoadConnection};
use diesel::pg::{Pg, PgConnection};

use super::session::SessionLocks;
use crate::{AcquireError, AdvisoryLock, AdvisoryLocks, LockError, Wait, slot};

/// A session's advisory lock, held as long as the guard lives, with the connection inside.
///
/// For a lock that has a connection of its own, made by [`connect`](Self::connect), or one out of
/// a pool, made by [`acquire`](Self::acquire). It can be stored and sent to another thread. All
/// else is as for [`AdvisoryLockGuard`](crate::AdvisoryLockGuard), what drop does in particular.
///
/// When the process ends in any way, the server closes the session and frees the lock.
/// `std::mem::forget` on this guard keeps the lock, and a pooled connection out of its pool, until
/// then.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let database_url = database.url();
/// let mut leader = OwnedAdvisoryLockGuard::connect(database_url, "gold_leader", Wait::NoWait)?;
/// diesel::update(accounts::table).set(accounts::balance.eq(0)).execute(&mut *leader)?;
///
/// let second = OwnedAdvisoryLockGuard::connect(database_url, "gold_leader", Wait::NoWait);
/// assert!(matches!(second, Err(LockError::NotAvailable { .. })));
///
/// let mut conn: PgConnection = leader.release()?;
/// # diesel::sql_query("SELECT 1").execute(&mut conn)?;
/// # Ok(())
/// # }
/// ```
#[must_use = "the lock is let go as soon as the guard is dropped"]
#[clippy::has_significant_drop]
pub struct OwnedAdvisoryLockGuard<C, L = AdvisoryLock>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    /// Here until `release` takes it, and the guard with it.
    conn: Option<C>,
    held: SessionLocks<L>,
}

impl OwnedAdvisoryLockGuard<PgConnection> {
    /// Opens a connection, takes `lock` on it, and closes it again if the lock is refused.
    ///
    /// One round trip beyond opening the connection. With [`Wait::Block`] the wait has no end but
    /// a `lock_timeout` that the role or the URL sets; whoever needs one uses [`Wait::Timeout`].
    ///
    /// # Errors
    ///
    /// [`LockError::Connection`]: no connection could be opened.
    /// [`LockError::NotAvailable`]: with [`Wait::NoWait`], another session holds the lock.
    /// [`LockError::Timeout`]: with [`Wait::Timeout`], another session held it for so long.
    /// [`LockError::SharedSession`]: the connection is a pooler's, and nothing was taken.
    /// [`LockError::ConnectionLost`]: the connection broke; nothing was taken.
    pub fn connect(
        database_url: &str,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
    ) -> Result<Self, LockError> {
        Ok(Self::acquire(connect(database_url)?, lock, wait)?)
    }
}

impl OwnedAdvisoryLockGuard<PgConnection, AdvisoryLocks> {
    /// Opens a connection and takes all of `locks` on it, or none: see
    /// [`connect`](OwnedAdvisoryLockGuard::connect).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn connect_all(
        database_url: &str,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
        wait: Wait,
    ) -> Result<Self, LockError> {
        Ok(Self::acquire_all(connect(database_url)?, locks, wait)?)
    }
}

fn connect(database_url: &str) -> Result<PgConnection, LockError> {
    let mut conn = PgConnection::establish(database_url)?;
    slot::install(&mut conn);
    Ok(conn)
}

impl<C: LoadConnection<Backend = Pg>> OwnedAdvisoryLockGuard<C> {
    /// Takes `lock` on a connection that is given away, and gives it back if the lock is refused.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`AcquireError`] has the connection, and why the lock was refused: as for
    /// [`connect`](OwnedAdvisoryLockGuard::connect).
    pub fn acquire(
        conn: C,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
    ) -> Result<Self, AcquireError<C>> {
        Self::take(conn, lock.into(), wait)
    }

    /// The lock that was taken.
    pub fn lock(&self) -> &AdvisoryLock {
        self.held.locks()
    }
}

impl<C: LoadConnection<Backend = Pg>> OwnedAdvisoryLockGuard<C, AdvisoryLocks> {
    /// Takes all of `locks` on a connection that is given away, or none and gives it back.
    ///
    /// One round trip: see
    /// [`AdvisoryLockExt::advisory_lock_all`](crate::AdvisoryLockExt::advisory_lock_all).
    ///
    /// # Errors
    ///
    /// As for [`acquire`](OwnedAdvisoryLockGuard::acquire).
    pub fn acquire_all(
        conn: C,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
        wait: Wait,
    ) -> Result<Self, AcquireError<C>> {
        Self::take(conn, AdvisoryLocks::new(locks), wait)
    }
}

impl<C, L> OwnedAdvisoryLockGuard<C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    pub(crate) fn take(mut conn: C, locks: L, wait: Wait) -> Result<Self, AcquireError<C>> {
        match SessionLocks::acquire(&mut conn, locks, wait) {
            Ok(held) => Ok(Self {
                conn: Some(conn),
                held,
            }),
            Err(error) => Err(AcquireError { conn, error }),
        }
    }

    /// The locks that were taken.
    pub fn locks(&self) -> &[AdvisoryLock] {
        self.held.locks().as_ref()
    }

    /// Asks the server whether this session holds the lock: see
    /// [`AdvisoryLockGuard::is_held`](crate::AdvisoryLockGuard::is_held).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn is_held(&mut self) -> Result<bool, LockError> {
        // Only `release` takes it, and with it the guard.
        #[expect(clippy::expect_used)]
        let conn = self.conn.as_mut().expect("a guard has its connection");
        self.held.is_held(conn)
    }

    /// Lets go of the lock, like dropping the guard, and hands back the connection.
    ///
    /// One round trip; in an aborted transaction, which stays aborted, four.
    ///
    /// # Errors
    ///
    /// As for [`AdvisoryLockGuard::release`](crate::AdvisoryLockGuard::release). The connection
    /// is dropped then: closed, or given back to its pool.
    pub fn release(mut self) -> Result<C, LockError> {
        // Only this method takes it, and with it the guard.
        #[expect(clippy::expect_used)]
        let mut conn = self.conn.take().expect("a guard has its connection");
        self.held.release(&mut conn)?;
        Ok(conn)
    }
}

impl<C, L> Drop for OwnedAdvisoryLockGuard<C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    fn drop(&mut self) {
        if let Some(conn) = &mut self.conn {
            self.held.release_in_drop(conn);
        }
    }
}

impl<C, L> Deref for OwnedAdvisoryLockGuard<C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    type Target = C;

    fn deref(&self) -> &C {
        // Only `release` takes it, and with it the guard.
        #[expect(clippy::expect_used)]
        self.conn.as_ref().expect("a guard has its connection")
    }
}

impl<C, L> DerefMut for OwnedAdvisoryLockGuard<C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]>,
{
    fn deref_mut(&mut self) -> &mut C {
        // Only `release` takes it, and with it the guard.
        #[expect(clippy::expect_used)]
        self.conn.as_mut().expect("a guard has its connection")
    }
}

impl<C, L> fmt::Debug for OwnedAdvisoryLockGuard<C, L>
where
    C: LoadConnection<Backend = Pg>,
    L: AsRef<[AdvisoryLock]> + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedAdvisoryLockGuard")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
