mod failure;
mod policy;

use std::error::Error as StdError;
use std::fmt;
use std::thread;
use std::time::Instant;

use diesel::connection::Connection;
use diesel::pg::Pg;

use crate::seal::Seal;
use crate::{transaction, wrapped};
pub use failure::TransactionError;
pub use policy::Retry;

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
    ///     .transaction::<_, LockError, _>(|conn| {
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
            besides: Nothing,
        }
    }
}

impl<C: Connection<Backend = Pg>> RetryExt for C {}

type Report<'c> = dyn FnMut(u32, &(dyn StdError + 'static)) + 'c;

/// A connection whose transactions are run again when they fail, made by [`RetryExt::retrying`].
///
/// `B` says what is retryable besides, by [`retry_if`](Self::retry_if), and is always inferred.
#[must_use = "nothing is run before `transaction` or `run`"]
pub struct Retrying<'c, C, B = Nothing> {
    conn: &'c mut C,
    retry: Retry,
    on_failure: Box<Report<'c>>,
    besides: B,
}

impl<'c, C: Connection<Backend = Pg>, B> Retrying<'c, C, B> {
    /// Reports every failed attempt that could be run again, the last one included, with its
    /// number, counted from 1.
    pub fn on_failure(mut self, report: impl FnMut(u32, &(dyn StdError + 'static)) + 'c) -> Self {
        self.on_failure = Box::new(report);
        self
    }

    /// Has a transaction run again after what `besides` holds for retryable too. A second call
    /// takes the place of the first.
    ///
    /// It gets the error as the transaction has it: a [`LockError`](crate::LockError), an error of
    /// one's own, an `anyhow::Error`. A closure that does not tell which by itself has to name it.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use std::time::Duration;
    ///
    /// use diesel::connection::SimpleConnection;
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, Retry, TableLockMode, prelude::*};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = database()?;
    /// # let conn = &mut PgConnection::establish(database.url())?;
    /// // Whoever waits for this lock holds up everybody else, so it waits briefly, and often.
    /// conn.retrying(Retry::new().attempts(100))
    ///     .retry_if(LockError::is_contention)
    ///     .transaction(|conn| {
    ///         let mode = TableLockMode::AccessExclusive;
    ///         conn.lock_table_timeout(accounts::table, mode, Duration::from_millis(100))?;
    ///         Ok(conn.batch_execute("ALTER TABLE accounts ADD COLUMN email text")?)
    ///     })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_if<E, F: FnMut(&E) -> bool>(self, besides: F) -> Retrying<'c, C, F> {
        Retrying {
            conn: self.conn,
            retry: self.retry,
            on_failure: self.on_failure,
            besides,
        }
    }

    /// Runs `work` in a transaction, and again from its start if that or its commit fails.
    ///
    /// Inside an open transaction it is run once, in a savepoint: a deadlock or a serialization
    /// failure dooms the outer transaction too, and it is that one that has to be run again.
    ///
    /// # Errors
    ///
    /// That of the last attempt. As for Diesel's `transaction` it may be of any type that Diesel's
    /// error turns into, if it can be looked into: see [`TransactionError`]. Whether it can be
    /// retried is looked up in it and in its [sources](StdError::source).
    pub fn transaction<T, E, How>(
        self,
        mut work: impl FnMut(&mut C) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: TransactionError<How>,
        B: Besides<E>,
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
    pub fn run<T, E, How>(mut self, mut work: impl FnMut(&mut C) -> Result<T, E>) -> Result<T, E>
    where
        E: TransactionError<How>,
        B: Besides<E>,
    {
        let is_open = transaction::depth(self.conn)?.is_some();
        let begun = Instant::now();
        let mut attempt = 1;
        loop {
            let error = match work(self.conn) {
                Ok(done) => return Ok(done),
                Err(error) => error,
            };
            if !wrapped::is_retryable(error.as_std_error(Seal))
                && !self.besides.is_retryable(&error)
            {
                return Err(error);
            }
            (self.on_failure)(attempt, error.as_std_error(Seal));
            match self.retry.pause_after(attempt, begun) {
                Some(pause) if !is_open => thread::sleep(pause),
                _ => return Err(error),
            }
            attempt += 1;
        }
    }
}

impl<C, B> fmt::Debug for Retrying<'_, C, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retrying")
            .field("retry", &self.retry)
            .finish_non_exhaustive()
    }
}

/// What [`Retrying::retry_if`] was given, or not.
pub trait Besides<E> {
    fn is_retryable(&mut self, error: &E) -> bool;
}

/// Nothing is retryable besides.
#[derive(Debug)]
pub struct Nothing;

impl<E> Besides<E> for Nothing {
    fn is_retryable(&mut self, _: &E) -> bool {
        false
    }
}

impl<E, F: FnMut(&E) -> bool> Besides<E> for F {
    fn is_retryable(&mut self, error: &E) -> bool {
        self(error)
    }
}
