mod frontier;
mod path;
mod progress;
mod report;
mod steps;
mod troupe;

use std::error::Error;
use std::fmt;
use std::panic;
use std::thread;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::HarnessError;
use crate::LockError;
use frontier::{Bounds, Frontier};
use path::Path;
use progress::ProgressLine;
pub use report::{Exploration, Problem, Run, SessionEnd};
use steps::Script;
pub use steps::{StepResult, Steps};
use troupe::Troupe;

/// The time after which a schedule is taken for stuck.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs sessions in every order of their steps, and finds the orders that break something.
///
/// Each session is a list of [`Steps`] with a state of its own. One run, in one order, is a
/// *schedule*: [`setup`](Self::setup), the steps, each [`invariant`](Self::invariant), and
/// [`teardown`](Self::teardown). After each step the server is asked who waits; a session that
/// waits for another one waits its turn, and goes on when it can. All orders that this leaves are
/// run, each once.
///
/// A schedule has a problem if an invariant does not hold, if a step is ended by a deadlock, fails
/// with an error that was not [allowed](Self::allow_errors), panics or hangs. It can be run again
/// by [`replay`](Self::replay).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::harness::{Explorer, Steps};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let database = database()?;
/// let deposit: Steps<PgConnection, i64> = Steps::new()
///     .step("read", |conn, balance| {
///         *balance = accounts::table.find(1).select(accounts::balance).first(conn)?;
///         Ok(())
///     })
///     .step("write", |conn, balance| {
///         let account = diesel::update(accounts::table.find(1));
///         account.set(accounts::balance.eq(*balance + 10)).execute(conn)?;
///         Ok(())
///     });
///
/// let explorer = Explorer::new(|| PgConnection::establish(database.url()))
///     .setup(|conn| {
///         let account = diesel::update(accounts::table.find(1));
///         account.set(accounts::balance.eq(100)).execute(conn)?;
///         Ok(())
///     })
///     .session("first", deposit.clone())
///     .session("second", deposit)
///     .invariant("both deposits count", |conn, _| {
///         let balance: i64 = accounts::table.find(1).select(accounts::balance).first(conn)?;
///         Ok(balance == 120)
///     });
///
/// let exploration = explorer.explore()?;
/// assert_eq!(exploration.schedules(), 6);
/// assert_eq!(exploration.failures().len(), 4);
///
/// let lost = "first.read second.read first.write second.write";
/// assert!(!explorer.replay(lost)?.problems().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Connections
///
/// Each database takes a connection for every session, and two more: one that observes, and one
/// for the setup, the invariants and the teardown. The sessions keep theirs from one schedule to
/// the next; in between, each is rolled back and gives its advisory locks back. What else a step
/// leaves in its session, such as a `SET`, is there in the next schedule too.
///
/// Beyond the steps, a schedule costs a round trip for each session, two for each wait, and one or
/// two for each step that is begun while another one waits.
///
/// # Deadlocks
///
/// A step that is begun while others wait has a `deadlock_timeout` of 30 ms or less, where the role
/// may set it (superusers may), so that a deadlock is found soon, and in the step that closes the
/// circle. Else each costs the server's `deadlock_timeout`, which is a second. Nothing else is
/// begun meanwhile.
///
/// # What the server decides
///
/// Of two sessions that wait for the same row and are let go on by one commit, the server chooses
/// which is first, and not always the same. Only what it has chosen is seen. If a schedule can't be
/// followed because it has chosen otherwise than before, what would have come after it is left out,
/// and the exploration is not [complete](Exploration::is_complete).
pub struct Explorer<'e, C, S> {
    databases: Vec<Connect<'e, C>>,
    sessions: Vec<(String, Script<C, S>)>,
    setup: Option<Prepare<'e, C>>,
    teardown: Option<Prepare<'e, C>>,
    invariants: Vec<(String, Invariant<'e, C, S>)>,
    allowed: Box<dyn Fn(&LockError) -> bool + Sync + 'e>,
    timeout: Duration,
    bounds: Bounds,
}

type Connect<'e, C> = Box<dyn Fn() -> StepResult<C> + Sync + 'e>;
type Prepare<'e, C> = Box<dyn Fn(&mut C) -> StepResult + Sync + 'e>;
type Invariant<'e, C, S> = Box<dyn Fn(&mut C, &[SessionEnd<S>]) -> StepResult<bool> + Sync + 'e>;

impl<'e, C, S> Explorer<'e, C, S>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    S: Default + Send + 'static,
{
    /// No sessions yet, on the database to which `connect` connects.
    pub fn new<X>(connect: impl Fn() -> Result<C, X> + Sync + 'e) -> Self
    where
        X: Into<Box<dyn Error + Send + Sync>>,
    {
        let explorer = Self {
            databases: Vec::new(),
            sessions: Vec::new(),
            setup: None,
            teardown: None,
            invariants: Vec::new(),
            allowed: Box::new(|_| false),
            timeout: TIMEOUT,
            bounds: Bounds {
                schedules: usize::MAX,
                preemptions: usize::MAX,
                failures: usize::MAX,
                seed: None,
            },
        };
        explorer.database(connect)
    }

    /// Adds a database, on which other schedules are run at the same time.
    ///
    /// It must be another one than all before, of the same schema. The closures of the explorer
    /// are shared by all, and so must not keep anything that belongs to a schedule.
    pub fn database<X>(mut self, connect: impl Fn() -> Result<C, X> + Sync + 'e) -> Self
    where
        X: Into<Box<dyn Error + Send + Sync>>,
    {
        let connect = move || connect().map_err(Into::into);
        self.databases.push(Box::new(connect));
        self
    }

    /// Adds a session. Its name is without white space and full stops, because it becomes part of a
    /// schedule.
    pub fn session(mut self, name: &str, steps: Steps<C, S>) -> Self {
        self.sessions.push((name.to_owned(), steps.into_script()));
        self
    }

    /// What to do before each schedule, such as to fill the tables.
    pub fn setup(mut self, setup: impl Fn(&mut C) -> StepResult + Sync + 'e) -> Self {
        self.setup = Some(Box::new(setup));
        self
    }

    /// What to do after each schedule, whatever came of it.
    pub fn teardown(mut self, teardown: impl Fn(&mut C) -> StepResult + Sync + 'e) -> Self {
        self.teardown = Some(Box::new(teardown));
        self
    }

    /// Adds what must hold when all sessions have ended.
    ///
    /// It is looked at on a connection of its own, and sees how each session ended, in the order
    /// in which they were added. It is broken if it returns false or an error, or panics.
    pub fn invariant(
        mut self,
        name: &str,
        holds: impl Fn(&mut C, &[SessionEnd<S>]) -> StepResult<bool> + Sync + 'e,
    ) -> Self {
        self.invariants.push((name.to_owned(), Box::new(holds)));
        self
    }

    /// The errors that are no problem, such as serialization failures where the application tries
    /// again. None, if this is not called.
    ///
    /// A step that fails ends its session in any case: its transaction is rolled back, and the
    /// rest of its steps left out. An error that is not a [`LockError`], nor Diesel's, nor has
    /// one of these as its source, is always a problem.
    pub fn allow_errors(mut self, allowed: impl Fn(&LockError) -> bool + Sync + 'e) -> Self {
        self.allowed = Box::new(allowed);
        self
    }

    /// The time after which a schedule is taken for stuck: 20 s, if this is not called.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs so many schedules at most; those with the fewest preemptions.
    pub fn max_schedules(mut self, schedules: usize) -> Self {
        self.bounds.schedules = schedules;
        self
    }

    /// Leaves schedules out that interrupt a session more often than this, where it could have
    /// gone on. Most faults show with one or two such preemptions.
    pub fn max_preemptions(mut self, preemptions: usize) -> Self {
        self.bounds.preemptions = preemptions;
        self
    }

    /// Stops when so many schedules with problems have been found.
    pub fn max_failures(mut self, failures: usize) -> Self {
        self.bounds.failures = failures;
        self
    }

    /// Runs so many schedules that are chosen by chance, the same ones for the same seed, where
    /// there are too many to run all. One may be chosen more than once.
    pub fn random(mut self, seed: u64, schedules: usize) -> Self {
        self.bounds.seed = Some(seed);
        self.bounds.schedules = schedules;
        self
    }

    /// Runs the schedules, on all databases at once.
    ///
    /// On a terminal, what takes longer than a second shows its progress on standard error.
    ///
    /// # Errors
    ///
    /// [`HarnessError::ConnectSession`]: a connection could not be opened.
    /// [`HarnessError::Prepare`]: the setup or the teardown failed.
    /// [`HarnessError::Label`], [`HarnessError::DuplicateSession`]: a name can't be used.
    /// [`HarnessError::Observe`]: the server could not be asked who waits.
    /// [`HarnessError::Thread`]: the operating system gave no thread.
    ///
    /// What a schedule comes to is not an error here, but in the [`Exploration`].
    ///
    /// # Panics
    ///
    /// If the functions that connect or that allow errors panic, or `S::default()` does.
    pub fn explore(&self) -> Result<Exploration, HarnessError> {
        self.check_labels()?;
        let frontier = Frontier::new(self.bounds);
        let progress = ProgressLine::new(self.interleavings());
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for connect in &self.databases {
                let worker = thread::Builder::new()
                    .name("explorer".to_owned())
                    .spawn_scoped(scope, || self.work(connect, &frontier, &progress));
                if worker.is_err() {
                    frontier.stop();
                }
                workers.push(worker.map_err(HarnessError::Thread));
            }
            let ended = workers.into_iter().map(|worker| match worker?.join() {
                Ok(worked) => worked,
                Err(payload) => panic::resume_unwind(payload),
            });
            // All are joined, whichever has failed.
            let ended: Vec<_> = ended.collect();
            ended.into_iter().collect::<Result<(), _>>()
        })?;
        drop(progress);
        Ok(frontier.into_exploration())
    }

    /// Runs one schedule, in the words in which a [`Run`] or an [`Exploration`] prints it, on the
    /// first database.
    ///
    /// A step whose session waits comes as soon as it can. A schedule that is cut short is gone on
    /// with, with as few preemptions as can be.
    ///
    /// # Errors
    ///
    /// [`HarnessError::Schedule`]: something in it is not the next step of any session.
    /// Else as for [`explore`](Self::explore).
    pub fn replay(&self, schedule: &str) -> Result<Run, HarnessError> {
        self.check_labels()?;
        let mut path = Path::from_start(self.parse(schedule)?);
        Troupe::open(self, &self.databases[0])?.run(&mut path)
    }

    fn work(
        &self,
        connect: &Connect<'e, C>,
        frontier: &Frontier,
        progress: &ProgressLine,
    ) -> Result<(), HarnessError> {
        // Whatever ends this one, the others do not wait for it.
        let _stop = StopAll(frontier);
        let mut troupe = Troupe::open(self, connect)?;
        while let Some(mut path) = frontier.next() {
            let run = troupe.run(&mut path)?;
            progress.show(frontier.ran(run, &path));
        }
        Ok(())
    }

    /// The sessions of a schedule, in its order.
    fn parse(&self, schedule: &str) -> Result<Vec<usize>, HarnessError> {
        let mut next = vec![0; self.sessions.len()];
        let mut path = Vec::new();
        for name in schedule.split_whitespace() {
            let is_next = |&session: &usize| {
                let (session_name, steps) = &self.sessions[session];
                let step = steps.get(next[session]);
                step.is_some_and(|(label, _)| name == full_name(session_name, label))
            };
            let Some(session) = (0..self.sessions.len()).find(is_next) else {
                return Err(HarnessError::Schedule {
                    step: name.to_owned(),
                });
            };
            next[session] += 1;
            path.push(session);
        }
        Ok(path)
    }

    fn check_labels(&self) -> Result<(), HarnessError> {
        let is_word = |label: &str| !label.is_empty() && !label.contains(char::is_whitespace);
        for (name, steps) in &self.sessions {
            let labels = steps.iter().map(|(label, _)| label);
            let wrong = labels.into_iter().find(|label| !is_word(label));
            // What comes before the first full stop of a step in a schedule is the session.
            let wrong = wrong.or(Some(name).filter(|name| !is_word(name) || name.contains('.')));
            if let Some(label) = wrong {
                return Err(HarnessError::Label {
                    label: label.clone(),
                });
            }
        }
        Ok(())
    }

    /// How many orders there are if nobody ever waits, as far as numbers go.
    fn interleavings(&self) -> u128 {
        let mut steps = 0_u128;
        let mut orders = 1_u128;
        for (_, script) in &self.sessions {
            for own in 1..=script.len() as u128 {
                steps += 1;
                // A product of so many neighbours can be divided by each of these.
                orders = orders.saturating_mul(steps) / own;
            }
        }
        orders
    }
}

/// A step's name in a schedule.
fn full_name(session: &str, label: &str) -> String {
    format!("{session}.{label}")
}

struct StopAll<'f>(&'f Frontier);

impl Drop for StopAll<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl<C, S> fmt::Debug for Explorer<'_, C, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.sessions.iter().map(|(name, _)| name);
        f.debug_struct("Explorer")
            .field("sessions", &sessions.collect::<Vec<_>>())
            .field("databases", &self.databases.len())
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
