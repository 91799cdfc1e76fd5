use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use diesel::migration::MigrationVersion;
use diesel::result::{DatabaseErrorKind, Error};

use crate::error::{Condition, chain, condition_of};
use crate::{AdvisoryLock, LockError, SessionInfo};

pub(crate) type Boxed = Box<dyn StdError + Send + Sync>;

/// Why migrations were not run, or not all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// Another process has held the migration lock for longer than
    /// [`MigrationLock::timeout`](crate::MigrationLock::timeout).
    #[error(
        "{lock} was not granted within {after:?}: {}",
        listed("held by ", holders)
    )]
    #[non_exhaustive]
    Timeout {
        /// The migration lock.
        lock: AdvisoryLock,
        /// The limit.
        after: Duration,
        /// Who has the lock; nobody, if it was let go just now.
        holders: Vec<SessionInfo>,
    },
    /// The migration lock could not be taken, or was not this session's any more.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// A migration failed. The ones before it are applied.
    ///
    /// One in a transaction has left nothing behind.
    #[error(
        "migration {migration} failed{}{}", attempts_text(*attempts), listed("; in the way: ", in_the_way)
    )]
    #[non_exhaustive]
    Failed {
        /// Its name.
        migration: String,
        /// How often it was tried.
        attempts: u32,
        /// Who held locks on its tables, if it was a lock that it failed for.
        in_the_way: Vec<SessionInfo>,
        /// What it failed for.
        source: Boxed,
    },
    /// A migration that runs outside a transaction has left an index unfinished, now or when it was
    /// interrupted before. It is in the way of the next attempt.
    ///
    /// [`MigrationLock::drop_invalid_indexes`](crate::MigrationLock::drop_invalid_indexes) has it
    /// dropped.
    #[error(
        "migration {migration} has left {}: have it dropped by `DROP INDEX CONCURRENTLY`, or by \
         `MigrationLock::drop_invalid_indexes(true)`, and migrate again",
        indexes_text(indexes)
    )]
    #[non_exhaustive]
    LeftoverIndex {
        /// The migration's name.
        migration: String,
        /// What it has left.
        indexes: Vec<LeftoverIndex>,
        /// What it failed for; nothing, if it passed the index over by `IF NOT EXISTS`.
        source: Option<Boxed>,
    },
    /// The source of the migrations could not be read.
    #[error("the migrations could not be read")]
    Unreadable(#[source] Boxed),
    /// A version is applied, and cannot be reverted, because the source does not have it.
    #[error("migration {version} is applied, but it is not among the migrations to revert")]
    #[non_exhaustive]
    UnknownVersion {
        /// The version.
        version: MigrationVersion<'static>,
    },
    /// There is nothing to revert, or no migration to run next.
    #[error("there is no such migration")]
    NoMigration,
}

impl MigrateError {
    /// What the error says of a lock, as [`condition`](crate::condition()) does: for
    /// [`Failed`](Self::Failed) it is what the migration failed for.
    pub fn condition(&self) -> Option<Condition> {
        match self {
            Self::Timeout { .. } => Some(Condition::Timeout),
            Self::Lock(error) => error.condition(),
            Self::Failed { source, .. } => condition(&**source),
            Self::LeftoverIndex { source, .. } => source.as_ref().and_then(|e| condition(&**e)),
            _ => None,
        }
    }
}

impl From<Error> for MigrateError {
    fn from(error: Error) -> Self {
        Self::Lock(error.into())
    }
}

/// An index that an interrupted migration has left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftoverIndex {
    /// Its name, with the schema.
    pub index: String,
    /// Its table, with the schema.
    pub table: String,
    /// Whether it was finished all the same: then the migration was interrupted after it.
    pub is_valid: bool,
}

impl fmt::Display for LeftoverIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { index, table, .. } = self;
        let invalid = if self.is_valid { "" } else { "invalid " };
        write!(f, "the {invalid}index {index} on {table}")
    }
}

/// What an error says itself, where it is this crate's or Diesel's.
pub(crate) fn known(error: &(dyn StdError + 'static)) -> Option<Condition> {
    let of_migrations = || chain::pointee(error).and_then(MigrateError::condition);
    chain::known(error).or_else(of_migrations)
}

/// What the failure of a migration says of a lock.
///
/// `diesel_migrations` wraps Diesel's error in a type that cannot be named and has no source, so
/// that its words are all there is.
pub(crate) fn condition(error: &(dyn StdError + 'static)) -> Option<Condition> {
    chain::find(error, known).or_else(|| {
        let text = error.to_string();
        let (_, words) = text.split_once(" with: ")?;
        let words = Box::new(words.to_owned());
        condition_of(&Error::DatabaseError(DatabaseErrorKind::Unknown, words))
    })
}

fn attempts_text(attempts: u32) -> String {
    match attempts {
        1 => String::new(),
        attempts => format!(" {attempts} times"),
    }
}

pub(crate) fn listed(first: &str, sessions: &[SessionInfo]) -> String {
    match sessions {
        [] => String::new(),
        sessions => {
            let sessions: Vec<_> = sessions.iter().map(SessionInfo::to_string).collect();
            format!("{first}{}", sessions.join("; "))
        }
    }
}

fn indexes_text(indexes: &[LeftoverIndex]) -> String {
    let indexes: Vec<_> = indexes.iter().map(LeftoverIndex::to_string).collect();
    indexes.join(" and ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_of_a_lock_what_it_was_made_of_says() {
        let deadlock = || LockError::Deadlock {
            processes: Vec::new(),
            source: Error::NotFound,
        };
        let leftover = |source| MigrateError::LeftoverIndex {
            migration: "1".to_owned(),
            indexes: Vec::new(),
            source,
        };
        for (error, says) in [
            (MigrateError::Lock(deadlock()), Some(Condition::Deadlock)),
            (
                leftover(Some(Box::new(deadlock()))),
                Some(Condition::Deadlock),
            ),
            (leftover(None), None),
            (MigrateError::NoMigration, None),
        ] {
            assert_eq!(error.condition(), says, "{error:?}");
        }
    }
}
