use std::error::Error;
use std::fmt;

use super::{HarnessError, Pending, Scenario, Session, StepProblem};
use crate::error::{self, words};

/// Assertions, in pairs: the one that begins with `try_` returns the error, and the other one
/// panics with it, at the line of its caller. The error's text has the
/// [`Transcript`](super::Transcript).
impl<C> Session<C> {
    /// Launches a step, and returns as soon as the server says that it waits for another session
    /// of the scenario.
    ///
    /// For whom it waits, [`wait_blocked`](Pending::wait_blocked) tells. It costs what that does.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, harness::Scenario, prelude::*};
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
    ) -> Result<Pending<T, E>, HarnessError>
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
    /// [`HarnessError::Observe`]: the server could not be asked.
    /// Else those of [`run`](Self::run) that are [`StepError::Broken`](super::StepError::Broken).
    pub fn try_assert_does_not_block<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, HarnessError>
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
    /// Else those of [`run`](Self::run) that are [`StepError::Broken`](super::StepError::Broken).
    pub fn try_assert_fails_with<T, E>(
        &self,
        label: &str,
        step: impl FnOnce(&mut C) -> Result<T, E> + Send + 'static,
        is_expected: impl FnOnce(&E) -> bool,
    ) -> Result<E, HarnessError>
    where
        T: Send + 'static,
        E: fmt::Display + Send + 'static,
    {
        let problem = match self.start(label, step).returned()? {
            Err(error) if is_expected(&error) => return Ok(error),
            Err(error) => StepProblem::FailedOtherwise {
                error: error.to_string(),
            },
            Ok(_) => StepProblem::NotFailed,
        };
        Err(self.error(label, problem))
    }
}

impl<F> Scenario<F> {
    /// Waits until all of these steps have ended, of which at least one must have failed with a
    /// deadlock, and returns what they returned, in their order.
    ///
    /// The server finds a deadlock after its `deadlock_timeout`, 1 s by default, and ends one of
    /// the transactions; whose, is up to it. The others must end without a further step. A
    /// deadlock is [`LockError::Deadlock`](crate::LockError::Deadlock), or Diesel's error for it,
    /// in the step's error or in its [sources](Error::source). It costs no round trip.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, harness::Scenario, prelude::*};
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
    /// [`HarnessError::NoDeadlock`]: none of them has failed with a deadlock.
    /// Else those of [`Pending::join`] that are [`StepError::Broken`](super::StepError::Broken): the first of them, when all
    /// steps have ended.
    pub fn try_assert_deadlock<T, E>(
        &self,
        steps: impl IntoIterator<Item = Pending<T, E>>,
    ) -> Result<Vec<Result<T, E>>, HarnessError>
    where
        E: Error + 'static,
    {
        // An iterator may be what launches them: so all of them first.
        let steps: Vec<_> = steps.into_iter().collect();
        let ended: Vec<_> = steps.into_iter().map(Pending::returned).collect();
        let results: Vec<_> = ended.into_iter().collect::<Result<_, _>>()?;
        let is_deadlock =
            |result: &Result<T, E>| matches!(result, Err(error) if error::is_deadlock(error));
        if results.iter().any(is_deadlock) {
            return Ok(results);
        }
        Err(HarnessError::NoDeadlock {
            transcript: Box::new(self.transcript()),
        })
    }
}

/// Panics with all that the error says, at the caller's line.
#[track_caller]
pub(super) fn or_panic<T>(result: Result<T, HarnessError>) -> T {
    match result {
        Ok(done) => done,
        Err(error) => panic!("{}", words(&error)),
    }
}
