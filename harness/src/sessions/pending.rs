use std::fmt;
use std::sync::Arc;

use crossbeam::channel::Receiver;

use diesel_locks::LockError;

use super::blocked::Blocked;
use super::error::{SessionError, StepError};
use super::execution::{Execution, Until};
use super::problem::StepProblem;

/// What a step has come to: what it returned, or the message that it panicked with.
type Ended<T, E> = Result<Result<T, E>, String>;

/// A step that was launched by [`Session::start`](super::Session::start).
///
/// Dropping it lets the step go on, and discards what it returns.
#[must_use = "what a step returns is in its `join`"]
pub struct Pending<T, E = LockError> {
    execution: Arc<Execution>,
    session: usize,
    label: String,
    /// The step's number among those of its session, if it could be launched.
    started: Result<u64, StepProblem>,
    results: Receiver<Ended<T, E>>,
}

impl<T, E> Pending<T, E> {
    pub(super) fn new(
        execution: Arc<Execution>,
        session: usize,
        label: &str,
        started: Result<u64, StepProblem>,
        results: Receiver<Ended<T, E>>,
    ) -> Self {
        Self {
            execution,
            session,
            label: label.to_owned(),
            started,
            results,
        }
    }

    /// Returns as soon as the server says that this step waits for other sessions of the
    /// scenario, and for which.
    ///
    /// The server is asked on the observer's connection, 0.7 ms after the step began
    /// for the first time, and then less and less often; twice when it says yes, and once more for
    /// what. Waits for anything else do not count, such as sessions that are not of the scenario.
    /// A step that waits on a connection of its own, such as a pool's, to the same database, is
    /// seen to, unless another session's step is busy with something that is not on the server.
    ///
    /// # Errors
    ///
    /// [`SessionError::Step`]: the step has ended instead, which [`join`](Self::join) tells more
    /// of; or it neither ended nor waited within the scenario's time, and was cancelled; or it
    /// could not be launched.
    /// [`SessionError::Observe`]: the server could not be asked.
    pub fn wait_blocked(&mut self) -> Result<Blocked, SessionError> {
        self.settle()?
            .ok_or_else(|| self.error(StepProblem::NotBlocked))
    }

    /// Whether the step has ended. It costs no round trip.
    pub fn is_finished(&self) -> bool {
        match self.started {
            Ok(serial) => self.execution.has_ended(self.session, serial),
            Err(_) => true,
        }
    }

    /// Waits until the step has ended, and returns what it returned.
    ///
    /// # Errors
    ///
    /// As for [`Session::run`](super::Session::run).
    pub fn join(self) -> Result<T, StepError<E>> {
        // A wait that the test does not ask for is of interest if the step hangs. Whatever keeps it
        // from being seen, the step goes on.
        if let Err(error @ SessionError::Step { .. }) = self.settle() {
            return Err(error.into());
        }
        self.end()?;
        match self.results.try_recv() {
            Ok(Ok(Ok(done))) => Ok(done),
            Ok(Ok(Err(error))) => Err(StepError::Failed(error)),
            Ok(Err(message)) => Err(self.error(StepProblem::Panicked { message }).into()),
            Err(_) => Err(self.error(StepProblem::SessionEnded).into()),
        }
    }

    /// Waits until the step has ended or waits, and returns for what it waits.
    pub(crate) fn settle(&self) -> Result<Option<Blocked>, SessionError> {
        self.wait(Until::Settled)?;
        Ok(match self.is_finished() {
            true => None,
            false => self.execution.blocked(self.session),
        })
    }

    /// Waits for the step as [`join`](Self::join) does, and tells its own error from what keeps it
    /// from coming to an end.
    pub(crate) fn returned(self) -> Result<Result<T, E>, SessionError> {
        match self.join() {
            Ok(done) => Ok(Ok(done)),
            Err(StepError::Failed(error)) => Ok(Err(error)),
            Err(StepError::Broken(error)) => Err(error),
        }
    }

    /// Has the server stop the step, if it has not ended.
    pub(crate) fn stop(&self) {
        if !self.is_finished() {
            self.execution.stop(self.session);
        }
    }

    /// Waits until the step has ended.
    pub(crate) fn end(&self) -> Result<(), SessionError> {
        self.wait(Until::Ended)
    }

    /// Waits for this step, unless it has ended before a later one of its session.
    fn wait(&self, until: Until) -> Result<(), SessionError> {
        let serial = match &self.started {
            Ok(serial) => *serial,
            Err(problem) => return Err(self.error(problem.clone())),
        };
        if !self.is_finished() {
            self.execution.wait(&[self.session], until)?;
        }
        match self.execution.given_up(self.session, serial) {
            Some(problem) => Err(self.error(problem)),
            None => Ok(()),
        }
    }

    pub(crate) fn error(&self, problem: StepProblem) -> SessionError {
        self.execution.error(self.session, &self.label, problem)
    }
}

impl<T, E> fmt::Debug for Pending<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("step", &self.label)
            .field("is_finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}
