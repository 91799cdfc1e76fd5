use std::any::Any;
use std::error::Error;
use std::fmt;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use crossbeam::channel::{self, Receiver, Sender};
use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::Integer;

use super::stage::Stage;
use super::transcript::What;
use super::{HarnessError, IsolationLevel, Pending, StepError, StepProblem, transaction};
use crate::LockError;
use crate::error::words;

/// Gives back whatever a session has, in an aborted transaction and outside of one too.
pub(super) const LET_GO: &str = "ROLLBACK; SELECT pg_catalog.pg_advisory_unlock_all()";

type Job<C> = Box<dyn FnOnce(&mut C) + Send>;

/// A named session of a [`Scenario`](super::Scenario), with a thread and a connection of its own.
///
/// It does one step after another. A step is a closure over the connection; it crosses to the
/// session's thread, and so must own what it uses (`move`). Its error is of any type that says
/// what it is (`Display`), such as [`LockError`], Diesel's or the application's own.
///
/// A transaction that goes on over several steps is begun by [`begin`](Self::begin), which
/// Diesel knows of, unlike a `BEGIN` of one's own.
#[must_use = "a session ends when it is dropped"]
pub struct Session<C> {
    stage: Arc<Stage>,
    index: usize,
    /// None when the session is to end.
    jobs: Option<Sender<Job<C>>>,
    thread: Option<JoinHandle<()>>,
}

impl<C> Session<C> {
    /// Does a step, and returns what it returns when it has ended.
    ///
    /// It adds nothing to the step's own round trips. For a step that takes longer than 0.7 ms, the
    /// server is asked on the observer's connection whether it waits, for the transcript. It opens
    /// no transaction, and leaves the one that is open as the step leaves it.
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
                    let message = panic_message(&*payload);
                    (What::Panicked(message.clone()), Err(message))
                }
            };
            // Where nobody wants to know, it is dropped here, which may panic too.
            let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(sender.send(result))));
            what
        });
        Pending::new(Arc::clone(&self.stage), self.index, label, started, results)
    }

    /// An error about one of its steps, with the transcript.
    pub(super) fn error(&self, label: &str, problem: StepProblem) -> HarnessError {
        self.stage.error(self.index, label, problem)
    }

    fn launch(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> What + Send + 'static,
    ) -> Result<u64, StepProblem> {
        let jobs = self.jobs.as_ref().ok_or(StepProblem::SessionEnded)?;
        let serial = self.stage.start(self.index, label)?;
        let (stage, index) = (Arc::clone(&self.stage), self.index);
        let job = Box::new(move |conn: &mut C| stage.end(index, step(conn)));
        jobs.send(job).map_err(|_| StepProblem::SessionEnded)?;
        Ok(serial)
    }
}

impl<C> Session<C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// Begins the session's thread, on its connection.
    pub(super) fn open(stage: &Arc<Stage>, name: &str, mut conn: C) -> Result<Self, HarnessError> {
        let pid = backend_pid(&mut conn).map_err(|error| HarnessError::ConnectSession {
            session: name.to_owned(),
            source: error.into(),
        })?;
        Self::with_pid(stage, name, conn, pid)
    }

    /// Begins the session's thread, on its connection to a server process.
    pub(super) fn with_pid(
        stage: &Arc<Stage>,
        name: &str,
        conn: C,
        pid: i32,
    ) -> Result<Self, HarnessError> {
        let Some(index) = stage.enter(name, pid) else {
            return Err(HarnessError::DuplicateSession {
                session: name.to_owned(),
            });
        };
        let (sender, jobs) = channel::unbounded();
        let ending = Ending(Arc::clone(stage), index);
        let thread = thread::Builder::new()
            // A name that no thread can have is no reason to panic.
            .name(format!("session {}", name.replace('\0', "")))
            .spawn(move || work(conn, &jobs, ending))
            .map_err(HarnessError::Thread)?;
        Ok(Self {
            stage: Arc::clone(stage),
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
        self.run("begin", transaction::begin)
    }

    /// Begins a transaction of an isolation level, as a step. One round trip.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn begin_at(&self, level: IsolationLevel) -> Result<(), StepError> {
        self.run("begin", move |conn| transaction::begin_at(conn, level))
    }

    /// Commits the transaction, as a step. One round trip.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run); a transaction that can't be committed has been rolled back.
    pub fn commit(&self) -> Result<(), StepError> {
        self.run("commit", transaction::commit)
    }

    /// Rolls the transaction back, as a step. One round trip.
    ///
    /// # Errors
    ///
    /// As for [`run`](Self::run).
    pub fn rollback(&self) -> Result<(), StepError> {
        self.run("rollback", transaction::rollback)
    }
}

impl<C> Session<C> {
    /// Has the session end, without waiting for that.
    pub(super) fn end(&mut self) {
        self.jobs = None;
    }
}

impl<C> Drop for Session<C> {
    fn drop(&mut self) {
        if self.stage.is_running(self.index) {
            self.stage.stop(self.index);
        }
        self.end();
        // A thread that doesn't end is left to itself: there is no way to end it.
        if self.stage.has_left(self.index)
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
struct Ending(Arc<Stage>, usize);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

pub(super) fn backend_pid<C>(conn: &mut C) -> QueryResult<i32>
where
    C: LoadConnection<Backend = Pg>,
{
    diesel::select(sql::<Integer>("pg_catalog.pg_backend_pid()")).get_result(conn)
}

fn work<C>(conn: C, jobs: &Receiver<Job<C>>, _ending: Ending)
where
    C: LoadConnection<Backend = Pg>,
{
    // A local, and so gone before the end is told.
    let mut conn = conn;
    for job in jobs {
        job(&mut conn);
    }
    // A connection that is lost has let go.
    let _ = conn.batch_execute(LET_GO);
}

/// What an error says, with its sources where they can be had.
fn error_words<E: fmt::Display + 'static>(error: &E) -> String {
    let any = error as &dyn Any;
    let ours = any.downcast_ref::<LockError>().map(|error| words(error));
    let boxed = || {
        any.downcast_ref::<Box<dyn Error + Send + Sync>>()
            .map(|error| words(&**error))
    };
    ours.or_else(boxed).unwrap_or_else(|| error.to_string())
}

/// What a panic says, if it is text.
pub(super) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|&text| text.to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "something that is no text".to_owned())
}
