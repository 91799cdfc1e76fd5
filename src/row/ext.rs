use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::AsQuery;
use diesel::query_dsl::methods::LoadQuery;

use super::clause::{ForUpdate, NoWait, RowLock, SkipLocked};
use super::dsl::Locked;
use super::of::AllTables;
use crate::{LockError, lock_timeout, transaction};

/// Row locks on a connection.
///
/// For every synchronous connection to PostgreSQL: `PgConnection`, a `PooledConnection`, and the
/// connection inside a guard. See [*Row-Level Locks*], section 13.3.2 of the PostgreSQL
/// documentation.
///
/// Each method loads a query with its rows locked. The query is any select that PostgreSQL can
/// lock: a table, a filtered query, an inner join (the rows of all its tables are locked), an
/// alias, a boxed query. The first type parameter is the row's type. For other strengths, `OF` and
/// outer joins, put the lock on the query with [`RowLockDsl`](crate::RowLockDsl), and run it with
/// [`select_locked`](Self::select_locked).
///
/// The first time that a connection prepares a statement costs one round trip more than the docs
/// of the methods say.
///
/// # Transactions
///
/// The locks end with the transaction. One must be open, and one that Diesel knows of: through
/// `transaction`, `build_transaction` or `begin_test_transaction`, not through a `BEGIN` of one's
/// own. A failure leaves it aborted, as PostgreSQL does: pass the error on. Inside a nested
/// `transaction`, which is a savepoint, only that one is lost. The method that begins with `try_`
/// has such a savepoint of its own.
///
/// # Pools
///
/// Nothing is left behind in a connection that goes back to a pool: Diesel's transaction has
/// ended by then.
///
/// # Errors
///
/// Beside those that a method names, all of them have:
///
/// - [`LockError::NotInTransaction`]: no transaction is open; nothing was sent.
/// - [`LockError::Deadlock`]: unless it does not wait.
/// - [`LockError::SerializationFailure`]: under REPEATABLE READ or SERIALIZABLE, one of the rows
///   was changed after the transaction's snapshot.
/// - [`LockError::Database`]: among others what PostgreSQL refuses to lock, such as `DISTINCT`,
///   `GROUP BY`, aggregates, set operations, and the nullable side of an outer join.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// conn.transaction::<_, LockError, _>(|conn| {
///     let balance = accounts::table.find(1).select(accounts::balance);
///     assert_eq!(conn.select_for_update_nowait::<i64, _>(balance)?, [100]);
///
///     let owners = accounts::table.select(accounts::owner);
///     match conn.try_select_for_update::<String, _>(owners)? {
///         Some(owners) => assert_eq!(owners.len(), 2),
///         None => { /* somebody has locked one of them; the transaction goes on */ }
///     }
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
pub trait RowLockExt: LoadConnection<Backend = Pg> + Sized {
    /// Loads `query` and locks its rows `FOR UPDATE`, and waits for those that another
    /// transaction has locked.
    ///
    /// One round trip, as the same select without the lock. The wait has no end but the session's
    /// own `lock_timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: the session's `lock_timeout` ended the wait.
    fn select_for_update<'query, U, Q>(&mut self, query: Q) -> Result<Vec<U>, LockError>
    where
        Q: AsQuery,
        Locked<Q::Query, RowLock<ForUpdate>>: LoadQuery<'query, Self, U>,
    {
        self.select_locked(Locked::new(query.as_query(), RowLock::for_update()))
    }

    /// Loads `query` and locks its rows `FOR UPDATE`, or fails at once if another transaction
    /// has locked one of them.
    ///
    /// One round trip, as the same select without the lock.
    ///
    /// # Errors
    ///
    /// [`LockError::NotAvailable`]: another transaction has locked one of the rows.
    fn select_for_update_nowait<'query, U, Q>(&mut self, query: Q) -> Result<Vec<U>, LockError>
    where
        Q: AsQuery,
        Locked<Q::Query, RowLock<ForUpdate, AllTables, NoWait>>: LoadQuery<'query, Self, U>,
    {
        self.select_locked(Locked::new(
            query.as_query(),
            RowLock::for_update().nowait(),
        ))
    }

    /// Loads `query` and locks its rows `FOR UPDATE`, and waits for each row that another
    /// transaction has locked for at most `timeout`, measured by the server.
    ///
    /// Three round trips: the first one sets the transaction's `lock_timeout`, and the last one
    /// puts back what it was. Whole milliseconds, rounded up: see
    /// [`Wait::Timeout`](crate::Wait::Timeout).
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another transaction had one of the rows for so long.
    fn select_for_update_timeout<'query, U, Q>(
        &mut self,
        query: Q,
        timeout: Duration,
    ) -> Result<Vec<U>, LockError>
    where
        Q: AsQuery,
        Locked<Q::Query, RowLock<ForUpdate>>: LoadQuery<'query, Self, U>,
    {
        transaction::require(self)?;
        lock_timeout::within(self, timeout, |conn| conn.select_for_update(query))
    }

    /// Loads `query` and locks its rows `FOR UPDATE`, or gives `None` at once if another
    /// transaction has locked one of them, and then the transaction stays usable.
    ///
    /// Three round trips: the attempt has a savepoint of its own.
    ///
    /// # Errors
    ///
    /// Those of the trait. They leave the transaction as it was before the attempt.
    fn try_select_for_update<'query, U, Q>(&mut self, query: Q) -> Result<Option<Vec<U>>, LockError>
    where
        Q: AsQuery,
        Locked<Q::Query, RowLock<ForUpdate, AllTables, NoWait>>: LoadQuery<'query, Self, U>,
    {
        transaction::require(self)?;
        LockError::unless_not_available(
            self.transaction(|conn| conn.select_for_update_nowait(query)),
        )
    }

    /// Loads `query` without the rows that another transaction has locked, and locks the others
    /// `FOR UPDATE`.
    ///
    /// One round trip, as the same select without the lock. It never waits for a row: so workers
    /// share a queue.
    ///
    /// # Errors
    ///
    /// Those of the trait.
    fn select_for_update_skip_locked<'query, U, Q>(&mut self, query: Q) -> Result<Vec<U>, LockError>
    where
        Q: AsQuery,
        Locked<Q::Query, RowLock<ForUpdate, AllTables, SkipLocked>>: LoadQuery<'query, Self, U>,
    {
        self.select_locked(Locked::new(
            query.as_query(),
            RowLock::for_update().skip_locked(),
        ))
    }

    /// Loads a query that has its lock already, by
    /// [`lock_rows`](crate::RowLockDsl::lock_rows).
    ///
    /// One round trip, as the query itself: this adds the check for a transaction, and the typed
    /// errors.
    ///
    /// # Errors
    ///
    /// [`LockError::NotAvailable`]: with `nowait`, another transaction has locked one of the rows.
    /// [`LockError::Timeout`]: the session's `lock_timeout` ended a wait.
    fn select_locked<'query, U, Q>(&mut self, query: Q) -> Result<Vec<U>, LockError>
    where
        Q: LoadQuery<'query, Self, U> + RunQueryDsl<Self>,
    {
        transaction::require(self)?;
        Ok(query.load(self)?)
    }
}

impl<C: LoadConnection<Backend = Pg>> RowLockExt for C {}
