mod mode;
mod tables;

use std::time::Duration;

use diesel::connection::Connection;
use diesel::pg::Pg;

use crate::lock_timeout::{Clock, batch_within};
use crate::seal::Seal;
use crate::sql::unquoted;
use crate::{LockError, LockTarget, Wait, transaction};
pub use mode::TableLockMode;
pub use tables::LockableTables;

/// Table locks on a connection.
///
/// For every synchronous connection to PostgreSQL: `PgConnection`, a `PooledConnection`, and the
/// connection inside a guard.
///
/// All methods take a table, or a tuple of up to eight. Several are locked in the order of their
/// names, whatever their order in the tuple, so that two callers cannot deadlock each other; in
/// one round trip like one; and all or none, once the transaction of a failure is rolled back.
/// Views are locked with their tables, and partitioned tables with their partitions.
///
/// # Transactions
///
/// The lock ends with the transaction. One must be open, and one that Diesel knows of. A failure
/// leaves it aborted, as PostgreSQL does: pass the error on. A rollback to a savepoint gives back
/// the locks that were taken after it.
///
/// # Pools
///
/// Nothing is left behind in a connection that goes back to a pool: Diesel's transaction has
/// ended by then.
///
/// # Errors
///
/// Beside those that a method names, all of them have [`LockError::NotInTransaction`], if no
/// transaction is open, and then nothing was sent; and [`LockError::Database`], for want of a
/// privilege, for one.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, TableLockMode, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// conn.transaction::<_, LockError, _>(|conn| {
///     conn.lock_table(accounts::table, TableLockMode::ShareRowExclusive)?;
///     conn.lock_table_nowait((jobs::table, accounts::table), TableLockMode::Exclusive)
/// })?;
/// # Ok(())
/// # }
/// ```
///
/// What is no table does not compile:
///
/// ```compile_fail
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, TableLockMode, prelude::*};
///
/// fn lock(conn: &mut PgConnection) -> Result<(), LockError> {
///     // error: `accounts::columns::id` is neither a table nor a tuple of one to eight tables
///     conn.lock_table(accounts::id, TableLockMode::Exclusive)
/// }
/// # fn main() {}
/// ```
pub trait TableLockExt: Connection<Backend = Pg> + Sized {
    /// Locks the tables, and waits until no other transaction is in the way.
    ///
    /// One round trip. The wait has no end but the session's own `lock_timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: the session's `lock_timeout` ended the wait.
    /// [`LockError::Deadlock`]: the holder waits for this transaction.
    fn lock_table<T, How>(&mut self, table: T, mode: TableLockMode) -> Result<(), LockError>
    where
        T: LockableTables<How>,
    {
        self.lock_table_wait(table, mode, Wait::Block)
    }

    /// Locks the tables, or fails at once if another transaction is in the way.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`LockError::NotAvailable`]: another transaction holds a lock that conflicts.
    fn lock_table_nowait<T, How>(&mut self, table: T, mode: TableLockMode) -> Result<(), LockError>
    where
        T: LockableTables<How>,
    {
        self.lock_table_wait(table, mode, Wait::NoWait)
    }

    /// Locks the tables, and waits for all of them together for at most `timeout`, measured by
    /// the server.
    ///
    /// One round trip. Whole milliseconds, rounded up: see [`Wait::Timeout`]. The `lock_timeout`
    /// and the `statement_timeout` of the session or transaction are as they were afterwards.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another transaction was in the way for so long.
    /// [`LockError::StatementTimeout`]: the caller's own `statement_timeout` was shorter.
    /// [`LockError::Deadlock`]: the holder waits for this transaction.
    fn lock_table_timeout<T, How>(
        &mut self,
        table: T,
        mode: TableLockMode,
        timeout: Duration,
    ) -> Result<(), LockError>
    where
        T: LockableTables<How>,
    {
        self.lock_table_wait(table, mode, Wait::Timeout(timeout))
    }

    /// Locks the tables, and says whether that was granted; `false` if another transaction is in
    /// the way, and then the transaction stays usable, and none of the tables is locked.
    ///
    /// Three round trips: the attempt has a savepoint of its own.
    ///
    /// # Errors
    ///
    /// Those of the trait. They leave the transaction as it was before the attempt.
    fn try_lock_table<T, How>(&mut self, table: T, mode: TableLockMode) -> Result<bool, LockError>
    where
        T: LockableTables<How>,
    {
        transaction::require(self)?;
        let granted = self.transaction(|conn| conn.lock_table_nowait(table, mode));
        LockError::unless_not_available(granted).map(|granted| granted.is_some())
    }

    /// Locks the tables, and waits as `wait` says.
    ///
    /// One round trip. It is what the other methods are made of, for code that decides at run
    /// time.
    ///
    /// # Errors
    ///
    /// Those of [`lock_table`](Self::lock_table), [`lock_table_nowait`](Self::lock_table_nowait)
    /// or [`lock_table_timeout`](Self::lock_table_timeout).
    fn lock_table_wait<T, How>(
        &mut self,
        table: T,
        mode: TableLockMode,
        wait: Wait,
    ) -> Result<(), LockError>
    where
        T: LockableTables<How>,
    {
        transaction::require(self)?;
        let mut tables = table.names(Seal)?;
        tables.sort_unstable();
        let lock = format!("LOCK TABLE {} IN {mode} MODE", tables.join(", "));
        let clock = Clock::start(wait);
        let locked = match wait {
            Wait::Block => self.batch_execute(&lock),
            Wait::NoWait => self.batch_execute(&format!("{lock} NOWAIT")),
            Wait::Timeout(timeout) => self.batch_execute(&batch_within(timeout, &lock)),
        };
        locked.map_err(|error| waiting_for(&tables, clock.explain(error.into())))
    }
}

impl<C: Connection<Backend = Pg>> TableLockExt for C {}

/// Adds to a timeout what was waited for, which PostgreSQL does not say.
fn waiting_for(tables: &[String], mut error: LockError) -> LockError {
    if let LockError::Timeout { target, .. } = &mut error {
        *target = Some(match tables {
            [table] => LockTarget::Relation {
                relation: unquoted(table),
            },
            tables => LockTarget::OneOf {
                relations: tables.iter().map(|table| unquoted(table)).collect(),
            },
        });
    }
    error
}
