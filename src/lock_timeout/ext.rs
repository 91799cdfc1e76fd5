use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::limits::Limits;
use crate::{LockError, transaction};

/// A limit on every wait for a lock, on a connection.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use std::time::Duration;
///
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// conn.transaction::<_, LockError, _>(|conn| {
///     // Waits neither for a row nor, where an `ALTER TABLE` runs, for a table.
///     conn.with_lock_timeout(Duration::from_millis(1), |conn| {
///         let job = jobs::table.select(jobs::id).limit(1);
///         let job = conn.select_for_update_skip_locked::<i32, _>(job)?;
///         conn.get_for_update_nowait::<i64, _>(accounts::table.find(1).select(accounts::balance))
///             .map(|balance| assert_eq!((job, balance), (vec![], 100)))
///     })
/// })?;
/// # Ok(())
/// # }
/// ```
pub trait LockTimeoutExt: LoadConnection<Backend = Pg> + Sized {
    /// Runs `work` with PostgreSQL's [`lock_timeout`] at `timeout`, which is for each wait for a
    /// lock: of a row, of its table, of any other, by whichever statement. Afterwards it is as it
    /// was.
    ///
    /// Two round trips beside those of `work`, whatever the number of locks. Whole milliseconds,
    /// rounded up: see [`Wait::Timeout`](crate::Wait::Timeout).
    ///
    /// # Transactions
    ///
    /// One must be open, and one that Diesel knows of. An error of the server in `work` leaves it
    /// aborted, as ever: pass the error on, and the rollback puts the setting back.
    ///
    /// # Errors
    ///
    /// Those of `work`, of which [`LockError::Timeout`] says that a wait took so long, though not
    /// for what. [`LockError::NotInTransaction`]: no transaction is open; `work` was not run, and
    /// nothing was sent. [`LockError::TransactionAborted`]: a statement of `work` has failed, and
    /// `work` has kept that to itself.
    ///
    /// [`lock_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    fn with_lock_timeout<T, E>(
        &mut self,
        timeout: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>,
    {
        transaction::require(self)?;
        let before = Limits::set(self, timeout, false).map_err(LockError::from)?;
        let done = work(self);
        before.restore_after(self, done)
    }
}

impl<C: LoadConnection<Backend = Pg>> LockTimeoutExt for C {}
