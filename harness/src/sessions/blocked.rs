use std::fmt;

/// What a step waits for, as the server says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    pub(super) by: Vec<String>,
    pub(super) lock: String,
}

impl Blocked {
    /// The names of the sessions that it waits for, in the order in which they were opened: those
    /// that hold the lock, and those that wait for it and are to have it first.
    ///
    /// It is empty where a step holds the lock on a connection of its own, such as a pool's: the
    /// server can't say whose that is.
    pub fn by(&self) -> &[String] {
        &self.by
    }

    /// The lock in words: its mode in `pg_locks`, and what is locked, such as
    /// `ShareLock on a row of accounts`. It is empty where the server did not say:
    /// because the wait was over just then, or is not for a lock but for a snapshot.
    pub fn lock(&self) -> &str {
        &self.lock
    }
}

/// In words: `waits for first: ShareLock on a row of accounts`.
impl fmt::Display for Blocked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.by.as_slice() {
            [] => f.write_str("waits for a connection that is no session's")?,
            by => write!(f, "waits for {}", by.join(", "))?,
        }
        match self.lock.as_str() {
            "" => Ok(()),
            lock => write!(f, ": {lock}"),
        }
    }
}
