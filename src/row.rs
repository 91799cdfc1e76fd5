use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AsQuery, AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::LoadQuery;
use diesel::{QueryResult, RunQueryDsl};

use crate::LockError;
use crate::transaction;

/// Row locks on a connection.
///
/// For every synchronous connection to PostgreSQL: `PgConnection`, a `PooledConnection`, and the
/// connection inside a guard. See [*Row-Level Locks*], section 13.3.2 of the PostgreSQL
/// documentation.
///
/// [*Row-Level Locks*]: https://www.postgresql.org/docs/current/explicit-locking.html#LOCKING-ROWS
pub trait RowLockExt: LoadConnection<Backend = Pg> + Sized {
    /// Loads `query` and locks its rows `FOR UPDATE`, or fails at once if another transaction
    /// has locked one of them.
    ///
    /// `query` is any select that PostgreSQL can lock: a table, a filtered query, an inner join
    /// (the rows of all its tables are locked), a boxed query. The locks end with the
    /// transaction. The first type parameter is the row's type.
    ///
    /// It costs one round trip, as the same select does without the lock, and a second one the
    /// first time that a connection prepares the statement.
    ///
    /// # Transactions
    ///
    /// A transaction must be open, and one that Diesel knows of: through `transaction`,
    /// `build_transaction` or `begin_test_transaction`, not through a `BEGIN` of one's own. A
    /// failure leaves it aborted, as PostgreSQL does: pass the error on. Inside a nested
    /// `transaction`, which is a savepoint, only that one is lost.
    ///
    /// # Pools
    ///
    /// Nothing is left behind in a connection that goes back to a pool: Diesel's transaction has
    /// ended by then.
    ///
    /// # Errors
    ///
    /// - [`LockError::NotAvailable`]: another transaction has locked one of the rows.
    /// - [`LockError::NotInTransaction`]: no transaction is open; nothing was sent.
    /// - [`LockError::SerializationFailure`]: under REPEATABLE READ or SERIALIZABLE, one of the
    ///   rows was changed after the transaction's snapshot.
    /// - [`LockError::Database`]: among others what PostgreSQL refuses to lock, such as
    ///   `DISTINCT`, `GROUP BY`, aggregates, set operations, and the nullable side of an outer
    ///   join.
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
    ///     let balance = conn.select_for_update_nowait::<i64, _>(balance)?;
    ///     assert_eq!(balance, [100]);
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    fn select_for_update_nowait<'query, U, Q>(&mut self, query: Q) -> Result<Vec<U>, LockError>
    where
        Q: AsQuery,
        ForUpdateNoWait<Q::Query>: LoadQuery<'query, Self, U>,
    {
        if transaction::depth(self)?.is_none() {
            return Err(LockError::NotInTransaction);
        }
        let query = ForUpdateNoWait {
            query: query.as_query(),
        };
        Ok(query.load(self)?)
    }
}

impl<C: LoadConnection<Backend = Pg>> RowLockExt for C {}

/// A select with `FOR UPDATE NOWAIT` at its end.
///
/// The query that [`RowLockExt::select_for_update_nowait`] runs. Unlike Diesel's own
/// `for_update().no_wait()` it can also be made of a boxed query.
#[derive(Debug, Clone, Copy, QueryId)]
pub struct ForUpdateNoWait<Q> {
    query: Q,
}

impl<Q: QueryFragment<Pg>> QueryFragment<Pg> for ForUpdateNoWait<Q> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.query.walk_ast(out.reborrow())?;
        out.push_sql(" FOR UPDATE NOWAIT");
        Ok(())
    }
}

impl<Q: Query> Query for ForUpdateNoWait<Q> {
    type SqlType = Q::SqlType;
}

impl<Q: Query, C> RunQueryDsl<C> for ForUpdateNoWait<Q> {}
