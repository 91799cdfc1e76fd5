use std::error::Error as StdError;
use std::fmt;

use super::LockError;

/// A lock was refused on a connection that was given away: here it is again.
///
/// By `?` it becomes a [`LockError`], and the connection is dropped.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{AcquireError, OwnedAdvisoryLockGuard, Wait};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let elsewhere = OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait)?;
/// let mut conn = PgConnection::establish(database.url())?;
/// # let mut elsewhere = Some(elsewhere);
/// let leader = loop {
///     match OwnedAdvisoryLockGuard::acquire(conn, "gold_leader", Wait::NoWait) {
///         Ok(leader) => break leader,
///         Err(AcquireError { conn: again, error }) if error.is_contention() => conn = again,
///         Err(error) => return Err(error.into()),
///     }
/// #   elsewhere.take();
/// };
/// # drop(leader);
/// # Ok(())
/// # }
/// ```
pub struct AcquireError<C> {
    /// The connection, as it was before: without the lock.
    pub conn: C,
    /// Why the lock was refused.
    pub error: LockError,
}

impl<C> fmt::Debug for AcquireError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AcquireError")
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl<C> fmt::Display for AcquireError<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

/// Its source is that of the [`LockError`], for which it stands.
impl<C> StdError for AcquireError<C> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.error.source()
    }
}

impl<C> From<AcquireError<C>> for LockError {
    fn from(refused: AcquireError<C>) -> Self {
        refused.error
    }
}
