use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::way::{holders_of, lockers_of_rows};
use super::{holders, in_the_way};
use crate::{LockError, LockTarget, SessionInfo};

impl LockError {
    /// Who is in the way now, of a [`NotAvailable`](Self::NotAvailable) or a
    /// [`Timeout`](Self::Timeout); nobody, of any other error. The oldest transaction is the first.
    ///
    /// For an advisory lock these are its holders. For tables, they are the other sessions and
    /// prepared transactions that have a lock on them, or on what belongs to them, such as an index
    /// or a partition: in whichever mode, as the error does not tell which modes are in the way. For
    /// a row they are those that do more than read its table: PostgreSQL does not tell which row it
    /// was. For a timeout of no known target, they are all in this database that have a lock on any
    /// table and have been in their transaction for so long.
    ///
    /// Another one may have taken the lock since, and nobody may hold it any more. One round trip,
    /// on the connection of the error or any other one to the same database.
    ///
    /// ```
    /// use diesel::prelude::*;
    /// use diesel_locks::prelude::*;
    /// use diesel_locks_harness::TestDatabase;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// # let mut here = PgConnection::establish(database.url())?;
    /// # let mut there = PgConnection::establish(database.url())?;
    /// diesel::sql_query("SET application_name = 'billing'").execute(&mut there)?;
    /// let leader = there.advisory_lock("gold_leader")?;
    /// let refused = here.advisory_lock_nowait("gold_leader").map(drop);
    /// let holders = refused.unwrap_err().holders(&mut here)?;
    /// assert_eq!(holders[0].application.as_deref(), Some("billing"));
    /// # leader.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Transactions
    ///
    /// An aborted transaction answers no question: roll it back first, or ask on another connection.
    ///
    /// # Errors
    ///
    /// [`LockError::TransactionAborted`], and [`LockError::Database`].
    pub fn holders<C>(&self, conn: &mut C) -> Result<Vec<SessionInfo>, LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let (target, after) = match self {
            Self::NotAvailable { target, .. } => (Some(target), None),
            Self::Timeout { target, after, .. } => (target.as_ref(), *after),
            _ => return Ok(Vec::new()),
        };
        let found = match target {
            Some(LockTarget::Advisory(lock)) => holders(conn, lock.key()),
            Some(LockTarget::Row { relation }) => lockers_of_rows(conn, relation),
            Some(LockTarget::Relation { relation }) => {
                holders_of(conn, std::slice::from_ref(relation))
            }
            Some(LockTarget::OneOf { relations }) => holders_of(conn, relations),
            // The pool's connections are lent by this process itself.
            Some(LockTarget::Connection) => return Ok(Vec::new()),
            None => in_the_way(conn, &[], after.unwrap_or_default()),
        };
        Ok(found?)
    }
}
