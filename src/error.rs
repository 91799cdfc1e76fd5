mod acquire;
pub(crate) mod chain;
mod classify;
mod condition;
mod messages;
mod target;

use std::time::Duration;

use diesel::ConnectionError;
use diesel::result::Error;

use crate::{AdvisoryLock, Wait};
pub use acquire::AcquireError;
use classify::{Class, classify};
pub use condition::Condition;
pub use target::{DeadlockedProcess, LockTarget};

/// Why a lock was not taken, not kept, or not let go.
///
/// `From<diesel::result::Error>` classifies, so that `?` is enough in a function, or in a closure
/// for Diesel's `transaction`, that returns this error. Diesel's own error is always its
/// [`source`](std::error::Error::source).
///
/// PostgreSQL's SQLSTATE cannot be had from Diesel 2.3, so the classification reads the server's
/// messages, in the languages of PostgreSQL's own catalogues. Translations change between minor
/// releases; what is not recognised is [`Database`](Self::Database), with Diesel's error
/// untouched. [`use_english_messages`](crate::use_english_messages) makes a server speak English,
/// which never changes, and an administrator makes that permanent with one statement:
/// `ALTER ROLE app SET lc_messages = 'C'`.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, prelude::*};
/// use diesel_locks_harness::TestDatabase;
///
/// fn lead(conn: &mut PgConnection) -> Result<&'static str, LockError> {
///     match conn.advisory_lock_nowait("gold_leader") {
///         Ok(leader) => leader.release().map(|()| "led"),
///         Err(error) if error.is_contention() => Ok("somebody else leads"),
///         Err(error) => Err(error),
///     }
/// }
///
/// let database = TestDatabase::new()?;
/// assert_eq!(lead(&mut PgConnection::establish(database.url())?)?, "led");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Another session is in the way, and the caller chose not to wait.
    ///
    /// PostgreSQL's `lock_not_available` (55P03), or a refusal by `pg_try_advisory_lock`, which
    /// is no error for PostgreSQL and has no source.
    #[error("{}", not_available(target))]
    #[non_exhaustive]
    NotAvailable {
        /// What was to be locked.
        target: LockTarget,
        /// Diesel's error, where the server raised one.
        source: Option<Error>,
    },
    /// The wait for a lock took longer than `lock_timeout` (55P03).
    #[error(
        "{} was not granted within {}",
        or_the_lock(target),
        or_lock_timeout(after)
    )]
    #[non_exhaustive]
    Timeout {
        /// What was waited for, where that is known: PostgreSQL does not say it.
        target: Option<LockTarget>,
        /// How long the wait was, where a method of this crate has set it.
        after: Option<Duration>,
        /// Diesel's error, where the server raised one: it does not know of a wait for a pool.
        source: Option<Error>,
    },
    /// PostgreSQL ended this transaction to resolve a deadlock (40P01).
    #[error("the transaction was ended to resolve a deadlock")]
    #[non_exhaustive]
    Deadlock {
        /// The server processes in the cycle, this session's first, each blocked by the next;
        /// empty where the server's detail could not be read.
        processes: Vec<DeadlockedProcess>,
        /// Diesel's error.
        source: Error,
    },
    /// The transaction cannot be ordered with concurrent ones (40001): run it again.
    #[error("the transaction cannot be serialized with concurrent ones")]
    #[non_exhaustive]
    SerializationFailure {
        /// Diesel's error.
        source: Error,
    },
    /// The statement took longer than `statement_timeout` (57014).
    #[error("the statement did not end within statement_timeout")]
    #[non_exhaustive]
    StatementTimeout {
        /// Diesel's error.
        source: Error,
    },
    /// The statement was cancelled, by `pg_cancel_backend` for one (57014).
    #[error("the statement was cancelled")]
    #[non_exhaustive]
    Canceled {
        /// Diesel's error.
        source: Error,
    },
    /// The lock ends with the transaction, and there is none. Nothing was sent to the server.
    #[error("this lock ends with its transaction, and no transaction is open")]
    NotInTransaction,
    /// An earlier statement of the transaction failed, and it takes no more until it is rolled
    /// back (25P02).
    #[error("the transaction is aborted and has to be rolled back")]
    #[non_exhaustive]
    TransactionAborted {
        /// Diesel's error.
        source: Error,
    },
    /// The guard's lock was gone before the guard let go of it: somebody else may have held it
    /// meanwhile.
    #[error("{lock} was no longer held by this session")]
    #[non_exhaustive]
    NotHeld {
        /// The guard's lock.
        lock: AdvisoryLock,
    },
    /// The connection now talks to another server session than the one that took the lock, so
    /// the lock cannot be let go through it. A pooler in transaction mode does that.
    #[error("{lock} was taken by server process {locked_by}, but the connection is now at {now}")]
    #[non_exhaustive]
    SessionChanged {
        /// The guard's lock.
        lock: AdvisoryLock,
        /// The backend pid of the session that took the lock.
        locked_by: i32,
        /// The backend pid of the session that the connection has now.
        now: i32,
    },
    /// Other clients use the same server session as this connection, as through a pooler in
    /// transaction mode, and one of them has a lock there or has left one, or the connection has
    /// moved to another session since its last lock; or, for migrations, the pooler shows in the
    /// names of prepared statements. To the server all of them are one, so the lock would keep nobody
    /// out. Nothing was taken: connect directly, or take a lock of the transaction.
    #[error(
        "{lock} was not taken, because the connection shares its server session with other \
         clients, as through a pooler in transaction mode"
    )]
    #[non_exhaustive]
    SharedSession {
        /// The lock that was asked for.
        lock: AdvisoryLock,
    },
    /// The connection to the server is gone, and every lock of its session with it.
    #[error("the connection to the server is lost")]
    #[non_exhaustive]
    ConnectionLost {
        /// Diesel's error.
        source: Error,
    },
    /// The server has not answered for so long; the session may have the lock still, or not.
    #[cfg(feature = "watch")]
    #[error("the server has not answered for {after:?}")]
    #[non_exhaustive]
    Unresponsive {
        /// How long.
        after: std::time::Duration,
    },
    /// The operating system gave no thread to watch a lock with.
    #[cfg(feature = "watch")]
    #[error("no thread could be started to watch the lock")]
    Watch(#[source] std::io::Error),
    /// A connection could not be opened.
    #[error("could not connect to the database")]
    Connection(#[source] ConnectionError),
    /// The pool lent no connection, and not because the caller chose not to wait for one.
    #[cfg(feature = "r2d2")]
    #[error("the pool lent no connection")]
    Pool(#[source] diesel::r2d2::PoolError),
    /// Anything else that Diesel reports, as it came.
    #[error("the database reported an error")]
    Database(#[source] Error),
}

impl LockError {
    /// What it says of a lock, without the details; `None` where that is nothing, as of a query
    /// that is wrong. [`condition`](crate::condition()) asks the same of an error that wraps this
    /// one.
    pub fn condition(&self) -> Option<Condition> {
        Some(match self {
            Self::NotAvailable { .. } => Condition::NotAvailable,
            Self::Timeout { .. } => Condition::Timeout,
            Self::Deadlock { .. } => Condition::Deadlock,
            Self::SerializationFailure { .. } => Condition::SerializationFailure,
            Self::StatementTimeout { .. } => Condition::StatementTimeout,
            Self::Canceled { .. } => Condition::Canceled,
            Self::NotInTransaction => Condition::NotInTransaction,
            Self::TransactionAborted { .. } => Condition::TransactionAborted,
            Self::NotHeld { .. } => Condition::NotHeld,
            Self::SessionChanged { .. } => Condition::SessionChanged,
            Self::SharedSession { .. } => Condition::SharedSession,
            Self::ConnectionLost { .. } => Condition::ConnectionLost,
            _ => return None,
        })
    }

    /// Whether another session was in the way: [`NotAvailable`](Self::NotAvailable) or
    /// [`Timeout`](Self::Timeout).
    pub fn is_contention(&self) -> bool {
        self.condition().is_some_and(Condition::is_contention)
    }

    /// Whether the same transaction, run again from its start, may well succeed:
    /// [`Deadlock`](Self::Deadlock) or [`SerializationFailure`](Self::SerializationFailure).
    pub fn is_retryable(&self) -> bool {
        self.condition().is_some_and(Condition::is_retryable)
    }

    /// For the methods that begin with `try_`.
    pub(crate) fn unless_not_available<T>(taken: Result<T, Self>) -> Result<Option<T>, Self> {
        match taken {
            Ok(taken) => Ok(Some(taken)),
            Err(Self::NotAvailable { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Adds to a timeout what was waited for.
    pub(crate) fn waiting_for(mut self, lock: AdvisoryLock) -> Self {
        if let Self::Timeout { target, .. } = &mut self {
            *target = Some(LockTarget::Advisory(lock));
        }
        self
    }

    /// Adds to a timeout how long the wait was.
    pub(crate) fn after(mut self, wait: Wait) -> Self {
        if let (Self::Timeout { after, .. }, Wait::Timeout(timeout)) = (&mut self, wait) {
            *after = Some(timeout);
        }
        self
    }
}

/// The [`LockError::condition`] of what `error` will become.
pub(crate) fn condition_of(error: &Error) -> Option<Condition> {
    Some(match classify(error) {
        Class::NotAvailable(_) => Condition::NotAvailable,
        Class::LockTimeout => Condition::Timeout,
        Class::Deadlock { .. } => Condition::Deadlock,
        Class::SerializationFailure => Condition::SerializationFailure,
        Class::StatementTimeout => Condition::StatementTimeout,
        Class::Canceled => Condition::Canceled,
        Class::TransactionAborted => Condition::TransactionAborted,
        Class::ConnectionLost => Condition::ConnectionLost,
        Class::Unknown => return None,
    })
}

impl From<Error> for LockError {
    fn from(source: Error) -> Self {
        match classify(&source) {
            Class::NotAvailable(target) => Self::NotAvailable {
                target,
                source: Some(source),
            },
            Class::LockTimeout => Self::Timeout {
                target: None,
                after: None,
                source: Some(source),
            },
            Class::Deadlock { processes } => Self::Deadlock { processes, source },
            Class::SerializationFailure => Self::SerializationFailure { source },
            Class::StatementTimeout => Self::StatementTimeout { source },
            Class::Canceled => Self::Canceled { source },
            Class::TransactionAborted => Self::TransactionAborted { source },
            Class::ConnectionLost => Self::ConnectionLost { source },
            Class::Unknown => Self::Database(source),
        }
    }
}

impl From<ConnectionError> for LockError {
    fn from(source: ConnectionError) -> Self {
        Self::Connection(source)
    }
}

#[cfg(feature = "r2d2")]
impl From<diesel::r2d2::PoolError> for LockError {
    fn from(source: diesel::r2d2::PoolError) -> Self {
        Self::Pool(source)
    }
}

fn not_available(target: &LockTarget) -> String {
    match target {
        LockTarget::Connection => "no connection of the pool is idle".to_owned(),
        target => format!("{target} is locked by another session"),
    }
}

fn or_the_lock(target: &Option<LockTarget>) -> String {
    target
        .as_ref()
        .map_or_else(|| "the lock".to_owned(), LockTarget::to_string)
}

fn or_lock_timeout(after: &Option<Duration>) -> String {
    after.map_or_else(|| "lock_timeout".to_owned(), |after| format!("{after:?}"))
}
