use std::collections::hash_map::RandomState;
use std::error::Error as StdError;
use std::hash::{BuildHasher, Hasher};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::Connection;
use diesel::pg::Pg;
use diesel::result::Error;

use crate::{transaction, wrapped};

/// How often, and how soon, a transaction that failed is run again.
///
/// Only failures that [`LockError::is_retryable`](crate::LockError::is_retryable) are: a deadlock
/// or a serialization failure, which PostgreSQL resolves by ending one of the transactions. See [*Serialization Failure
/// Handling*], section 13.5 of the PostgreSQL documentation.
///
/// [*Serialization Failure Handling*]: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    attempts: u32,
    first_pause: Duration,
    longest_pause: Duration,
    deadline: Option<Duration>,
}

impl Retry {
    /// Five attempts, with pauses from 10 ms up to 1 s, and no deadline.
    pub fn new() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(1),
            deadline: None,
        }
    }

    /// How many attempts there are at most, the first one included; 0 is taken for 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The pause after the first attempt, which doubles from attempt to attempt, up to the
    /// longest. Each pause is cut by chance to between half and all of that, so that those who
    /// have met once do not meet again.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    /// Gives up when the next attempt could not begin within `deadline` of the first one. It ends
    /// no attempt that has begun.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The pause after the failed attempt of this number, counted from 1.
    fn pause(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt - 1);
        let pause = self
            .first_pause
            .saturating_mul(doubled)
            .min(self.longest_pause);
        // Each `RandomState` hashes in its own way.
        let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let half = pause / 2;
        half.saturating_add(half.mul_f64(chance))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

/// Transactions that are run again when they fail.
///
/// For every synchronous connection to PostgreSQL.
pub trait RetryExt: Connection<Backend = Pg> + Sized {
    /// Has transactions run again as `retry` says.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use std::time::Duration;
    ///
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, Retry, prelude::*};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = database()?;
    /// # let conn = &mut PgConnection::establish(database.url())?;
    /// let retry = Retry::new().attempts(10).deadline(Duration::from_secs(5));
    /// conn.retrying(retry)
    ///     .on_failure(|attempt, error| eprintln!("attempt {attempt}: {error}"))
    ///     .transaction::<_, LockError>(|conn| {
    ///         conn.select_for_update::<i32, _>(accounts::table.select(accounts::id))?;
    ///         diesel::update(accounts::table).set(accounts::balance.eq(0)).execute(conn)?;
    ///         Ok(())
    ///     })?;
    /// # Ok(())
    /// # }
    /// ```
    fn retrying(&mut self, retry: Retry) -> Retrying<'_, Self> {
        Retrying {
            conn: self,
            retry,
            on_failure: Box::new(|_, _| ()),
        }
    }
}

impl<C: Connection<Backend = Pg>> RetryExt for C {}

type Report<'c> = dyn FnMut(u32, &dyn StdError) + 'c;

/// A connection whose transactions are run again when they fail, made by [`RetryExt::retrying`].
#[must_use = "nothing is run before `transaction` or `run`"]
pub struct Retrying<'c, C> {
    conn: &'c mut C,
    retry: Retry,
    on_failure: Box<Report<'c>>,
}

impl<'c, C: Connection<Backend = Pg>> Retrying<'c, C> {
    /// Reports every failed attempt that could be run again, the last one included, with its
    /// number, counted from 1.
    pub fn on_failure(mut self, report: impl FnMut(u32, &dyn StdError) + 'c) -> Self {
        self.on_failure = Box::new(report);
        self
    }

    /// Runs `work` in a transaction, and again from its start if that or its commit fails.
    ///
    /// Inside an open transaction it is run once, in a savepoint: a deadlock or a serialization
    /// failure dooms the outer transaction too, and it is that one that has to be run again.
    ///
    /// # Errors
    ///
    /// That of the last attempt. Whether an error can be retried is looked up in it and in its
    /// [sources](StdError::source): so an error type of one's own that wraps
    /// [`LockError`](crate::LockError) or Diesel's error will do.
    pub fn transaction<T, E>(self, mut work: impl FnMut(&mut C) -> Result<T, E>) -> Result<T, E>
    where
        E: From<Error> + StdError + 'static,
    {
        self.run(|conn| conn.transaction(&mut work))
    }

    /// Runs `work`, which has a transaction of its own, such as one by `build_transaction`, and
    /// again if it fails.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, Retry, prelude::*};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = database()?;
    /// # let conn = &mut PgConnection::establish(database.url())?;
    /// let count = conn.retrying(Retry::new()).run(|conn| {
    ///     conn.build_transaction()
    ///         .serializable()
    ///         .run(|conn| Ok::<i64, LockError>(accounts::table.count().get_result(conn)?))
    /// })?;
    /// # assert_eq!(count, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`transaction`](Self::transaction).
    pub fn run<T, E>(mut self, mut work: impl FnMut(&mut C) -> Result<T, E>) -> Result<T, E>
    where
        E: From<Error> + StdError + 'static,
    {
        let is_open = transaction::depth(self.conn)?.is_some();
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            let error = match work(self.conn) {
                Ok(done) => return Ok(done),
                Err(error) if wrapped::is_retryable(&error) => error,
                Err(error) => return Err(error),
            };
            (self.on_failure)(attempt, &error);
            let pause = self.retry.pause(attempt);
            let is_late = |deadline| begun.elapsed().saturating_add(pause) > deadline;
            if is_open || attempt >= self.retry.attempts || self.retry.deadline.is_some_and(is_late)
            {
                return Err(error);
            }
            thread::sleep(pause);
            attempt += 1;
        }
    }
}

impl<C> std::fmt::Debug for Retrying<'_, C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Retrying")
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_cut_by_at_most_a_half() {
        let second = Duration::from_secs(1);
        let retry = Retry::new().backoff(second, 5 * second);
        for (attempt, longest) in [(1, 1), (2, 2), (3, 4), (4, 5), (40, 5), (u32::MAX, 5)] {
            let pause = retry.pause(attempt);
            let longest = longest * second;
            assert!(
                longest / 2 <= pause && pause <= longest,
                "{attempt}: {pause:?}"
            );
        }
        let endless = Retry::new().backoff(Duration::MAX, Duration::MAX);
        assert!(endless.pause(2) >= Duration::MAX / 2 - second);
    }
}
