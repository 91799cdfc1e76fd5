use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{self, Receiver, Sender};
use diesel::RunQueryDsl;
use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::result::Error;
use diesel::sql_types::{Bool, Integer};

use super::begin::{self, IsolationLevel};
use super::deadlocks::DeadlockTimeout;
use super::error::{SessionError, StepError, error_words};
use super::execution::Execution;
use super::pending::Pending;
use super::problem::StepProblem;
use crate::panics;
use crate::transcript::What;

/// Gives back whatever a session has, in an aborted transaction and outside of one too.
pub(crate) const LET_GO: &str = "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()";

/// A step, and how many steps of other sessions wait as it begins.
type Job<C> = (usize, Box<dyn FnOnce(&mut C) + Send>);

/// A named session of a [`Scenario`](crate::Scenario), with a thread and a connection of its own.
///
/// It does one step after another. A step is a closure over the connection; it crosses to the
/// session's thread, and so must own what it uses (`move`). Its error is of any type that says
/// what it is (`Display`), such as [`LockError`](diesel_locks::LockError), Diesel's or the application's own.
///
/// A transaction that goes on over several steps is begun by [`begin`](Self::begin), which
/// Diesel knows of, unlike a `BEGIN` of one's own.
#[must_use = "a session ends when it is dropped"]
pub struct Session<C> {
    execution: Arc<Execution>,
    index: usize,
    /// None when the session is to end.
    jobs: Option<Sender<Job<C>>>,
    thread: Option<JoinHandle<()>>,
}

impl<C> Session<C> {
    /// Does a step, and returns what it returns when it has ended.
    ///
    /// It adds nothing to the step's own round trips, but one while others wait, as for
    /// [`start`](Self::start). For a step that takes longer than 0.7 ms, the server is asked on the
    /// observer's connection whether it waits, for the transcript. It opens no transaction, and
    /// leaves the one that is open as the step leaves it.
    ///
    /// # Errors
    ///
    /// [`StepError::Failed`]: the step's own error.
    /// [`StepError::Broken`]: it panicked, or had not ended when the time was over; or an
    /// earlier step of the session still waits; or the session has ended.
    pub fn run<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> Result<T, StepError<E>>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        self.start(label, step).join()
    }

    /// Launches a step that may have to wait for another session.
    ///
    /// What keeps it from being launched is told by the methods of [`Pending`]. The step goes on
    /// if the value is dropped.
    ///
    /// If it begins while steps of other sessions have been seen to wait, it has a
    /// `deadlock_timeout` of 30 ms or less, where the session was opened by a superuser: so a
    /// deadlock is found soon, and in the step that closes the circle. That is one round trip, and
    /// another one when the server's own is put back, before a later step.
    pub fn start<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> Pending<T, E>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let (sender, results) = channel::bounded(1);
        let started = self.launch(label, move |conn| {
            let ended = panic::catch_unwind(AssertUnwindSafe(|| match step(conn) {
                Ok(done) => (What::Done, Ok(done)),
                Err(error) => (What::Failed(error_words(&error)), Err(error)),
            }));
            let (what, result) = match ended {
                Ok((what, result)) => (what, Ok(result)),
                Err(payload) => {
                    let message = panics::message(&*payload);
                    (What::Panicked(message.clone()), Err(message))
                }
            };
            // Where nobody wants to know, it is dropped here, which may panic too.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(sender.send(result))));
            what
        });
        Pending::new(
            Arc::clone(&self.execution),
            self.index,
            label,
            started,
            results,
        )
    }

    /// An error about one of its steps, with the transcript.
    pub(crate) fn error(&self, label: &str, problem: StepProblem) -> SessionError {
        self.execution.error(self.index, label, problem)
    }

    fn launch(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> What + Send + 'static,
    ) -> Result<u64, StepProblem> {
        let jobs = self.jobs.as_ref().ok_or(StepProblem::SessionEnded)?;
        let serial = self.execution.start(self.index, label)?;
        let (execution, index) = (Arc::clone(&self.execution), self.index);
        let waiting = execution.waiting();
        let job = Box::new(move |conn: &mut C| execution.end(index, step(conn)));
        jobs.send((waiting, job))
            .map_err(|_| StepProblem::SessionEnded)?;
        Ok(serial)
    }
}

impl<C> Session<C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// Begins the session's thread, on its connection. A deadlock of such sessions is found soon, where
    /// the role may set `deadlock_timeout`.
    pub(crate) fn open(
        execution: &Arc<Execution>,
        name: &str,
        mut conn: C,
    ) -> Result<Self, SessionError> {
        let asked = diesel::select(sql::<(Integer, Bool)>(
            "pg_catalog.pg_backend_pid(), \
             pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on'",
        ));
        let (pid, is_superuser) = asked.get_result(&mut conn).map_err(|error: Error| {
            let session = name.to_owned();
            let source = error.into();
            SessionError::Connect { session, source }
        })?;
        let deadlocks = match is_superuser {
            true => DeadlockTimeout::Usual,
            false => DeadlockTimeout::Fixed,
        };
        Self::begin_thread(execution, name, conn, pid, deadlocks)
    }

    /// Begins the session's thread, on its connection to a server process, with the server's own
    /// `deadlock_timeout`.
    pub(crate) fn with_pid(
        execution: &Arc<Execution>,
        name: &str,
        conn: C,
        pid: i32,
    ) -> Result<Self, SessionError> {
        Self::begin_thread(execution, name, conn, pid, DeadlockTimeout::Fixed)
    }

    fn begin_thread(
        execution: &Arc<Execution>,
        name: &str,
        conn: C,
        pid: i32,
        deadlocks: DeadlockTimeout,
    ) -> Result<Self, SessionError> {
        let Some(index) = execution.enter(name, pid) else {
            return Err(SessionError::Duplicate {
                session: name.to_owned(),
            });
        };
        let (sender, jobs) = channel::unbounded();
        let ending = Ending(Arc::clone(execution), index);
        let thread = thread::Builder::new()
            // A name that no thread can have is no reason to panic.
            .name(format!("session {}", name.replace('\0', "")))
            .spawn(move || work(conn, &jobs, deadlocks, ending))
            .map_err(SessionError::Thread)?;
        Ok(Self {
            execution: Arc::clone(execution),
            index,
            jobs: Some(sender),
            thread: Some(thread),
        })
    }

    /// Begins a transaction of which Diesel knows, as a step. One round trip.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn begin(&self) -> Result<(), StepError> {
        self.run("begin", begin::begin)
    }

    /// Begins a transaction of an isolation level, as a step. One round trip.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn begin_at(&self, level: IsolationLevel) -> Result<(), StepError> {
        self.run("begin", move |conn| begin::begin_at(conn, level))
    }

    /// Commits the transaction, as a step. One round trip.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run); a transaction that can't be committed has been rolled back.
    pub fn commit(&self) -> Result<(), StepError> {
        self.run("commit", begin::commit)
    }

    /// Rolls the transaction back, as a step. One round trip.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn rollback(&self) -> Result<(), StepError> {
        self.run("rollback", begin::rollback)
    }
}

impl<C> Session<C> {
    /// Has the session end, without waiting for that.
    pub(crate) fn end(&mut self) {
        self.jobs = None;
    }
}

impl<C> Drop for Session<C> {
    fn drop(&mut self) {
        if self.execution.is_running(self.index) {
            self.execution.stop(self.index);
        }
        self.end();
        // A thread that doesn't end is left to itself: there is no way to end it.
        if self.execution.has_left(self.index)
            && let Some(thread) = self.thread.take()
        {
            let _ = thread.join();
        }
    }
}

impl<C> fmt::Debug for Session<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

/// Says that a session has ended, however that comes.
struct Ending(Arc<Execution>, usize);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

fn work<C>(conn: C, jobs: &Receiver<Job<C>>, mut deadlocks: DeadlockTimeout, _ending: Ending)
where
    C: LoadConnection<Backend = Pg>,
{
    // A local, and so gone before the end is told.
    let mut conn = conn;
    for (waiting, job) in jobs {
        deadlocks.prepare(&mut conn, waiting);
        job(&mut conn);
    }
    // A connection that is lost has let go.
    let _ = conn.batch_execute(LET_GO);
    deadlocks.put_back(&mut conn);
}
