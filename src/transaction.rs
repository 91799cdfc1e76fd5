//! What Diesel knows of a connection's transaction.

use std::num::NonZeroU32;

use diesel::connection::{Connection, TransactionManager};
use diesel::pg::Pg;
use diesel::result::{Error, QueryResult};

/// How many transactions are open: one, and a savepoint for each further one.
pub(crate) fn depth<C: Connection>(conn: &mut C) -> QueryResult<Option<NonZeroU32>> {
    C::TransactionManager::transaction_manager_status_mut(conn).transaction_depth()
}

/// Marks the connection as broken, so that a pool does not lend it again.
pub(crate) fn poison<C: Connection>(conn: &mut C) {
    C::TransactionManager::transaction_manager_status_mut(conn).set_in_error();
}

/// Runs `work` although the transaction at `depth` is aborted, and leaves it aborted.
///
/// The innermost savepoint is rolled back, or else the transaction, which is all that its owner
/// can still do with it; then a statement that must fail aborts it anew, so that nothing that
/// follows can be taken for part of the transaction that was lost.
pub(crate) fn while_aborted<C, T>(
    conn: &mut C,
    depth: NonZeroU32,
    work: impl FnOnce(&mut C) -> QueryResult<T>,
) -> QueryResult<T>
where
    C: Connection<Backend = Pg>,
{
    match depth.get() - 1 {
        // One batch: after a ROLLBACK alone, Diesel would take the transaction for ended.
        0 => conn.batch_execute("ROLLBACK; BEGIN")?,
        savepoint => {
            conn.batch_execute(&format!(
                "ROLLBACK TO SAVEPOINT diesel_savepoint_{savepoint}"
            ))?;
        }
    }
    let done = work(conn);
    match conn.batch_execute(r#"ROLLBACK TO SAVEPOINT "diesel_locks: aborted as before""#) {
        Err(_) => done,
        Ok(()) => Err(Error::BrokenTransactionManager),
    }
}
