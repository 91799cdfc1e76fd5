use std::fmt;

use diesel::deserialize;

/// How strong a lock is: PostgreSQL's modes, which are for all kinds of locks the same. An exclusive
/// advisory lock is [`Exclusive`](Self::Exclusive), a shared one is [`Share`](Self::Share).
///
/// Written as `pg_locks` has them: `AccessShareLock`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum LockMode {
    /// Only notes what a serializable transaction has read; it is in nobody's way.
    SIRead,
    /// A table that is read.
    AccessShare,
    /// A table of which rows are locked.
    RowShare,
    /// A table that is written to.
    RowExclusive,
    /// `VACUUM`, `CREATE INDEX CONCURRENTLY` and others.
    ShareUpdateExclusive,
    /// `CREATE INDEX`; a wait for another transaction; a shared advisory lock.
    Share,
    /// `CREATE TRIGGER` and others.
    ShareRowExclusive,
    /// An exclusive advisory lock; what a transaction has of itself.
    Exclusive,
    /// `ALTER TABLE`, `TRUNCATE` and others.
    AccessExclusive,
}

const NAMES: [(LockMode, &str); 9] = [
    (LockMode::SIRead, "SIReadLock"),
    (LockMode::AccessShare, "AccessShareLock"),
    (LockMode::RowShare, "RowShareLock"),
    (LockMode::RowExclusive, "RowExclusiveLock"),
    (LockMode::ShareUpdateExclusive, "ShareUpdateExclusiveLock"),
    (LockMode::Share, "ShareLock"),
    (LockMode::ShareRowExclusive, "ShareRowExclusiveLock"),
    (LockMode::Exclusive, "ExclusiveLock"),
    (LockMode::AccessExclusive, "AccessExclusiveLock"),
];

impl LockMode {
    pub(super) fn read(name: &str) -> deserialize::Result<Self> {
        let found = NAMES.iter().find(|(_, known)| *known == name);
        found
            .map(|(mode, _)| *mode)
            .ok_or_else(|| format!("unknown mode of a lock: {name}").into())
    }
}

impl fmt::Display for LockMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(mode, _)| mode == self);
        f.pad(name.map_or("", |(_, name)| name))
    }
}
