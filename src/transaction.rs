//! What Diesel knows of a connection's transaction.

use std::num::NonZeroU32;

use diesel::connection::{
    Connection, TransactionDepthChange, TransactionManager, TransactionManagerStatus,
};
use diesel::pg::Pg;
use diesel::result::{Error, QueryResult};

use crate::error::{Condition, LockError, condition_of};

/// How often to try to begin an aborted transaction anew.
const ATTEMPTS: usize = 5;

/// How many transactions are open: one, and a savepoint for each further one.
pub(crate) fn depth<C: Connection>(conn: &mut C) -> QueryResult<Option<NonZeroU32>> {
    C::TransactionManager::transaction_manager_status_mut(conn).transaction_depth()
}

/// Fails if no transaction is open.
pub(crate) fn require<C: Connection>(conn: &mut C) -> Result<(), LockError> {
    match depth(conn)? {
        Some(_) => Ok(()),
        None => Err(LockError::NotInTransaction),
    }
}

/// Marks the connection as broken, until a statement on it succeeds.
pub(crate) fn poison<C: Connection>(conn: &mut C) {
    C::TransactionManager::transaction_manager_status_mut(conn).set_in_error();
}

/// Runs `work`, also in a transaction that is aborted.
///
/// If the transaction could not be left as it was, the error is
/// [`Error::BrokenTransactionManager`], and the connection must be used for nothing else.
pub(crate) fn even_if_aborted<C, T>(
    conn: &mut C,
    mut work: impl FnMut(&mut C) -> QueryResult<T>,
) -> QueryResult<T>
where
    C: Connection<Backend = Pg>,
{
    work(conn).or_else(|error| match depth(conn) {
        // Only what never ran may be run again.
        Ok(depth) if condition_of(&error) == Some(Condition::TransactionAborted) => {
            // None is a `BEGIN` that Diesel does not know of.
            while_aborted(conn, depth.unwrap_or(NonZeroU32::MIN), work)
        }
        _ => Err(error),
    })
}

/// Runs `work` after a statement has failed, and so has aborted a transaction that is open.
///
/// The error is as for [`even_if_aborted`].
pub(crate) fn after_a_failure<C, T>(
    conn: &mut C,
    work: impl FnMut(&mut C) -> QueryResult<T>,
) -> QueryResult<T>
where
    C: Connection<Backend = Pg>,
{
    match depth(conn)? {
        Some(depth) => while_aborted(conn, depth, work),
        None => even_if_aborted(conn, work),
    }
}

/// Runs `work` although the transaction at `depth` is aborted, and leaves it aborted.
///
/// The innermost savepoint is rolled back, or else the transaction, which is all that its owner
/// can still do with it; then a statement that must fail aborts it anew, so that nothing that
/// follows can be taken for part of the transaction that was lost.
fn while_aborted<C, T>(
    conn: &mut C,
    depth: NonZeroU32,
    work: impl FnOnce(&mut C) -> QueryResult<T>,
) -> QueryResult<T>
where
    C: Connection<Backend = Pg>,
{
    let rollback = match depth.get() - 1 {
        // One batch: after a ROLLBACK alone, Diesel would take the transaction for ended.
        0 => "ROLLBACK; BEGIN".to_owned(),
        savepoint => format!("ROLLBACK TO SAVEPOINT diesel_savepoint_{savepoint}"),
    };
    let is_known = self::depth(conn)?.is_some();
    // A cancellation may come between the two, and then no transaction is open.
    let rolled_back = (0..ATTEMPTS).any(|_| conn.batch_execute(&rollback).is_ok());
    if !rolled_back {
        return Err(Error::BrokenTransactionManager);
    }
    if is_known && self::depth(conn)?.is_none() {
        change_depth(conn, TransactionDepthChange::IncreaseDepth)?;
    }
    let done = work(conn);
    match conn.batch_execute(r#"ROLLBACK TO SAVEPOINT "diesel_locks: aborted as before""#) {
        Err(_) => done,
        Ok(()) => Err(Error::BrokenTransactionManager),
    }
}

/// Begins a transaction, where none is open, with `statement` in the same round trip.
///
/// If that fails, none is open either.
pub(crate) fn begin_with<C>(conn: &mut C, statement: &str) -> QueryResult<()>
where
    C: Connection<Backend = Pg>,
{
    if let Err(error) = conn.batch_execute(&format!("BEGIN; {statement}")) {
        // Where this fails too, the connection is lost, and the first error says so.
        let _ = conn.batch_execute("ROLLBACK");
        return Err(error);
    }
    change_depth(conn, TransactionDepthChange::IncreaseDepth)
}

/// Runs `work` in a savepoint, as Diesel's `transaction` does, with `first` in the round trip that
/// makes it, and `last` in that of its release.
pub(crate) fn savepoint_with<C, T>(
    conn: &mut C,
    first: &str,
    last: &str,
    work: impl FnOnce(&mut C) -> Result<T, LockError>,
) -> Result<T, LockError>
where
    C: Connection<Backend = Pg>,
{
    let depth = depth(conn)?.ok_or(LockError::NotInTransaction)?;
    conn.batch_execute(&format!("SAVEPOINT diesel_savepoint_{depth}; {first}"))?;
    change_depth(conn, TransactionDepthChange::IncreaseDepth)?;
    let done = work(conn).and_then(|done| {
        conn.batch_execute(&format!(
            "RELEASE SAVEPOINT diesel_savepoint_{depth}; {last}"
        ))?;
        change_depth(conn, TransactionDepthChange::DecreaseDepth)?;
        Ok(done)
    });
    match done {
        Ok(done) => Ok(done),
        Err(error) => end(conn, Err(error)),
    }
}

/// Tells Diesel of what it has not sent itself.
fn change_depth<C: Connection>(conn: &mut C, change: TransactionDepthChange) -> QueryResult<()> {
    match C::TransactionManager::transaction_manager_status_mut(conn) {
        TransactionManagerStatus::Valid(status) => status.change_transaction_depth(change),
        TransactionManagerStatus::InError => Err(Error::BrokenTransactionManager),
    }
}

/// Rolls back until no more transactions are open than `depth`, as far as that can be done.
#[cfg(feature = "migrations")]
pub(crate) fn roll_back_to<C: Connection>(conn: &mut C, depth: Option<NonZeroU32>) {
    while self::depth(conn).is_ok_and(|now| now > depth) {
        if C::TransactionManager::rollback_transaction(conn).is_err() {
            break;
        }
    }
}

/// Ends a transaction as Diesel's `transaction` does: commits what is `Ok`, and else rolls back.
pub(crate) fn end<C, T, E>(conn: &mut C, done: Result<T, E>) -> Result<T, E>
where
    C: Connection,
    E: From<Error>,
{
    match done {
        Ok(done) => {
            C::TransactionManager::commit_transaction(conn)?;
            Ok(done)
        }
        Err(error) => match C::TransactionManager::rollback_transaction(conn) {
            Ok(()) | Err(Error::BrokenTransactionManager) => Err(error),
            Err(rollback_error) => Err(rollback_error.into()),
        },
    }
}
