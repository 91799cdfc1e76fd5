use std::fmt;

use super::model::Next;
use super::problem::Problem;
use crate::sessions::StepProblem;
use crate::transcript::Transcript;

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
    /// The lock for which it was seen to wait.
    pub(super) wanted: Option<String>,
}

impl RunStep {
    pub(super) fn new(session: usize, name: String, next: &Next) -> Self {
        let statement = next.statement.as_ref();
        Self {
            session,
            name,
            statement: statement.map(|known| (known.sql.clone(), known.binds.clone())),
            error: None,
            wanted: None,
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

    /// The name of the last step of a session with which the server was not content: what follows,
    /// such as a rollback, only cleans up.
    pub(super) fn failed_step(&self, session: usize) -> Option<String> {
        let mut own = self.steps.iter().filter(|step| step.session == session);
        own.rfind(|step| step.error.is_some())
            .map(|step| step.name.clone())
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
