use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_dsl::methods::LoadQuery;

use super::clause::{ForUpdate, RowLock, SkipLocked};
use super::count::Count;
use super::dsl::{LockRows, RowLockDsl};
use super::endings::endings;
use super::load::{count, load, one};
use super::locked::LockedQuery;
use super::of::AllTables;
use crate::{LockError, Wait, lock_timeout};

/// Row locks on a connection.
///
/// For every synchronous connection to PostgreSQL: `PgConnection`, a `PooledConnection`, and the
/// connection inside a guard. See [*Row-Level Locks*], section 13.3.2 of the PostgreSQL
/// documentation.
///
/// Each method runs a query with its rows locked, `select_…` for all of them, `get_…` for one, and
/// `execute_…` for their number:
///
/// | | `FOR UPDATE` | the lock that the query has |
/// |---|---|---|
/// | a `Vec` of the rows | `select_for_update…` | `select_locked…` |
/// | one row | `get_for_update…` | `get_locked…` |
/// | how many, and no row is sent | `execute_for_update…` | `execute_locked…` |
///
/// For `FOR UPDATE`, the query is any select that PostgreSQL can lock: a table, a filtered query,
/// an inner join (the rows of all its tables are locked), an alias, a boxed query. What can be
/// seen by its type to be none, such as `DISTINCT`, does not compile:
///
/// ```compile_fail,E0277
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, prelude::*};
///
/// fn owners(conn: &mut PgConnection) -> Result<Vec<String>, LockError> {
///     // error: the rows of `SelectStatement<…>` cannot be locked
///     conn.select_for_update(accounts::table.select(accounts::owner).distinct())
/// }
/// # fn main() {}
/// ```
///
/// For other strengths, `OF` and outer joins, put the lock on the query with
/// [`lock_rows`](RowLockDsl::lock_rows). A query without a lock does not compile:
///
/// ```compile_fail,E0277
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, prelude::*};
///
/// fn owners(conn: &mut PgConnection) -> Result<Vec<String>, LockError> {
///     // error: `SelectStatement<…>` has no lock, so none of its rows would be locked
///     conn.select_locked(accounts::table.select(accounts::owner))
/// }
/// # fn main() {}
/// ```
///
/// The first type parameter is the row's type. The first time that a connection prepares a
/// statement costs one round trip more than the docs of the methods say.
///
/// # Transactions
///
/// The locks end with the transaction. One must be open, and one that Diesel knows of: through
/// `transaction`, `build_transaction` or `begin_test_transaction`, not through a `BEGIN` of one's
/// own. A failure leaves it aborted, as PostgreSQL does: pass the error on. Inside a nested
/// `transaction`, which is a savepoint, only that one is lost. A method that begins with `try_`
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
/// use std::time::Duration;
///
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, RowLock, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// conn.transaction::<_, LockError, _>(|conn| {
///     let account = accounts::table.find(1);
///     let balance: i64 = conn.get_for_update_nowait(account.select(accounts::balance))?;
///     assert_eq!(balance, 100);
///
///     let owners = accounts::table.select(accounts::owner);
///     match conn.try_select_for_update::<String, _>(owners)? {
///         Some(owners) => assert_eq!(owners.len(), 2),
///         None => { /* somebody has locked one of them; the transaction goes on */ }
///     }
///
///     let all = accounts::table.lock_rows(RowLock::for_share());
///     assert_eq!(conn.execute_locked_timeout(all, Duration::from_secs(1))?, 2);
///     Ok(())
/// })?;
/// # Ok(())
/// # }
/// ```
pub trait RowLockExt: LoadConnection<Backend = Pg> + Sized {
    /// Loads `query` and locks its rows `FOR UPDATE`, and waits as `wait` says.
    ///
    /// As many round trips as the method that is called after what `wait` says.
    ///
    /// # Errors
    ///
    /// Those of that method.
    fn select_for_update_wait<'query, U, How>(
        &mut self,
        query: impl LockRows<
            RowLock<ForUpdate>,
            How,
            Output: LoadQuery<'query, Self, U>,
            Nowait: LoadQuery<'query, Self, U>,
        >,
        wait: Wait,
    ) -> Result<Vec<U>, LockError> {
        self.select_locked_wait(query.lock_rows(RowLock::for_update()), wait)
    }

    endings! {
        does: "Loads `query` and locks its rows `FOR UPDATE`",
        at_once: NoWait "Only for a table that an `ALTER TABLE` has locked, it waits one millisecond.",
        none: "",
        query: ['query, U, How] impl LockRows<
            RowLock<ForUpdate>,
            How,
            Output: LoadQuery<'query, Self, U>,
            Nowait: LoadQuery<'query, Self, U>,
        > => Vec<U>,
        select_for_update_wait, select_for_update, select_for_update_nowait,
        select_for_update_timeout, try_select_for_update
    }

    /// Loads `query` without the rows that another transaction has locked, and locks the others
    /// `FOR UPDATE`. It is for rows: an `ALTER TABLE` that has locked the table, or waits for it,
    /// is waited for, unless the transaction has a
    /// [`with_lock_timeout`](crate::LockTimeoutExt::with_lock_timeout), for two round trips more.
    ///
    /// One round trip, as the same select without the lock. It never waits for a row: so workers
    /// share a queue. For `None` where the table is locked, in three round trips, there is
    /// [`try_select_locked`](Self::try_select_locked) of a query with
    /// [`skip_locked`](RowLock::skip_locked).
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another transaction has locked the table, and the transaction's
    /// `lock_timeout` ended the wait.
    fn select_for_update_skip_locked<'query, U, How>(
        &mut self,
        query: impl LockRows<
            RowLock<ForUpdate, AllTables, SkipLocked>,
            How,
            Output: LoadQuery<'query, Self, U>,
            Nowait: LoadQuery<'query, Self, U>,
        >,
    ) -> Result<Vec<U>, LockError> {
        self.select_locked(query.lock_rows(RowLock::for_update().skip_locked()))
    }

    /// Loads the row of `query` and locks it `FOR UPDATE`, and waits as `wait` says.
    ///
    /// Of several rows it gives the first, and all are locked, as with Diesel's `get_result`.
    ///
    /// As many round trips as the method that is called after what `wait` says.
    ///
    /// # Errors
    ///
    /// Those of that method.
    fn get_for_update_wait<'query, U, How>(
        &mut self,
        query: impl LockRows<
            RowLock<ForUpdate>,
            How,
            Output: LoadQuery<'query, Self, U>,
            Nowait: LoadQuery<'query, Self, U>,
        >,
        wait: Wait,
    ) -> Result<U, LockError> {
        self.get_locked_wait(query.lock_rows(RowLock::for_update()), wait)
    }

    endings! {
        does: "Loads the row of `query` and locks it `FOR UPDATE`",
        at_once: NoWait "Only for a table that an `ALTER TABLE` has locked, it waits one millisecond.",
        none: "\n[`LockError::Database`] with Diesel's `NotFound`: there is no such row.",
        query: ['query, U, How] impl LockRows<
            RowLock<ForUpdate>,
            How,
            Output: LoadQuery<'query, Self, U>,
            Nowait: LoadQuery<'query, Self, U>,
        > => U,
        get_for_update_wait, get_for_update, get_for_update_nowait,
        get_for_update_timeout, try_get_for_update
    }

    /// Loads the first row of `query` that no other transaction has locked, and locks it
    /// `FOR UPDATE`. As [`select_for_update_skip_locked`](Self::select_for_update_skip_locked), it
    /// waits for a table that is locked by an `ALTER TABLE`.
    ///
    /// One round trip. The query should have a `limit(1)`, or all of its rows are locked that can
    /// be.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another transaction has locked the table, and the transaction's
    /// `lock_timeout` ended the wait.
    /// [`LockError::Database`] with Diesel's `NotFound`: there is no such row.
    fn get_for_update_skip_locked<'query, U, How>(
        &mut self,
        query: impl LockRows<
            RowLock<ForUpdate, AllTables, SkipLocked>,
            How,
            Output: LoadQuery<'query, Self, U>,
            Nowait: LoadQuery<'query, Self, U>,
        >,
    ) -> Result<U, LockError> {
        self.get_locked(query.lock_rows(RowLock::for_update().skip_locked()))
    }

    /// Locks the rows of `query` `FOR UPDATE` and says how many they are, and waits as `wait` says.
    ///
    /// The server counts them, and sends none.
    ///
    /// As many round trips as the method that is called after what `wait` says.
    ///
    /// # Errors
    ///
    /// Those of that method.
    fn execute_for_update_wait<How>(
        &mut self,
        query: impl LockRows<RowLock<ForUpdate>, How>,
        wait: Wait,
    ) -> Result<usize, LockError> {
        self.execute_locked_wait(query.lock_rows(RowLock::for_update()), wait)
    }

    endings! {
        does: "Locks the rows of `query` `FOR UPDATE` and says how many they are",
        at_once: NoWait "Only for a table that an `ALTER TABLE` has locked, it waits one millisecond.",
        none: "",
        query: [How] impl LockRows<RowLock<ForUpdate>, How> => usize,
        execute_for_update_wait, execute_for_update, execute_for_update_nowait,
        execute_for_update_timeout, try_execute_for_update
    }

    /// Locks those rows of `query` `FOR UPDATE` that no other transaction has locked, and says how
    /// many they are. As [`select_for_update_skip_locked`](Self::select_for_update_skip_locked),
    /// it waits for a table that is locked by an `ALTER TABLE`.
    ///
    /// One round trip. The server counts the rows, and sends none.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another transaction has locked the table, and the transaction's
    /// `lock_timeout` ended the wait.
    fn execute_for_update_skip_locked<How>(
        &mut self,
        query: impl LockRows<RowLock<ForUpdate, AllTables, SkipLocked>, How>,
    ) -> Result<usize, LockError> {
        self.execute_locked(query.lock_rows(RowLock::for_update().skip_locked()))
    }

    /// Loads `query`, which has a lock, and waits as `wait` says.
    ///
    /// `Wait::NoWait` is `NOWAIT` in place of what the lock says. Otherwise the lock stays as it
    /// is: with [`nowait`](RowLock::nowait) or [`skip_locked`](RowLock::skip_locked), only its
    /// table is waited for.
    ///
    /// As many round trips as the method that is called after what `wait` says.
    ///
    /// # Errors
    ///
    /// Those of that method.
    fn select_locked_wait<'query, U, How>(
        &mut self,
        query: impl LockedQuery<How, Nowait: LoadQuery<'query, Self, U>> + LoadQuery<'query, Self, U>,
        wait: Wait,
    ) -> Result<Vec<U>, LockError> {
        load(self, query, wait)
    }

    endings! {
        does: "Loads `query`, which has a lock",
        at_once: Block "It waits one millisecond at most for each lock, and leaves out what the query's lock does.",
        none: "",
        query: ['query, U, How] impl LockedQuery<How, Nowait: LoadQuery<'query, Self, U>> + LoadQuery<'query, Self, U> => Vec<U>,
        select_locked_wait, select_locked, select_locked_nowait,
        select_locked_timeout, try_select_locked
    }

    /// Loads the row of `query`, which has a lock, and waits as `wait` says.
    ///
    /// Of several rows it gives the first, and all are locked, as with Diesel's `get_result`.
    ///
    /// As many round trips as the method that is called after what `wait` says.
    ///
    /// # Errors
    ///
    /// Those of that method.
    fn get_locked_wait<'query, U, How>(
        &mut self,
        query: impl LockedQuery<How, Nowait: LoadQuery<'query, Self, U>> + LoadQuery<'query, Self, U>,
        wait: Wait,
    ) -> Result<U, LockError> {
        one(self.select_locked_wait(query, wait)?)
    }

    endings! {
        does: "Loads the row of `query`, which has a lock",
        at_once: Block "It waits one millisecond at most for each lock, and leaves out what the query's lock does.",
        none: "\n[`LockError::Database`] with Diesel's `NotFound`: there is no such row.",
        query: ['query, U, How] impl LockedQuery<How, Nowait: LoadQuery<'query, Self, U>> + LoadQuery<'query, Self, U> => U,
        get_locked_wait, get_locked, get_locked_nowait,
        get_locked_timeout, try_get_locked
    }

    /// Locks the rows of `query`, which has a lock, and says how many they are, and waits as `wait` says.
    ///
    /// The server counts them, and sends none.
    ///
    /// As many round trips as the method that is called after what `wait` says.
    ///
    /// # Errors
    ///
    /// Those of that method.
    fn execute_locked_wait<How>(
        &mut self,
        query: impl LockedQuery<How>,
        wait: Wait,
    ) -> Result<usize, LockError> {
        count(self.get_locked_wait(Count(query), wait)?)
    }

    endings! {
        does: "Locks the rows of `query`, which has a lock, and says how many they are",
        at_once: Block "It waits one millisecond at most for each lock, and leaves out what the query's lock does.",
        none: "",
        query: [How] impl LockedQuery<How> => usize,
        execute_locked_wait, execute_locked, execute_locked_nowait,
        execute_locked_timeout, try_execute_locked
    }
}

impl<C: LoadConnection<Backend = Pg>> RowLockExt for C {}
