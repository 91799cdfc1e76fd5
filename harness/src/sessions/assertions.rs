use std::fmt;

use super::error::{SessionError, error_words};
use super::pending::Pending;
use super::problem::StepProblem;
use super::session::Session;
use crate::panics::or_panic;

/// Assertions, in pairs: the one that begins with `try_` returns the error, and the other one
/// panics with it, at the line of its caller. The error's text has the
/// [`Transcript`](crate::Transcript).
impl<C> Session<C> {
    /// Launches a step, and returns as soon as the server says that it waits for another session
    /// of the scenario.
    ///
    /// For whom it waits, [`wait_blocked`](Pending::wait_blocked) tells. It costs what that does.
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
    /// first.assert_does_not_block("lock 42", |conn| conn.advisory_xact_lock(42))?;
    /// second.assert_fails_with(
    ///     "lock 42, or fail",
    ///     |conn| conn.advisory_xact_lock_nowait(42),
    ///     |error| error.is_contention(),
    /// );
    /// let lock = second.assert_blocks("lock 42", |conn| conn.advisory_xact_lock(42));
    /// first.commit()?;
    /// lock.join()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// Where [`try_assert_blocks`](Self::try_assert_blocks) fails.
    #[track_caller]
    pub fn assert_blocks<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> Pending<T, E>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        or_panic(self.try_assert_blocks(label, step))
    }

    /// As [`assert_blocks`](Self::assert_blocks), with an error.
    ///
    /// # Errors
    ///
    /// [`StepProblem::NotBlocked`]: the step has ended instead.
    /// Else as for [`wait_blocked`](Pending::wait_blocked).
    pub fn try_assert_blocks<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> Result<Pending<T, E>, SessionError>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let mut pending = self.start(label, step);
        pending.wait_blocked()?;
        Ok(pending)
    }

    /// Does a step that must not wait for another session of the scenario, and returns what it
    /// returns, be that an error.
    ///
    /// A step that ends within 0.7 ms costs nothing beside its own round trips;
    /// for a longer one, the server is asked now and then. So a wait that is over by itself
    /// before that is not seen, but none is that a step of the test would have to end.
    ///
    /// # Panics
    ///
    /// Where [`try_assert_does_not_block`](Self::try_assert_does_not_block) fails.
    #[track_caller]
    pub fn assert_does_not_block<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        or_panic(self.try_assert_does_not_block(label, step))
    }

    /// As [`assert_does_not_block`](Self::assert_does_not_block), with an error.
    ///
    /// # Errors
    ///
    /// [`StepProblem::Waited`]: the step was seen to wait, and has been cancelled.
    /// [`SessionError::Observe`]: the server could not be asked.
    /// Else those of [`run`](Self::run) that are [`StepError::Broken`](crate::StepError::Broken).
    pub fn try_assert_does_not_block<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, SessionError>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let pending = self.start(label, step);
        match pending.settle()? {
            None => pending.returned(),
            Some(blocked) => {
                pending.stop();
                Err(pending.error(StepProblem::Waited { blocked }))
            }
        }
    }

    /// Does a step that must fail, with an error for which `is_expected` says `true`, and returns
    /// that error. Before it fails, it may wait.
    ///
    /// It adds nothing to the step's own round trips.
    ///
    /// # Panics
    ///
    /// Where [`try_assert_fails_with`](Self::try_assert_fails_with) fails.
    #[track_caller]
    pub fn assert_fails_with<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
        is_expected: impl FnOnce(&E) -> bool,
    ) -> E
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        or_panic(self.try_assert_fails_with(label, step, is_expected))
    }

    /// As [`assert_fails_with`](Self::assert_fails_with), with an error.
    ///
    /// # Errors
    ///
    /// [`StepProblem::NotFailed`]: the step has ended well.
    /// [`StepProblem::FailedOtherwise`]: it failed with another error.
    /// Else those of [`run`](Self::run) that are [`StepError::Broken`](crate::StepError::Broken).
    pub fn try_assert_fails_with<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
        is_expected: impl FnOnce(&E) -> bool,
    ) -> Result<E, SessionError>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let problem = match self.start(label, step).returned()? {
            Err(error) if is_expected(&error) => return Ok(error),
            Err(error) => StepProblem::FailedOtherwise {
                error: error_words(&error),
            },
            Ok(_) => StepProblem::NotFailed,
        };
        Err(self.error(label, problem))
    }
}
