pub(crate) mod conflicts;

use std::cell::OnceCell;
use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel_locks::{Condition, condition};

use crate::panics::or_panic;
use crate::sessions::{Execution, Pending, Session, SessionError};
use crate::transcript::Transcript;

/// The time after which a test is taken for broken.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Named sessions that take steps in the order that the test writes.
///
/// Each [`Session`] has a thread and a connection of its own. [`Session::run`] does a step and
/// waits for it; [`Session::start`] launches one that may have to wait for another session, and
/// [`Pending::wait_blocked`](crate::Pending::wait_blocked) returns when the server says that it
/// does. No sleep decides anything, so the order of what happens is the same every time, unless the
/// server itself chooses, as between two that wait for one row and are let go on by one commit.
///
/// The steps are closures over the connection, so application code can be tested as it stands.
/// The connections are made by the function that is given to [`new`](Self::new): one for each
/// session, and one more to ask the server who waits. They may come from a pool of so many. That
/// function must have a time limit of its own.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks::prelude::*;
/// use diesel_locks_harness::Scenario;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// fn balance(conn: &mut PgConnection) -> Result<i64, diesel_locks::LockError> {
///     conn.get_for_update(accounts::table.find(1).select(accounts::balance))
/// }
///
/// let scenario = Scenario::new(|| PgConnection::establish(database.url()));
/// let first = scenario.session("first")?;
/// let second = scenario.session("second")?;
///
/// first.begin()?;
/// let before = first.run("read", balance)?;
/// second.begin()?;
/// let mut read = second.start("read", balance);
/// assert_eq!(read.wait_blocked()?.by(), ["first"]);
///
/// first.run("write", |conn| {
///     let account = diesel::update(accounts::table.find(1));
///     account.set(accounts::balance.eq(accounts::balance + 1)).execute(conn)
/// })?;
/// first.commit()?;
/// assert_eq!(read.join()?, before + 1);
/// # Ok(())
/// # }
/// ```
///
/// # When it ends
///
/// A step that has not ended when the time is over (20 s after the first session, or
/// [`timeout`](Self::timeout)) is cancelled, and the error shows the [`Transcript`]. A session
/// that is dropped while it does a step has that cancelled too. Every session ends with a
/// `ROLLBACK` and with its advisory locks given back, so that no lock is left when the drop
/// returns, also if the connection goes back to a pool. A step that hangs without a statement
/// on the server, such as an endless loop, can't be stopped: its thread is left to itself after
/// a few seconds, and its session is ended by the server.
pub struct Scenario<F> {
    connect: F,
    timeout: Duration,
    execution: OnceCell<Arc<Execution>>,
}

impl<F> Scenario<F> {
    /// No sessions yet; `connect` makes their connections. It does nothing on the server.
    pub fn new<C, X>(connect: F) -> Self
    where
        F: Fn() -> Result<C, X>,
    {
        Self {
            connect,
            timeout: TIMEOUT,
            execution: OnceCell::new(),
        }
    }

    /// The time, from the first session on, after which the test is taken for broken. It decides
    /// nothing in one that is not.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Opens a session. The first one opens the observer's connection too.
    ///
    /// Beyond connecting, it costs one round trip.
    ///
    /// # Errors
    ///
    /// [`SessionError::Connect`]: `connect` failed.
    /// [`SessionError::Duplicate`]: another session has this name.
    /// [`SessionError::Thread`]: the operating system gave no thread.
    pub fn session<C, X>(&self, name: &str) -> Result<Session<C>, SessionError>
    where
        F: Fn() -> Result<C, X>,
        X: Into<Box<dyn Error + Send + Sync>>,
        C: LoadConnection<Backend = Pg> + Send + 'static,
    {
        let connect = || {
            (self.connect)().map_err(|error| SessionError::Connect {
                session: name.to_owned(),
                source: error.into(),
            })
        };
        let execution = match self.execution.get() {
            Some(execution) => execution,
            None => {
                let execution = Execution::with_names(connect()?);
                execution.warm()?;
                execution.begin(self.timeout);
                self.execution.get_or_init(|| Arc::new(execution))
            }
        };
        Session::open(execution, name, connect()?)
    }

    /// Begins the time anew, and the transcript. No step may be under way.
    pub(super) fn begin_anew(&self) {
        if let Some(execution) = self.execution.get() {
            execution.begin(self.timeout);
        }
    }

    /// What has happened so far. It costs no round trip.
    pub fn transcript(&self) -> Transcript {
        let execution = self.execution.get();
        execution
            .map(|execution| execution.transcript())
            .unwrap_or_default()
    }

    /// Waits until all of these steps have ended, of which at least one must have failed with a
    /// deadlock, and returns what they returned, in their order.
    ///
    /// The server finds a deadlock after its `deadlock_timeout`, which is 1 s by default, and 30 ms
    /// for superusers (see [`Session::start`]), and ends one of the transactions; whose, is up to
    /// it. The others must end without a further step. A
    /// deadlock is [`LockError::Deadlock`](diesel_locks::LockError::Deadlock), or Diesel's error for it,
    /// in the step's error or in its [sources](Error::source). It costs no round trip.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, prelude::*};
    /// use diesel_locks_harness::Scenario;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = database()?;
    /// let scenario = Scenario::new(|| PgConnection::establish(database.url()));
    /// let first = scenario.session("first")?;
    /// let second = scenario.session("second")?;
    /// first.begin()?;
    /// second.begin()?;
    ///
    /// let lock = |key: i64| move |conn: &mut PgConnection| conn.advisory_xact_lock(key);
    /// first.run("lock 1", lock(1))?;
    /// second.run("lock 2", lock(2))?;
    /// let results = scenario.assert_deadlock([
    ///     first.assert_blocks("lock 2", lock(2)),
    ///     second.start("lock 1", lock(1)),
    /// ]);
    /// assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Where [`try_assert_deadlock`](Self::try_assert_deadlock) fails.
    #[track_caller]
    pub fn assert_deadlock<T, E>(
        &self,
        steps: impl IntoIterator<Item = Pending<T, E>>,
    ) -> Vec<Result<T, E>>
    where
        E: Error + 'static,
    {
        or_panic(self.try_assert_deadlock(steps))
    }

    /// As [`assert_deadlock`](Self::assert_deadlock), with an error.
    ///
    /// # Errors
    ///
    /// [`SessionError::NoDeadlock`]: none of them has failed with a deadlock.
    /// Else those of [`Pending::join`] that are [`StepError::Broken`](crate::StepError::Broken): the first of them, when all
    /// steps have ended.
    pub fn try_assert_deadlock<T, E>(
        &self,
        steps: impl IntoIterator<Item = Pending<T, E>>,
    ) -> Result<Vec<Result<T, E>>, SessionError>
    where
        E: Error + 'static,
    {
        // An iterator may be what launches them: so all of them first.
        let steps: Vec<_> = steps.into_iter().collect();
        let ended: Vec<_> = steps.into_iter().map(Pending::returned).collect();
        let results: Vec<_> = ended.into_iter().collect::<Result<_, _>>()?;
        let is_deadlock = |result: &Result<T, E>| matches!(result, Err(error) if condition(error) == Some(Condition::Deadlock));
        if results.iter().any(is_deadlock) {
            return Ok(results);
        }
        Err(SessionError::NoDeadlock {
            transcript: Box::new(self.transcript()),
        })
    }
}

impl<F> fmt::Debug for Scenario<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scenario")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
