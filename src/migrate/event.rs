use std::fmt;
use std::time::Duration;

use crate::migrate_error::{LeftoverIndex, listed};
use crate::{AdvisoryLock, SessionEnd, SessionInfo};

/// What happens while migrations are run, for
/// [`MigrationLock::on_progress`](crate::MigrationLock::on_progress). `Display` is a line of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum MigrationEvent {
    /// Another process has the migration lock. Told once for each holder, and every five seconds.
    #[non_exhaustive]
    Waiting {
        /// The migration lock.
        lock: AdvisoryLock,
        /// Who has it.
        holders: Vec<SessionInfo>,
        /// How long this process has waited.
        waited: Duration,
    },
    /// The migration lock was granted.
    #[non_exhaustive]
    Locked {
        /// The migration lock.
        lock: AdvisoryLock,
        /// How long this process has waited.
        waited: Duration,
    },
    /// Every migration is applied already, or reverted.
    NothingToDo,
    /// A migration begins.
    #[non_exhaustive]
    Began {
        /// Its name.
        migration: String,
        /// Whether it is applied or reverted.
        direction: Direction,
        /// Its number among those that are run, counted from 1.
        number: usize,
        /// How many they are.
        of: usize,
    },
    /// An attempt at a migration failed for a lock, and another one follows.
    #[non_exhaustive]
    Refused {
        /// The migration's name.
        migration: String,
        /// The number of the attempt, counted from 1.
        attempt: u32,
        /// What it failed for.
        error: String,
        /// Who holds locks on the tables that the migration names, and has held them since the
        /// attempt waited for its lock.
        in_the_way: Vec<SessionInfo>,
        /// How long traffic flows until the next attempt.
        pause: Duration,
    },
    /// A session was in the way of a migration with priority, and was ended or spared. Told when the
    /// migrations are over.
    #[non_exhaustive]
    InTheWay {
        /// The session, and what became of it.
        session: SessionEnd,
    },
    /// A migration is done.
    #[non_exhaustive]
    Done {
        /// Its name.
        migration: String,
        /// Whether it was applied or reverted.
        direction: Direction,
        /// How long it took, with all its attempts.
        took: Duration,
    },
    /// A run that was interrupted has done all of a migration but to record it, which this run has
    /// done.
    #[non_exhaustive]
    Recovered {
        /// The migration's name.
        migration: String,
    },
    /// An index was dropped that an interrupted migration had left.
    #[non_exhaustive]
    DroppedIndex {
        /// The index.
        index: LeftoverIndex,
    },
}

/// Whether a migration is applied or reverted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It is applied: `up.sql`.
    Up,
    /// It is reverted: `down.sql`.
    Down,
}

impl fmt::Display for MigrationEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting {
                lock,
                holders,
                waited,
            } => {
                write!(f, "waiting for {lock}, for {}", Rounded(*waited))?;
                f.write_str(&listed(", held by ", holders))
            }
            Self::Locked { lock, waited } => {
                write!(f, "has {lock}, after {}", Rounded(*waited))
            }
            Self::NothingToDo => f.write_str("no migration is pending"),
            Self::Began {
                migration,
                direction,
                number,
                of,
            } => {
                let doing = match direction {
                    Direction::Up => "running",
                    Direction::Down => "reverting",
                };
                write!(f, "{doing} migration {number} of {of}: {migration}")
            }
            Self::Refused {
                migration,
                attempt,
                error,
                in_the_way,
                pause,
            } => {
                write!(
                    f,
                    "attempt {attempt} at migration {migration} failed: {error}"
                )?;
                f.write_str(&listed("; in the way: ", in_the_way))?;
                write!(f, "; again in {}", Rounded(*pause))
            }
            Self::Done {
                migration,
                direction,
                took,
            } => {
                let done = match direction {
                    Direction::Up => "applied",
                    Direction::Down => "reverted",
                };
                write!(f, "{done} migration {migration} in {}", Rounded(*took))
            }
            Self::InTheWay { session } => write!(f, "{session}"),
            Self::Recovered { migration } => write!(
                f,
                "migration {migration} was applied by a run that was interrupted, and is recorded"
            ),
            Self::DroppedIndex { index } => {
                write!(
                    f,
                    "dropped {index}, left by a migration that was interrupted"
                )
            }
        }
    }
}

/// A duration that is read by people.
struct Rounded(Duration);

impl fmt::Display for Rounded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        match milliseconds {
            0..1_000 => write!(f, "{milliseconds} ms"),
            1_000..10_000 => write!(f, "{:.1} s", self.0.as_secs_f64()),
            _ => write!(f, "{} s", self.0.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_shown_by_what_counts_of_it() {
        for (milliseconds, text) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_000, "1.0 s"),
            (9_440, "9.4 s"),
            (10_000, "10 s"),
            (61_900, "61 s"),
        ] {
            let shown = Rounded(Duration::from_millis(milliseconds)).to_string();
            assert_eq!(shown, text);
        }
    }
}
