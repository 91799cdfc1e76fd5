use std::any::Any;
use std::error::Error;
use std::fmt;

use crate::chain::words;
use crate::sessions::{Blocked, StepProblem};

/// How a session had ended, for an invariant to look at.
#[non_exhaustive]
pub struct SessionEnd {
    /// Its name.
    pub name: String,
    /// Whether one of its steps failed, so that its transaction was rolled back and the rest of
    /// its steps left out; or whether its code returned an error.
    pub failed: bool,
    pub(super) state: Option<Box<dyn Any + Send>>,
}

impl SessionEnd {
    /// The state of its [`Steps`](crate::Steps), as the last one has left it; `None` if they have
    /// no state of this type, or if the session is code.
    pub fn state<S: 'static>(&self) -> Option<&S> {
        self.state.as_deref().and_then(|state| state.downcast_ref())
    }
}

impl fmt::Debug for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionEnd")
            .field("name", &self.name)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a schedule.
#[derive(Debug)]
#[non_exhaustive]
pub enum Problem {
    /// An invariant does not hold when all sessions have ended.
    Invariant {
        /// Its name.
        name: String,
        /// The error that it returned, if it returned one, or what it panicked with.
        reason: Option<String>,
    },
    /// A step failed to resolve a deadlock.
    Deadlock {
        /// The session and the step, as in a schedule.
        step: String,
        /// The step's error.
        error: Box<dyn Error + Send + Sync>,
        /// Who has waited for whom and for what, one a line, as far as the statements tell.
        circle: Vec<String>,
    },
    /// A step failed with an error that was not expected.
    Failed {
        /// The session and the step, as in a schedule.
        step: String,
        /// The step's error.
        error: Box<dyn Error + Send + Sync>,
    },
    /// What came of it comes of no serial order of the sessions.
    NotSerializable {
        /// What kind of anomaly it is, as it is customarily called, such as `lost update`, if the
        /// statements tell.
        anomaly: Option<&'static str>,
        /// The dependencies between the sessions that no serial order has, one a line.
        cycle: Vec<String>,
        /// The end, and then those of the serial orders: what each of them has that not all have.
        ends: Vec<String>,
    },
    /// A step waits for a lock that a session has left when it ended.
    Stuck {
        /// The session and the step, as in a schedule.
        step: String,
        /// For what it waits, and for whom.
        blocked: Blocked,
    },
    /// A step has come to no end: it panicked, or hung until the time was over.
    Broken {
        /// The session and the step, as in a schedule.
        step: String,
        /// How.
        problem: StepProblem,
    },
}

/// In words, with all that an error has to say.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Invariant { name, reason } => {
                write!(f, "invariant \"{name}\" is broken")?;
                let reason = reason.as_ref();
                reason.map_or(Ok(()), |reason| write!(f, ": {reason}"))
            }
            Self::Deadlock {
                step,
                error,
                circle,
            } => {
                write!(f, "{step} failed: {}", words(&**error))?;
                let mut lines = circle.iter();
                lines.try_for_each(|line| write!(f, "\n        {line}"))
            }
            Self::Failed { step, error } => write!(f, "{step} failed: {}", words(&**error)),
            Self::NotSerializable {
                anomaly,
                cycle,
                ends,
            } => {
                write!(f, "not serializable")?;
                anomaly.map_or(Ok(()), |anomaly| write!(f, ": {anomaly}"))?;
                for line in cycle {
                    write!(f, "\n        {line}")?;
                }
                for (number, end) in ends.iter().enumerate() {
                    let head = ["it ends with", "serial orders end with", "or"][number.min(2)];
                    write!(f, "\n      {head}")?;
                    for line in end.lines() {
                        write!(f, "\n        {line}")?;
                    }
                }
                Ok(())
            }
            Self::Stuck { step, blocked } => {
                write!(f, "{step} {blocked}, which has ended and left it")
            }
            Self::Broken { step, problem } => write!(f, "{step} {problem}"),
        }
    }
}
