use std::any::Any;
use std::error::Error;
use std::fmt;

use super::model::Next;
use crate::chain::words;
use crate::sessions::{Blocked, StepProblem};
use crate::transcript::Transcript;

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
        /// The end, and then those of the serial orders.
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
            Self::Deadlock { step, error } | Self::Failed { step, error } => {
                write!(f, "{step} failed: {}", words(&**error))
            }
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

/// One schedule that was run.
#[derive(Debug)]
pub struct Run {
    pub(super) steps: Vec<RunStep>,
    pub(super) problems: Vec<Problem>,
    pub(super) transcript: Transcript,
    pub(super) end: String,
    schedule: String,
    /// The sessions that take part, if not all do.
    pub(super) only: Option<Vec<usize>>,
}

/// A step of a run.
#[derive(Debug)]
pub(super) struct RunStep {
    pub(super) session: usize,
    pub(super) name: String,
    /// The statement and its binds, if it is one.
    pub(super) statement: Option<(String, Vec<String>)>,
    pub(super) error: Option<String>,
}

impl RunStep {
    pub(super) fn new(session: usize, name: String, next: &Next) -> Self {
        let statement = next.statement.as_ref();
        Self {
            session,
            name,
            statement: statement.map(|known| (known.sql.clone(), known.binds.clone())),
            error: None,
        }
    }
}

impl Run {
    pub(super) fn new(only: Option<Vec<usize>>, transcript: Transcript) -> Self {
        Self {
            steps: Vec::new(),
            problems: Vec::new(),
            transcript,
            end: String::new(),
            schedule: String::new(),
            only,
        }
    }

    /// Its steps are all there.
    pub(super) fn finish(&mut self) {
        let names: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        self.schedule = names.join(" ");
    }

    /// The first of the steps of a schedule that its session did otherwise. One that it did not come
    /// to is none.
    pub(super) fn differing(&self, names: &[String]) -> Option<String> {
        let session = |name: &str| name.split_once('.').map(|(session, _)| session.to_owned());
        let differs = |(at, name): &(usize, &String)| {
            let own = |other: &&String| session(other) == session(name);
            let before = names[..*at].iter().filter(own).count();
            let mut steps = self.steps.iter().map(|step| &step.name).filter(own);
            steps.nth(before).is_some_and(|done| done != *name)
        };
        let mut names = names.iter().enumerate();
        names.find(differs).map(|(_, name)| name.clone())
    }

    /// The line of Rust that runs it again.
    pub fn again(&self) -> String {
        format!("explorer.replay({:?})?;", self.schedule)
    }

    /// Whether it has come to no end in its time.
    pub(super) fn has_hung(&self) -> bool {
        let is_over = |problem: &Problem| match problem {
            Problem::Broken { problem, .. } => {
                matches!(problem, StepProblem::TimedOut { .. } | StepProblem::TooLate)
            }
            _ => false,
        };
        self.problems.iter().any(is_over)
    }

    /// The dependencies that no serial order has.
    pub(super) fn cycle(&self) -> &[String] {
        let cycle = self.problems.iter().find_map(|problem| match problem {
            Problem::NotSerializable { cycle, .. } => Some(cycle.as_slice()),
            _ => None,
        });
        cycle.unwrap_or_default()
    }

    /// The name of the last step of a session.
    pub(super) fn last_step(&self, session: usize) -> String {
        let own = self.steps.iter().rfind(|step| step.session == session);
        own.map_or_else(String::new, |step| step.name.clone())
    }

    /// The steps in their order, such as `first.read second.read first.write second.write`, for
    /// [`Explorer::replay`](crate::Explorer::replay).
    pub fn schedule(&self) -> &str {
        &self.schedule
    }

    /// How it has ended: what each session returned, and what is in the tables.
    pub fn outcome(&self) -> &str {
        &self.end
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
    outcomes: Vec<String>,
    ran: Vec<String>,
    pub(super) sessions: Vec<String>,
}

impl Exploration {
    pub(super) fn new(
        complete: bool,
        failures: Vec<Run>,
        outcomes: Vec<String>,
        ran: Vec<String>,
    ) -> Self {
        Self {
            schedules: ran.len(),
            complete,
            failures,
            outcomes,
            ran,
            sessions: Vec::new(),
        }
    }

    /// How many schedules were run.
    pub fn schedules(&self) -> usize {
        self.schedules
    }

    /// The ends to which the schedules came, each different one once, sorted: what the sessions
    /// returned, and what is in the tables.
    pub fn outcomes(&self) -> &[String] {
        &self.outcomes
    }

    /// The schedules that were run, sorted.
    pub fn list(&self) -> &[String] {
        &self.ran
    }

    /// Whether these were all that there are, or stand for all: an order in which nothing is
    /// different is not run again.
    ///
    /// It is not where bounds have left something out; where the server, and not the schedule, has
    /// chosen which of several waiting sessions goes on; or where the same order has led to
    /// something else than before.
    pub fn is_complete(&self) -> bool {
        self.complete
    }

    /// The schedules with problems; those with the fewest preemptions first.
    pub fn failures(&self) -> &[Run] {
        &self.failures
    }

    /// How many schedules were run, and how many of them have problems.
    pub(super) fn summary(&self) -> String {
        let all = if self.complete { "all " } else { "" };
        let (schedules, failures) = (self.schedules, self.failures.len());
        format!("{all}{schedules} schedules were run, {failures} failed")
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
        let failures = self.failures.len();
        f.write_str(&self.summary())?;
        for failure in self.failures.iter().take(PRINTED) {
            write!(f, "\n{failure}")?;
        }
        if failures > PRINTED {
            write!(f, "\nand {} more", failures - PRINTED)?;
        }
        match self.failures.first() {
            Some(first) => write!(
                f,
                "\nwhat happened in the first, which this runs again: {}\n{}",
                first.again(),
                first.transcript
            ),
            None => Ok(()),
        }
    }
}
