use diesel::connection::{
    Connection, TransactionDepthChange, TransactionManager, TransactionManagerStatus,
};
use diesel::pg::Pg;
use diesel::result::Error;
use diesel_locks::LockError;

/// How much concurrent transactions see of each other: [*Transaction Isolation*], section 13.2
/// of the PostgreSQL documentation.
///
/// [*Transaction Isolation*]: https://www.postgresql.org/docs/current/transaction-iso.html
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// Each statement sees what was committed before it began: PostgreSQL's default.
    ReadCommitted,
    /// All statements see what was committed before the first one began.
    RepeatableRead,
    /// As if the transactions had run one after the other, or else a serialization failure.
    Serializable,
}

/// Begins a transaction that Diesel knows of, for a step that is not in a closure of its own.
///
/// One round trip. Inside a transaction it makes a savepoint.
///
/// # Errors
///
/// Those of the server, such as [`LockError::ConnectionLost`].
pub fn begin<C: Connection>(conn: &mut C) -> Result<(), LockError> {
    Ok(C::TransactionManager::begin_transaction(conn)?)
}

/// Begins a transaction of an isolation level, where none is open.
///
/// One round trip.
///
/// # Errors
///
/// Diesel's `AlreadyInTransaction`, in [`LockError::Database`]: one is open, and nothing was sent.
/// Else those of the server.
pub fn begin_at<C>(conn: &mut C, level: IsolationLevel) -> Result<(), LockError>
where
    C: Connection<Backend = Pg>,
{
    let status = C::TransactionManager::transaction_manager_status_mut(conn);
    if status.transaction_depth()?.is_some() {
        return Err(Error::AlreadyInTransaction.into());
    }
    let level = match level {
        IsolationLevel::ReadCommitted => "READ COMMITTED",
        IsolationLevel::RepeatableRead => "REPEATABLE READ",
        IsolationLevel::Serializable => "SERIALIZABLE",
    };
    conn.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))?;
    match C::TransactionManager::transaction_manager_status_mut(conn) {
        TransactionManagerStatus::Valid(status) => {
            Ok(status.change_transaction_depth(TransactionDepthChange::IncreaseDepth)?)
        }
        TransactionManagerStatus::InError => Err(Error::BrokenTransactionManager.into()),
    }
}

/// Commits the transaction, or releases the savepoint. One round trip.
///
/// # Errors
///
/// [`LockError::SerializationFailure`], for one; the transaction has been rolled back then.
pub fn commit<C: Connection>(conn: &mut C) -> Result<(), LockError> {
    Ok(C::TransactionManager::commit_transaction(conn)?)
}

/// Rolls the transaction back, or to the savepoint. One round trip.
///
/// # Errors
///
/// Those of the server.
pub fn rollback<C: Connection>(conn: &mut C) -> Result<(), LockError> {
    Ok(C::TransactionManager::rollback_transaction(conn)?)
}
