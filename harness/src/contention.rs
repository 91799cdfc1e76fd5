mod error;
mod hold;
mod meeting;
mod outcome;
mod standings;

use std::error::Error;
use std::time::Duration;

use crate::connection::{HarnessConnection, backend_pid};
pub use error::ContentionError;
pub use hold::Hold;
use meeting::{Attempted, meet};
pub use outcome::Outcome;

/// The time after which a test is taken for broken.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Several transactions that try to take the same lock at once.
///
/// Each contender has a thread, a connection and a transaction of its own. The one that gets the
/// lock holds it until every other contender has *settled*: failed, got it too, or been seen by
/// the server to wait for another contender. What they see of each other is what the server
/// does, and no sleep decides anything; so the outcome is the same every time.
///
/// No contender makes its attempt before all are connected. One more connection is opened, by one
/// more call of `connect`, only if a contender takes longer than a few milliseconds, to ask the
/// server who waits. When `run` returns, all threads have ended and all connections are dropped.
///
/// `connect` must have a time limit of its own: the timeout begins when all are connected. A pool
/// needs a connection more than there are contenders, if one of them may wait.
///
/// A contender may take its lock on a connection of its own, such as a pool's, to the same database:
/// its wait is seen all the same, where there are as many such waits as such contenders.
///
/// A contender that waits is let in as soon as it was seen: a wait with a timeout of its own shows
/// as a wait, and not as a [`Timeout`](diesel_locks::LockError::Timeout), unless it ends within the few
/// milliseconds before the server is asked. One that waits for somebody who is no contender is
/// not settled, and loses its session when the time is over.
///
/// Seeing who waits needs PostgreSQL. On other backends a contender that waits for a lock runs
/// into the timeout, and counts as [unsettled](Outcome::unsettled).
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::{AdvisoryLock, LockError, prelude::*};
/// use diesel_locks_harness::{Contention, TestDatabase};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = TestDatabase::new()?;
/// let contention = Contention::new(|| PgConnection::establish(database.url()));
///
/// // A guard lets go at the end of its scope, so the attempt names the point to hold it at.
/// let outcome = contention.run_scoped(|conn, hold| {
///     let leader = conn.advisory_lock_nowait("gold_leader")?;
///     hold.until_settled();
///     leader.release()
/// })?;
/// assert_eq!(outcome.granted(), 1);
/// assert!(matches!(outcome.errors(), [LockError::NotAvailable { .. }]));
///
/// // Without NOWAIT the other one waits, and gets it afterwards.
/// let outcome = contention.run_scoped(|conn, hold| {
///     let leader = conn.advisory_lock("gold_leader")?;
///     hold.until_settled();
///     leader.release()
/// })?;
/// assert_eq!((outcome.granted(), outcome.waited()), (1, 1));
/// assert!(matches!(outcome.afterwards(), [Ok(())]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Contention<F> {
    connect: F,
    contenders: usize,
    timeout: Duration,
}

impl<F> Contention<F> {
    /// Two contenders, with connections made by `connect`, and 20 s at most.
    pub fn new<C, X>(connect: F) -> Self
    where
        F: Fn() -> Result<C, X>,
    {
        Self {
            connect,
            contenders: 2,
            timeout: TIMEOUT,
        }
    }

    /// As many contenders.
    pub fn contenders(mut self, contenders: usize) -> Self {
        self.contenders = contenders;
        self
    }

    /// The time after which the test is taken for broken. It decides nothing in one that is not.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Has every contender make `attempt` inside a transaction, and hold what it gets.
    ///
    /// An attempt that returns `Ok` was granted the lock; it is held by the transaction, which is
    /// committed when all contenders have settled. One that returns `Err` has failed, and its
    /// transaction is rolled back before the others hear of it.
    ///
    /// Beyond the connections, the transactions and the attempts, this costs one round trip for
    /// each contender, on PostgreSQL.
    ///
    /// # Errors
    ///
    /// [`ContentionError::Connect`]: a connection could not be opened.
    /// [`ContentionError::Observe`]: the server could not be asked who waits.
    /// [`ContentionError::Thread`]: the operating system gave no thread.
    ///
    /// An outcome with [unsettled](Outcome::unsettled) contenders is not an error here. The
    /// attempt's own error type crosses threads: `Box<dyn Error + Send + Sync>` will do, and
    /// `Box<dyn Error>` will not.
    ///
    /// # Panics
    ///
    /// If an attempt panics: with what it panicked with, when all contenders have ended.
    pub fn run<C, X, A, E>(&self, attempt: A) -> Result<Outcome<E>, ContentionError>
    where
        F: Fn() -> Result<C, X> + Sync,
        X: Into<Box<dyn Error + Send + Sync>>,
        C: HarnessConnection,
        A: Fn(&mut C) -> Result<(), E> + Sync,
        E: From<diesel::result::Error> + Send,
    {
        self.run_scoped(|conn, hold| {
            conn.transaction(|conn| {
                attempt(conn)?;
                hold.until_settled();
                Ok(())
            })
        })
    }

    /// Has every contender make `attempt`, which calls [`Hold::until_settled`] where it has the
    /// lock.
    ///
    /// For a lock with a scope of its own: a guard, or a transaction that begins with the lock,
    /// such as SQLite's `immediate_transaction`. No transaction is opened around the attempt. An
    /// attempt that returns `Ok` without a call to `until_settled` was granted the lock, and let
    /// go of it at once.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    ///
    /// # Panics
    ///
    /// As for [`run`](Self::run).
    pub fn run_scoped<C, X, A, E>(&self, attempt: A) -> Result<Outcome<E>, ContentionError>
    where
        F: Fn() -> Result<C, X> + Sync,
        X: Into<Box<dyn Error + Send + Sync>>,
        C: HarnessConnection,
        A: Fn(&mut C, &Hold) -> Result<(), E> + Sync,
        E: Send,
    {
        let connect = |contender| {
            let failed = |source| ContentionError::Connect { contender, source };
            let mut conn = (self.connect)().map_err(|error| failed(error.into()))?;
            let pid = backend_pid(&mut conn).map_err(|error| failed(error.into()))?;
            Ok((conn, pid))
        };
        let contend = |contender, hold: Hold| -> Attempted<E> {
            let (mut conn, pid) = connect(contender)?;
            Ok(hold.ready(pid).then(|| attempt(&mut conn, &hold)))
        };
        let observe = || (self.connect)().map_err(|error| ContentionError::Observe(error.into()));
        meet(self.contenders, self.timeout, observe, contend)
    }
}

/// Has two transactions try to take the same lock at once, and returns the errors.
///
/// The one that gets the lock holds it until the other one has failed. A lock that excludes
/// gives one error; no error means that both got it, or that the second one waited for it: see
/// [`Contention`], of which this is the short form.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
/// use std::time::Duration;
///
/// use diesel::prelude::*;
/// use diesel_locks_harness::attempt_acquiring_lock_in_separate_transactions;
/// use diesel_locks::{LockError, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// let errors = attempt_acquiring_lock_in_separate_transactions(
///     || PgConnection::establish(database.url()),
///     |conn| conn.execute_for_update_nowait(accounts::table.find(1)).map(drop),
///     Duration::from_secs(20),
/// )?;
/// assert!(matches!(errors[..], [LockError::NotAvailable { .. }]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ContentionError::Timeout`]: the two had not settled after `timeout`. Else as for
/// [`Contention::run`].
///
/// # Panics
///
/// If `acquire_lock` panics.
pub fn attempt_acquiring_lock_in_separate_transactions<F, C, X, A, E>(
    connect: F,
    acquire_lock: A,
    timeout: Duration,
) -> Result<Vec<E>, ContentionError>
where
    F: Fn() -> Result<C, X> + Sync,
    X: Into<Box<dyn Error + Send + Sync>>,
    C: HarnessConnection,
    A: Fn(&mut C) -> Result<(), E> + Sync,
    E: From<diesel::result::Error> + Send,
{
    let outcome = Contention::new(connect)
        .timeout(timeout)
        .run(acquire_lock)?;
    let idle = outcome.idle();
    match outcome.unsettled().len() {
        0 => Ok(outcome.into_errors()),
        unsettled => Err(ContentionError::Timeout {
            unsettled,
            idle,
            timeout,
        }),
    }
}
