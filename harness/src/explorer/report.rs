use std::error::Error;
use std::fmt;

use crate::chain::words;
use crate::sessions::StepProblem;
use crate::transcript::Transcript;

/// How a session had ended, for an invariant to look at.
#[derive(Debug)]
#[non_exhaustive]
pub struct SessionEnd<S> {
    /// Its name.
    pub name: String,
    /// Its state, as its last step has left it.
    pub state: S,
    /// Whether one of its steps failed, so that its transaction was rolled back and the rest of
    /// its steps left out.
    pub failed: bool,
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
    },
    /// A step failed with an error that was not expected.
    Failed {
        /// The session and the step, as in a schedule.
        step: String,
        /// The step's error.
        error: Box<dyn Error + Send + Sync>,
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
            Self::Deadlock { step, error } | Self::Failed { step, error } => {
                write!(f, "{step} failed: {}", words(&**error))
            }
            Self::Broken { step, problem } => write!(f, "{step} {problem}"),
        }
    }
}

/// One schedule that was run.
#[derive(Debug)]
pub struct Run {
    pub(super) schedule: String,
    pub(super) problems: Vec<Problem>,
    pub(super) transcript: Transcript,
}

impl Run {
    /// The steps in their order, such as `first.read second.read first.write second.write`, for
    /// [`Explorer::replay`](crate::Explorer::replay).
    pub fn schedule(&self) -> &str {
        &self.schedule
    }

    /// What is wrong with it: nothing, if all is well.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// What happened.
    pub fn transcript(&self) -> &Transcript {
        &self.transcript
    }
}

/// The schedule, and what is wrong with it.
impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.schedule)?;
        for problem in &self.problems {
            write!(f, "\n    {problem}")?;
        }
        Ok(())
    }
}

/// What an [`Explorer`](crate::Explorer) has found.
#[derive(Debug)]
#[must_use = "what was found is in its `failures`"]
pub struct Exploration {
    schedules: usize,
    complete: bool,
    failures: Vec<Run>,
}

impl Exploration {
    pub(super) fn new(schedules: usize, complete: bool, failures: Vec<Run>) -> Self {
        Self {
            schedules,
            complete,
            failures,
        }
    }

    /// How many schedules were run.
    pub fn schedules(&self) -> usize {
        self.schedules
    }

    /// Whether these were all that there are.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The schedules with problems; those with the fewest preemptions first.
    pub fn failures(&self) -> &[Run] {
        &self.failures
    }

    /// Does nothing if no schedule has a problem.
    ///
    /// # Panics
    ///
    /// If one has: with the first of them, and the very first one's transcript.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.failures.is_empty(), "{self}");
    }
}

/// How many of those with problems are printed.
const PRINTED: usize = 5;

/// How many schedules were run, the first of those with problems, and the very first one's
/// transcript.
impl fmt::Display for Exploration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = if self.complete { "all " } else { "" };
        let (schedules, failures) = (self.schedules, self.failures.len());
        write!(f, "{all}{schedules} schedules were run, {failures} failed")?;
        for failure in self.failures.iter().take(PRINTED) {
            write!(f, "\n{failure}")?;
        }
        if failures > PRINTED {
            write!(f, "\nand {} more", failures - PRINTED)?;
        }
        match self.failures.first() {
            Some(first) => write!(
                f,
                "\nwhat happened in the first, which replay({:?}) runs again:\n{}",
                first.schedule, first.transcript
            ),
            None => Ok(()),
        }
    }
}
