use std::fmt;
use std::ops::{Deref, DerefMut};

use diesel::connection::{Connection, LoadConnection};
use diesel::pg::{Pg, PgConnection};

use super::session::SessionLocks;
use crate::{AdvisoryLock, LockError, Wait, slot};

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
pub struct OwnedAdvisoryLockGuard<C: LoadConnection<Backend = Pg>> {
    /// Here until `release` takes it, and the guard with it.
    conn: Option<C>,
    held: SessionLocks<AdvisoryLock>,
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
    /// [`LockError::Deadlock`]: unless it does not wait, and only if the connection has other locks.
    /// [`LockError::ConnectionLost`]: the connection broke; nothing was taken.
    pub fn connect(
        database_url: &str,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
    ) -> Result<Self, LockError> {
        let mut conn = PgConnection::establish(database_url)?;
        slot::install(&mut conn);
        Self::acquire(conn, lock, wait)
    }
}

impl<C: LoadConnection<Backend = Pg>> OwnedAdvisoryLockGuard<C> {
    /// Takes `lock` on a connection that is given away, and dropped if the lock is refused.
    ///
    /// One round trip.
    ///
    /// # Pools
    ///
    /// A refused connection goes back to its pool, without the lock.
    ///
    /// # Errors
    ///
    /// As for [`connect`](OwnedAdvisoryLockGuard::connect).
    pub fn acquire(
        mut conn: C,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
    ) -> Result<Self, LockError> {
        let held = SessionLocks::acquire(&mut conn, lock.into(), wait)?;
        Ok(Self {
            conn: Some(conn),
            held,
        })
    }

    /// The lock that was taken.
    pub fn lock(&self) -> &AdvisoryLock {
        self.held.locks()
    }

    /// Asks the server whether this session holds the lock: see
    /// [`AdvisoryLockGuard::is_held`](crate::AdvisoryLockGuard::is_held).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn is_held(&mut self) -> Result<bool, LockError> {
        let held = self.held;
        held.is_held(&mut **self)
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
        let held = self.held;
        // Only this method takes it, and with it the guard.
        #[expect(clippy::expect_used)]
        let mut conn = self.conn.take().expect("a guard has its connection");
        held.release(&mut conn)?;
        Ok(conn)
    }
}

#[cfg(feature = "watch")]
impl<C: LoadConnection<Backend = Pg> + 'static> OwnedAdvisoryLockGuard<C> {
    /// Looks after the lock in the background, for long work without a query.
    ///
    /// [`lost`](crate::WatchedAdvisoryLockGuard::lost) is a channel that delivers at most
    /// `interval` after the server has ended the session, or has fallen silent: a server that
    /// needs longer than half of `interval` for an answer is taken for silent. An `interval` below
    /// 10 ms is taken for 10 ms. The session itself
    /// is asked, on its own connection, by a thread that does so every half of `interval`, one
    /// round trip each; so the connection cannot be used meanwhile. A second thread notices when
    /// no answer comes.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use diesel_locks::{OwnedAdvisoryLockGuard, Wait};
    /// use diesel_locks_harness::TestDatabase;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// # let database_url = database.url();
    /// let leader = OwnedAdvisoryLockGuard::connect(database_url, "gold_leader", Wait::NoWait)?;
    /// let leader = leader.watch(Duration::from_secs(2))?;
    /// for step in 0..3 {
    ///     if let Ok(error) = leader.lost().try_recv() {
    ///         return Err(error.into());
    ///     }
    ///     // … a step of the long work
    /// #   let _ = step;
    /// }
    /// let conn = leader.release()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::Watch`]: the operating system gave no thread; the lock is let go.
    pub fn watch(
        self,
        interval: std::time::Duration,
    ) -> Result<crate::WatchedAdvisoryLockGuard<C>, LockError> {
        crate::WatchedAdvisoryLockGuard::new(self, interval)
    }
}

impl<C: LoadConnection<Backend = Pg>> Drop for OwnedAdvisoryLockGuard<C> {
    fn drop(&mut self) {
        if let Some(conn) = &mut self.conn {
            // Drop has nobody to tell; `release` ends the session where it has to.
            let _ = self.held.release(conn);
        }
    }
}

impl<C: LoadConnection<Backend = Pg>> Deref for OwnedAdvisoryLockGuard<C> {
    type Target = C;

    fn deref(&self) -> &C {
        // Only `release` takes it, and with it the guard.
        #[expect(clippy::expect_used)]
        self.conn.as_ref().expect("a guard has its connection")
    }
}

impl<C: LoadConnection<Backend = Pg>> DerefMut for OwnedAdvisoryLockGuard<C> {
    fn deref_mut(&mut self) -> &mut C {
        // Only `release` takes it, and with it the guard.
        #[expect(clippy::expect_used)]
        self.conn.as_mut().expect("a guard has its connection")
    }
}

impl<C: LoadConnection<Backend = Pg>> fmt::Debug for OwnedAdvisoryLockGuard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedAdvisoryLockGuard")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}
