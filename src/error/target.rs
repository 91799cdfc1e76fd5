use std::fmt;

use crate::AdvisoryLock;

/// A process of a deadlock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadlockedProcess {
    /// The backend pid of its session.
    pub pid: i32,
    /// The mode of the lock that it waits for, such as `ShareLock`.
    pub mode: String,
    /// What it waits for, such as `transaction 700`; in other languages than English, the whole
    /// line of the server's detail.
    pub object: String,
    /// The backend pid of the session that it waits for.
    pub blocked_by: i32,
}

/// What was to be locked when another session was in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LockTarget {
    /// An advisory lock.
    Advisory(AdvisoryLock),
    /// A row of a table. PostgreSQL names the table, not the row, and not the schema; in French
    /// and Korean it does not tell a row from its table, and this is [`Relation`](Self::Relation).
    Row {
        /// The table.
        relation: String,
    },
    /// A table, or an index or sequence.
    Relation {
        /// Its name, with the schema if the statement named that.
        relation: String,
    },
    /// No lock yet, but a connection of a pool: none is idle.
    Connection,
    /// One of several tables that were asked for together: PostgreSQL does not say which.
    OneOf {
        /// Their names, as of one.
        relations: Vec<String>,
    },
}

impl fmt::Display for LockTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Advisory(lock) => lock.fmt(f),
            Self::Row { relation } => write!(f, "a row of \"{relation}\""),
            Self::Relation { relation } => write!(f, "\"{relation}\""),
            Self::Connection => f.write_str("a connection of the pool"),
            Self::OneOf { relations } => write!(f, "one of \"{}\"", relations.join("\", \"")),
        }
    }
}
