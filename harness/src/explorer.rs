mod call_thread;
mod circle;
mod connections;
mod control;
mod differences;
mod end;
mod ends;
mod error;
mod explain;
mod explore;
mod footprint;
mod fresh;
mod frontier;
mod gate;
mod hook;
mod html;
mod instrument;
mod judge;
mod model;
mod problem;
mod program;
mod progress;
mod ran;
mod remember;
mod report;
mod row_text;
mod run;
mod runner;
mod schedule;
mod scout;
mod session;
mod steps;
mod verdict;
mod worker;

use std::error::Error;
use std::fmt::{self, Debug};
use std::path::PathBuf;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use diesel_locks::LockError;

pub use call_thread::CallThread;
pub use error::ExplorerError;
use frontier::Bounds;
pub use instrument::SeenConnections;
pub use problem::{Problem, SessionEnd};
use program::{Connect, Program};
pub use progress::{Progress, progress_bar};
use remember::Memory;
pub use report::{Exploration, Run};
use session::{SessionBody, SessionKind};
pub use steps::{StepResult, Steps};

/// The time after which a schedule is taken for stuck.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Runs sessions in every order of their steps, and finds the orders that break something.
///
/// A session is [ordinary code](Self::code), of which each statement is a step, or a list of
/// [`Steps`] with a state of its own. One run, in one order, is a *schedule*:
/// [`setup`](Self::setup), the steps, each [`invariant`](Self::invariant), and
/// [`teardown`](Self::teardown). After each step the server is asked who waits; a session that
/// waits for another one waits its turn, and goes on when it can.
///
/// A schedule has a problem if it ends as no [serial order](Self::serializable) does, if an
/// invariant does not hold, if a step is ended by a deadlock, fails with an error that was not
/// [allowed](Self::allow_errors), panics or hangs. It can be run again by
/// [`replay`](Self::replay).
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks_harness::Explorer;
///
/// fn deposit(conn: &mut PgConnection) -> QueryResult<()> {
///     let account = accounts::table.find(1);
///     let balance: i64 = account.select(accounts::balance).first(conn)?;
///     let update = diesel::update(account).set(accounts::balance.eq(balance + 10));
///     update.execute(conn).map(drop)
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// let explorer = Explorer::new(|| PgConnection::establish(database.url()))
///     .code("ada", deposit)
///     .code("bob", deposit)
///     .serializable();
/// let exploration = explorer.explore()?;
/// assert!(exploration.is_complete());
/// assert_eq!((exploration.schedules(), exploration.failures().len()), (4, 2));
///
/// let lost = "ada.select:accounts bob.select:accounts bob.update:accounts ada.update:accounts";
/// assert!(!explorer.replay(lost)?.problems().is_empty());
/// # Ok(())
/// # }
/// ```
///
/// # Orders that are the same
///
/// Two orders are the same if they differ in steps that do not depend on each other. Of these, one
/// is run. What a statement touches is asked of the server, once for its text: tables behind views
/// and rules, foreign keys, cascades and triggers, whose functions are read; and rows where a
/// primary key is compared with a value. A statement under READ COMMITTED depends on the commits of
/// who wrote what it reads; under REPEATABLE READ and SERIALIZABLE, a transaction's first statement
/// depends on all commits. Writes and row locks depend on each other, and so do advisory locks of
/// one key. A statement that has to wait for one row, or for an advisory lock, and for nothing else,
/// comes after who is in its way. What is not known depends on everything: statements with functions
/// that do more than compute, DDL, `SET`, steps of [`Steps`].
///
/// [`exhaustive`](Self::exhaustive) runs all orders. The [outcomes](Exploration::outcomes) are the
/// same.
///
/// # Connections
///
/// Each database takes a connection for every session, and two more: one on which the server is
/// asked, and one for the setup, the invariants and the teardown. The sessions connect after the
/// first setup, and keep theirs from one schedule to the next; in between, each is rolled back and
/// gives its advisory locks back. What else a step leaves in its session, such as a `SET`, is there
/// in the next schedule too. The one for the setup, the invariants and the teardown is what it was
/// when it was opened, but for prepared statements and `jit`, before each schedule, and waits for
/// no lock longer than a schedule may take. What the Explorer has set in a connection is what it was
/// when it is given back. A connection that has an instrumentation of its own keeps it; another
/// connection is opened for that.
///
/// Beyond the steps, a schedule costs a round trip for each session and one for the tables, one for
/// each statement that locks a row by its key, and some for each wait. The contents of all tables
/// are read at its end: they should be small.
///
/// # Deadlocks
///
/// Sessions have a `deadlock_timeout` of 1 ms, where the role may set it (superusers may), and one
/// that waits is left 10 ms to look, so that a deadlock is found soon, and in the step that closes
/// the circle. Else each costs the server's `deadlock_timeout`, which is a second. Nothing else is
/// begun meanwhile.
///
/// # What the server decides
///
/// Of two sessions that wait for the same row and are let go on by one commit, the server chooses
/// which is first, and not always the same. If that has happened, the exploration is not
/// [complete](Exploration::is_complete). The code must do the same whenever it reads the same: if it
/// does not, the exploration is not complete either. What sessions tell each other outside of the
/// database, such as by an atomic, is not seen: [`exhaustive`](Self::exhaustive) is for that.
pub struct Explorer<'e, C> {
    databases: Vec<Connect<'e, C>>,
    program: Program<'e, C>,
    bounds: Bounds,
    on_progress: Box<dyn Fn(Progress) + Sync + 'e>,
    memory: Option<Memory>,
    /// While there are calls.
    seen: Option<SeenConnections>,
    /// There was an instrumentation that nobody has told of.
    is_hidden: bool,
}

impl<'e, C> Explorer<'e, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// No sessions yet, on the database to which `connect` connects.
    pub fn new<X>(connect: impl Fn() -> Result<C, X> + Sync + 'e) -> Self
    where
        X: Into<Box<dyn Error + Send + Sync>>,
    {
        let explorer = Self {
            databases: Vec::new(),
            program: Program {
                sessions: Vec::new(),
                setup: None,
                teardown: None,
                invariants: Vec::new(),
                allowed: Box::new(|_| false),
                allowed_results: Box::new(|_| false),
                allowed_errors: Box::new(|_| false),
                timeout: TIMEOUT,
                is_exhaustive: false,
                is_serializable: false,
                crashes: false,
                retries: false,
                ignored: Vec::new(),
            },
            bounds: Bounds {
                schedules: usize::MAX,
                preemptions: usize::MAX,
                failures: usize::MAX,
                seed: None,
            },
            on_progress: Box::new(|_| ()),
            memory: None,
            seen: None,
            is_hidden: false,
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

    /// Adds a session that is ordinary code, as it stands: each statement that it sends on the
    /// connection is a step, whatever it is sent through.
    ///
    /// A step is called by what the statement does and to what, such as `begin`,
    /// `select:accounts` and, the second time, `select:accounts#2`. How many there are may depend
    /// on what the code reads. The code must do the same whenever it reads the same. A transaction
    /// that it leaves open is rolled back, in a step `rollback`.
    ///
    /// Its name is without white space and full stops, because it becomes part of a schedule.
    pub fn code<T, E>(
        mut self,
        name: &str,
        code: impl Fn(&mut C) -> Result<T, E> + Send + Sync + 'e,
    ) -> Self
    where
        T: Debug,
        E: Debug,
    {
        self.program.sessions.push(SessionBody {
            name: name.to_owned(),
            labels: None,
            kind: SessionKind::Code,
            body: session::code(code),
        });
        self
    }

    /// Adds a session that is code which finds its connections itself, from a pool or by
    /// `establish`. Its first step is `start`, and then each statement is one that its thread sends.
    ///
    /// The connections have to be opened from now on, or while a [`SeenConnections`] lives: that
    /// sets Diesel's default instrumentation. What a pool and Diesel send of themselves is no step.
    /// A session that waits for something else than the server, such as a pool of one connection or
    /// a channel, is seen to, some 10 ms after it has gone to sleep; every order is run then, because
    /// nothing tells what such a wait depends on. A deadlock of such connections costs the server's
    /// `deadlock_timeout`. Threads that the code starts are the session's too where it gives them a
    /// [`CallThread`].
    pub fn call<T, E>(
        mut self,
        name: &str,
        call: impl Fn() -> Result<T, E> + Send + Sync + 'e,
    ) -> Self
    where
        T: Debug,
        E: Debug,
    {
        if self.seen.is_none() {
            self.is_hidden = SeenConnections::is_in_the_way();
            self.seen = Some(SeenConnections::new());
        }
        self.program.sessions.push(SessionBody {
            name: name.to_owned(),
            labels: None,
            kind: SessionKind::Call,
            body: session::call(call),
        });
        self
    }

    /// Adds a session of steps, of which nothing is known but their order. Its name is without
    /// white space and full stops, because it becomes part of a schedule.
    pub fn session<S>(mut self, name: &str, steps: Steps<C, S>) -> Self
    where
        S: Default + Send + 'static,
    {
        let script = steps.into_script();
        self.program.sessions.push(SessionBody {
            name: name.to_owned(),
            labels: Some(script.iter().map(|(label, _)| label.clone()).collect()),
            kind: SessionKind::Steps,
            body: session::steps(script),
        });
        self
    }

    /// Has every schedule compared with the serial orders, in which one session goes on when the
    /// one before has ended: what the sessions return and what is in the tables must be the same
    /// as in one of those. A test needs no invariant then.
    ///
    /// The serial orders are run first. Numbers of sequences are not compared, but by foreign keys
    /// the rows that have them are; UUIDs and times only where another schedule has them too: they
    /// are made anew each time. Of a session that
    /// has failed with an error that is [allowed](Self::allow_errors), nothing may be left: the end
    /// must be that of a serial order of the others.
    pub fn serializable(mut self) -> Self {
        self.program.is_serializable = true;
        self
    }

    /// Has each session also ended before each of its statements, and between a COMMIT and its
    /// answer, one of them in each schedule, while the others go on: its connection is cut, and its
    /// thread unwound. In a schedule that is `crash` or `commit_without_answer`.
    ///
    /// The end must be that of a serial order in which that session has done all or nothing: what
    /// did half its work shows, and so does a lock that stays. It implies
    /// [`serializable`](Self::serializable). Sessions of [`Steps`] are not ended. A schedule with a
    /// crash costs new connections.
    pub fn crashes(mut self) -> Self {
        self.program.crashes = true;
        self.serializable()
    }

    /// The same as [`crashes`](Self::crashes), and a session that was ended is run a second time,
    /// from its begin and on a new connection, as a client does that got no answer. In a schedule
    /// its first step then is `again`.
    ///
    /// The end must be that of a serial order in which that session has done its work once: what is
    /// done twice shows, and what a second run does not make whole. What the second run returns is
    /// not compared, because the first may have done the work.
    pub fn retries(mut self) -> Self {
        self.program.retries = true;
        self.crashes()
    }

    /// Leaves a column out where ends are compared for [`serializable`](Self::serializable), such
    /// as `accounts.updated_at`.
    pub fn ignore_column(mut self, column: &str) -> Self {
        self.program.ignored.push(column.to_owned());
        self
    }

    /// Runs all orders, those too in which nothing can be different.
    pub fn exhaustive(mut self) -> Self {
        self.program.is_exhaustive = true;
        self
    }

    /// What to do before each schedule, such as to fill the tables.
    pub fn setup(mut self, setup: impl Fn(&mut C) -> StepResult + Sync + 'e) -> Self {
        self.program.setup = Some(Box::new(setup));
        self
    }

    /// What to do after each schedule, whatever came of it.
    pub fn teardown(mut self, teardown: impl Fn(&mut C) -> StepResult + Sync + 'e) -> Self {
        self.program.teardown = Some(Box::new(teardown));
        self
    }

    /// Adds what must hold when all sessions have ended.
    ///
    /// It is looked at on a connection of its own, and sees how each session ended, in the order
    /// in which they were added. It is broken if it returns false or an error, or panics.
    pub fn invariant(
        mut self,
        name: &str,
        holds: impl Fn(&mut C, &[SessionEnd]) -> StepResult<bool> + Sync + 'e,
    ) -> Self {
        self.program
            .invariants
            .push((name.to_owned(), Box::new(holds)));
        self
    }

    /// The errors that are no problem, such as serialization failures where the application tries
    /// again. None, if this is not called.
    ///
    /// A step that fails ends its session in any case: its transaction is rolled back, and the
    /// rest of its steps left out. What the server has said is known, whatever the application makes
    /// of it. Other errors are allowed by [`allow_any_error`](Self::allow_any_error) and
    /// [`allow_results`](Self::allow_results).
    pub fn allow_errors(mut self, allowed: impl Fn(&LockError) -> bool + Sync + 'e) -> Self {
        self.program.allowed = Box::new(allowed);
        self
    }

    /// The errors of steps that are no problem, of any type: the application's own too.
    pub fn allow_any_error(
        mut self,
        allowed: impl Fn(&(dyn Error + Send + Sync + 'static)) -> bool + Sync + 'e,
    ) -> Self {
        self.program.allowed_errors = Box::new(allowed);
        self
    }

    /// The errors of [code](Self::code) that are no problem, as `Debug` shows the whole result:
    /// `Err(NotFound)`.
    pub fn allow_results(mut self, allowed: impl Fn(&str) -> bool + Sync + 'e) -> Self {
        self.program.allowed_results = Box::new(allowed);
        self
    }

    /// The time after which a schedule is taken for stuck: 20 s, if this is not called.
    ///
    /// When one was stuck, the others have a quarter of it, and the next one that is stuck ends the
    /// exploration, which then is not complete: what hangs in every order costs little more than
    /// one. Statements are cancelled on the server; for a thread that comes to no end outside of it
    /// nothing can be done but to wait.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.program.timeout = timeout;
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

    /// Keeps the schedules that fail in a text file, which is made if there is none, and runs those
    /// that are in it first. It is to be kept with the tests, so that what has failed once is looked
    /// at first the next time. A schedule that no longer fits is passed over.
    pub fn remember(mut self, path: impl Into<PathBuf>) -> Self {
        self.memory = Some(Memory(path.into()));
        self
    }

    /// Has this function told how far it is: when it begins, after each schedule, and at the end.
    ///
    /// It is called on the threads that run the schedules. Nobody is told, if this is not called;
    /// [`progress_bar`] draws a bar on a terminal.
    pub fn on_progress(mut self, report: impl Fn(Progress) + Sync + 'e) -> Self {
        self.on_progress = Box::new(report);
        self
    }
}

impl<C> fmt::Debug for Explorer<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sessions = self.program.sessions.iter().map(|session| &session.name);
        f.debug_struct("Explorer")
            .field("sessions", &sessions.collect::<Vec<_>>())
            .field("databases", &self.databases.len())
            .field("timeout", &self.program.timeout)
            .finish_non_exhaustive()
    }
}
