use std::panic::{self, AssertUnwindSafe};

use diesel::QueryResult;
use diesel::connection::{LoadConnection, TransactionManager};
use diesel::pg::Pg;
use diesel::result::Error;

use crate::{AdvisoryLockGuard, LockError, transaction};

/// A connection that has the migration lock.
pub(super) enum Held<'c, C: LoadConnection<Backend = Pg>> {
    /// Of the session.
    Session(AdvisoryLockGuard<'c, C>),
    /// Of the caller's transaction, so that nobody else begins before the commit.
    Transaction(&'c mut C),
}

impl<C: LoadConnection<Backend = Pg>> Held<'_, C> {
    pub(super) fn conn(&mut self) -> &mut C {
        match self {
            Self::Session(guard) => guard,
            Self::Transaction(conn) => conn,
        }
    }

    pub(super) fn is_in_transaction(&self) -> bool {
        matches!(self, Self::Transaction(_))
    }

    /// Fails if the connection does not have the lock any more: behind a pooler in transaction
    /// mode it may have come to another session.
    pub(super) fn verify(&mut self) -> Result<(), LockError> {
        let Self::Session(guard) = self else {
            return Ok(());
        };
        if guard.is_held()? {
            return Ok(());
        }
        match guard.locks().first() {
            Some(&lock) => Err(LockError::NotHeld { lock }),
            None => Ok(()),
        }
    }

    pub(super) fn release(self) -> Result<(), LockError> {
        match self {
            Self::Session(guard) => guard.release(),
            Self::Transaction(_) => Ok(()),
        }
    }

    /// Runs `work` in a transaction, or in a savepoint of the caller's, which ends if `work` panics
    /// too. It has the lock in there: what `work` changes is not changed without it.
    pub(super) fn transaction<T, E>(
        &mut self,
        work: impl FnOnce(&mut C) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error> + From<LockError>,
    {
        self.transaction_begun_by(C::TransactionManager::begin_transaction, work)
    }

    /// The same in a transaction that `begin` begins.
    pub(super) fn transaction_begun_by<T, E>(
        &mut self,
        begin: impl FnOnce(&mut C) -> QueryResult<()>,
        work: impl FnOnce(&mut C) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error> + From<LockError>,
    {
        let depth = transaction::depth(self.conn())?;
        begin(self.conn())?;
        let done = panic::catch_unwind(AssertUnwindSafe(|| {
            self.verify()?;
            work(self.conn())
        }));
        match done {
            Ok(done) => transaction::end(self.conn(), done),
            Err(payload) => {
                // Of the migration's own savepoints, Diesel has left those open that it was in.
                transaction::roll_back_to(self.conn(), depth);
                panic::resume_unwind(payload)
            }
        }
    }
}
