/// What an error says of a lock, without its details, so that it can be asked of any error, by
/// reference and however that is wrapped: see [`condition`](crate::condition()).
///
/// They are called as the variants of [`LockError`](crate::LockError) are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// Another session is in the way, and the caller chose not to wait (55P03).
    NotAvailable,
    /// The wait for a lock took longer than `lock_timeout` (55P03).
    Timeout,
    /// PostgreSQL ended the transaction to resolve a deadlock (40P01).
    Deadlock,
    /// The transaction cannot be ordered with concurrent ones (40001).
    SerializationFailure,
    /// The statement took longer than `statement_timeout` (57014).
    StatementTimeout,
    /// The statement was cancelled (57014).
    Canceled,
    /// The lock ends with its transaction, and no transaction was open.
    NotInTransaction,
    /// An earlier statement of the transaction had failed (25P02).
    TransactionAborted,
    /// A guard's lock was gone before the guard let go of it.
    NotHeld,
    /// The connection was at another server session than the one that took the lock.
    SessionChanged,
    /// The connection shares its server session with other clients.
    SharedSession,
    /// The connection to the server is gone.
    ConnectionLost,
}

impl Condition {
    /// Whether another session was in the way: [`NotAvailable`](Self::NotAvailable) or
    /// [`Timeout`](Self::Timeout).
    pub fn is_contention(self) -> bool {
        matches!(self, Self::NotAvailable | Self::Timeout)
    }

    /// Whether the same transaction, run again from its start, may well succeed:
    /// [`Deadlock`](Self::Deadlock) or [`SerializationFailure`](Self::SerializationFailure).
    pub fn is_retryable(self) -> bool {
        matches!(self, Self::Deadlock | Self::SerializationFailure)
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::Error;

    use crate::{LockError, LockTarget};

    #[test]
    fn each_error_that_says_something_of_a_lock_has_the_condition_of_its_name() {
        let source = || Error::NotFound;
        let lock = "x".into();
        let errors = [
            LockError::NotAvailable {
                target: LockTarget::Advisory(lock),
                source: None,
            },
            LockError::Timeout {
                target: None,
                after: None,
                source: None,
            },
            LockError::Deadlock {
                processes: Vec::new(),
                source: source(),
            },
            LockError::SerializationFailure { source: source() },
            LockError::StatementTimeout { source: source() },
            LockError::Canceled { source: source() },
            LockError::NotInTransaction,
            LockError::TransactionAborted { source: source() },
            LockError::NotHeld { lock },
            LockError::SessionChanged {
                lock,
                locked_by: 1,
                now: 2,
            },
            LockError::SharedSession { lock },
            LockError::ConnectionLost { source: source() },
        ];
        for error in errors {
            let (shown, condition) = (format!("{error:?}"), error.condition());
            let condition = condition.map(|condition| format!("{condition:?}"));
            assert_eq!(condition.as_deref(), shown.split(' ').next());
        }
        assert_eq!(LockError::Database(source()).condition(), None);
    }
}
