use std::fmt;

/// How a contender stood when all had settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was making its attempt, and no wait was seen.
    Unsettled,
    /// As `Unsettled`, and its session was idle on the server.
    Idle,
    /// It was making its attempt, and waited for another contender.
    Waiting,
    /// It held the lock.
    Holding,
    /// Its attempt was over.
    Ended,
}

/// How the contenders stood when all of them had settled, and what became of them afterwards.
///
/// The order inside each part is that of the contenders.
#[derive(Debug)]
#[must_use = "a test of a lock looks at who got it"]
pub struct Outcome<E> {
    errors: Vec<E>,
    endings: Vec<Result<(), E>>,
    afterwards: Vec<Result<(), E>>,
    unsettled: Vec<Result<(), E>>,
    idle: usize,
}

impl<E> Outcome<E> {
    pub(super) fn new() -> Self {
        Self {
            errors: Vec::new(),
            endings: Vec::new(),
            afterwards: Vec::new(),
            unsettled: Vec::new(),
            idle: 0,
        }
    }

    pub(super) fn add(&mut self, standing: Standing, result: Result<(), E>) {
        self.idle += usize::from(standing == Standing::Idle);
        match (standing, result) {
            (Standing::Ended, Err(error)) => self.errors.push(error),
            (Standing::Ended | Standing::Holding, result) => self.endings.push(result),
            (Standing::Waiting, result) => self.afterwards.push(result),
            (Standing::Unsettled | Standing::Idle, result) => self.unsettled.push(result),
        }
    }

    /// How many had the lock.
    pub fn granted(&self) -> usize {
        self.endings.len()
    }

    /// How many were seen by the server to wait for another contender.
    pub fn waited(&self) -> usize {
        self.afterwards.len()
    }

    /// The errors of those that failed while the others held, or waited for, the lock.
    pub fn errors(&self) -> &[E] {
        &self.errors
    }

    /// What became of those that had not settled when the time was over.
    ///
    /// It is empty unless the test is broken: what its contenders waited for was no other
    /// contender, or was not to be seen, as on a backend other than PostgreSQL.
    pub fn unsettled(&self) -> &[Result<(), E>] {
        &self.unsettled
    }

    /// How many of those that had not settled were idle on the server when the time was over.
    ///
    /// Such a contender hung elsewhere: in its own code, or on a connection of its own, where it
    /// waited for something that is not of the test. It is 0 on a backend other than PostgreSQL.
    pub fn idle(&self) -> usize {
        self.idle
    }

    /// What became of those that waited, once the others had let go.
    pub fn afterwards(&self) -> &[Result<(), E>] {
        &self.afterwards
    }

    /// How those that had the lock let go of it: with an error, if their transaction was not
    /// committed.
    pub fn endings(&self) -> &[Result<(), E>] {
        &self.endings
    }

    /// Every error, of whatever part.
    pub fn into_errors(self) -> Vec<E> {
        let later = self
            .endings
            .into_iter()
            .chain(self.afterwards)
            .chain(self.unsettled);
        self.errors
            .into_iter()
            .chain(later.filter_map(Result::err))
            .collect()
    }
}

/// In words: `1 granted, 1 failed`.
impl<E> fmt::Display for Outcome<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} granted", self.granted())?;
        for (count, what) in [
            (self.errors.len(), "failed"),
            (self.waited(), "waited"),
            (self.unsettled.len(), "not settled in time"),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        match self.idle {
            0 => Ok(()),
            idle => write!(f, " ({idle} idle on the server)"),
        }
    }
}
