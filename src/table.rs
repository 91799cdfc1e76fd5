use std::fmt;
use std::time::Duration;

use diesel::associations::HasTable;
use diesel::connection::Connection;
use diesel::pg::Pg;
use diesel::query_builder::QueryFragment;
use diesel::result::QueryResult;

use crate::lock_timeout::{Clock, batch_within};
use crate::sql::as_sql;
use crate::{LockError, Wait, transaction};

/// The modes of PostgreSQL's table locks, from the weakest to the strongest.
///
/// See [*Table-Level Locks*], section 13.3.1 of the PostgreSQL documentation, for what takes each
/// of them by itself. A mode conflicts with those marked, held by another transaction:
///
/// | | AS | RS | RX | SUX | S | SRX | X | AX |
/// |---|---|---|---|---|---|---|---|---|
/// | `AccessShare` | | | | | | | | × |
/// | `RowShare` | | | | | | | × | × |
/// | `RowExclusive` | | | | | × | × | × | × |
/// | `ShareUpdateExclusive` | | | | × | × | × | × | × |
/// | `Share` | | | × | × | | × | × | × |
/// | `ShareRowExclusive` | | | × | × | × | × | × | × |
/// | `Exclusive` | | × | × | × | × | × | × | × |
/// | `AccessExclusive` | × | × | × | × | × | × | × | × |
///
/// [*Table-Level Locks*]: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-TABLES
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TableLock {
    /// `ACCESS SHARE`, which every `SELECT` takes.
    AccessShare,
    /// `ROW SHARE`, which `SELECT … FOR UPDATE` and its sisters take.
    RowShare,
    /// `ROW EXCLUSIVE`, which `INSERT`, `UPDATE` and `DELETE` take.
    RowExclusive,
    /// `SHARE UPDATE EXCLUSIVE`, which `VACUUM` and `CREATE INDEX CONCURRENTLY` take.
    ShareUpdateExclusive,
    /// `SHARE`, which `CREATE INDEX` takes: nobody writes, and several may hold it.
    Share,
    /// `SHARE ROW EXCLUSIVE`: nobody writes, and one may hold it.
    ShareRowExclusive,
    /// `EXCLUSIVE`: everybody else may only read.
    Exclusive,
    /// `ACCESS EXCLUSIVE`, which `DROP TABLE` and most `ALTER TABLE` take: nobody even reads.
    AccessExclusive,
}

impl TableLock {
    /// All of them, from the weakest to the strongest.
    pub const ALL: [Self; 8] = [
        Self::AccessShare,
        Self::RowShare,
        Self::RowExclusive,
        Self::ShareUpdateExclusive,
        Self::Share,
        Self::ShareRowExclusive,
        Self::Exclusive,
        Self::AccessExclusive,
    ];
}

/// As SQL spells it.
impl fmt::Display for TableLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AccessShare => "ACCESS SHARE",
            Self::RowShare => "ROW SHARE",
            Self::RowExclusive => "ROW EXCLUSIVE",
            Self::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            Self::Share => "SHARE",
            Self::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            Self::Exclusive => "EXCLUSIVE",
            Self::AccessExclusive => "ACCESS EXCLUSIVE",
        })
    }
}

/// Table locks on a connection.
///
/// For every synchronous connection to PostgreSQL: `PgConnection`, a `PooledConnection`, and the
/// connection inside a guard. The type parameter is the table; several are locked by
/// [`lock_tables`](Self::lock_tables). Views are locked with their tables, and partitioned tables
/// with their partitions.
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
/// use diesel_locks::{LockError, TableLock, Wait, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// conn.transaction::<_, LockError, _>(|conn| {
///     conn.lock_table::<accounts::table>(TableLock::ShareRowExclusive)?;
///     conn.lock_tables::<(jobs::table, accounts::table)>(TableLock::Exclusive, Wait::NoWait)
/// })?;
/// # Ok(())
/// # }
/// ```
pub trait TableLockExt: Connection<Backend = Pg> + Sized {
    /// Locks the table, and waits until no other transaction is in the way.
    ///
    /// One round trip. The wait has no end but the session's own `lock_timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: the session's `lock_timeout` ended the wait.
    /// [`LockError::Deadlock`]: the holder waits for this transaction.
    fn lock_table<T: LockableTable>(&mut self, mode: TableLock) -> Result<(), LockError> {
        lock(self, vec![T::name()?], mode, Wait::Block)
    }

    /// Locks the table, or fails at once if another transaction is in the way.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`LockError::NotAvailable`]: another transaction holds a lock that conflicts.
    fn lock_table_nowait<T: LockableTable>(&mut self, mode: TableLock) -> Result<(), LockError> {
        lock(self, vec![T::name()?], mode, Wait::NoWait)
    }

    /// Locks the table, and waits for at most `timeout`, measured by the
    /// server.
    ///
    /// One round trip. Whole milliseconds, rounded up: see [`Wait::Timeout`]. The `lock_timeout`
    /// of the session or transaction is as it was afterwards.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another transaction was in the way for so long.
    /// [`LockError::Deadlock`]: the holder waits for this transaction.
    fn lock_table_timeout<T: LockableTable>(
        &mut self,
        mode: TableLock,
        timeout: Duration,
    ) -> Result<(), LockError> {
        lock(self, vec![T::name()?], mode, Wait::Timeout(timeout))
    }

    /// Locks the table, and says whether that was granted; `false` if another transaction is in
    /// the way, and then the transaction stays usable.
    ///
    /// Three round trips: the attempt has a savepoint of its own.
    ///
    /// # Errors
    ///
    /// Those of the trait. They leave the transaction as it was before the attempt.
    fn try_lock_table<T: LockableTable>(&mut self, mode: TableLock) -> Result<bool, LockError> {
        transaction::require(self)?;
        let granted = self.transaction(|conn| conn.lock_table_nowait::<T>(mode));
        LockError::unless_not_available(granted).map(|granted| granted.is_some())
    }

    /// Locks a tuple of two to eight tables in the order of their names, so that two callers
    /// cannot deadlock each other, and waits for each as `wait` says.
    ///
    /// One round trip.
    ///
    /// # Errors
    ///
    /// [`LockError::NotAvailable`] or [`LockError::Timeout`]: another transaction is in the way,
    /// and none of the tables is locked once the transaction is rolled back.
    fn lock_tables<T: LockableTables>(
        &mut self,
        mode: TableLock,
        wait: Wait,
    ) -> Result<(), LockError> {
        let mut names = T::names()?;
        names.sort_unstable();
        lock(self, names, mode, wait)
    }
}

impl<C: Connection<Backend = Pg>> TableLockExt for C {}

fn lock<C>(conn: &mut C, tables: Vec<String>, mode: TableLock, wait: Wait) -> Result<(), LockError>
where
    C: Connection<Backend = Pg>,
{
    transaction::require(conn)?;
    let lock = format!("LOCK TABLE {} IN {mode} MODE", tables.join(", "));
    let clock = Clock::start(wait);
    let locked = match wait {
        Wait::Block => conn.batch_execute(&lock),
        Wait::NoWait => conn.batch_execute(&format!("{lock} NOWAIT")),
        Wait::Timeout(timeout) => conn.batch_execute(&batch_within(timeout, &lock)),
    };
    locked.map_err(|error| clock.explain(error.into()))
}

/// A table that [`TableLockExt::lock_table`] takes: every one that `diesel::table!` makes.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no table",
    note = "several tables at once are locked by `lock_tables`"
)]
pub trait LockableTable {
    /// Its name, as SQL quotes it.
    #[doc(hidden)]
    fn name() -> QueryResult<String>;
}

impl<T: HasTable<Table = T> + QueryFragment<Pg>> LockableTable for T {
    fn name() -> QueryResult<String> {
        as_sql(&T::table())
    }
}

/// A tuple of tables that [`TableLockExt::lock_tables`] takes.
#[diagnostic::on_unimplemented(message = "`{Self}` is no tuple of two to eight tables")]
pub trait LockableTables {
    /// Their names, as SQL quotes them.
    #[doc(hidden)]
    fn names() -> QueryResult<Vec<String>>;
}

macro_rules! tuples {
    ($($($table:ident)*;)*) => {$(
        impl<$($table: LockableTable),*> LockableTables for ($($table,)*) {
            fn names() -> QueryResult<Vec<String>> {
                Ok(vec![$($table::name()?),*])
            }
        }
    )*};
}

tuples! {
    A B;
    A B C;
    A B C D;
    A B C D E;
    A B C D E F;
    A B C D E F G;
    A B C D E F G H;
}
