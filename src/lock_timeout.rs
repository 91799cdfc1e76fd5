//! The one place that sets PostgreSQL's time limits for a lock, and puts back what was in force,
//! in the words of whoever set it. If what runs under a limit fails on the server, the rollback of
//! the transaction, or of the statement alone, puts it back.

use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use diesel::connection::{Connection, LoadConnection};
#[cfg(feature = "migrations")]
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::{Error, QueryResult};
#[cfg(feature = "migrations")]
use diesel::sql_types::Nullable;
use diesel::sql_types::{Bool, Text};

use crate::{LockError, Wait, transaction};

/// `timeout` in whole milliseconds that PostgreSQL can hold, none of them zero.
pub(crate) fn milliseconds(timeout: Duration) -> i64 {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    i32::try_from(milliseconds)
        .map_or(i32::MAX, |milliseconds| milliseconds.max(1))
        .into()
}

/// The SQL of one call under a `lock_timeout` of its own, in a single statement: its parts, between
/// which the milliseconds as text and the call belong. It gives one row, with what the call gives.
///
/// The subqueries are done from the inside to the outside, because `OFFSET` keeps the planner from
/// making one of them.
pub(crate) const CALL_WITHIN: [&str; 3] = [
    "SELECT CASE WHEN pg_catalog.set_config('lock_timeout', before, true) IS NOT NULL \
     THEN called END FROM (SELECT before, ",
    " AS called FROM (SELECT pg_catalog.current_setting('lock_timeout') AS before, \
     pg_catalog.set_config('lock_timeout', ",
    ", true) AS started OFFSET 0) AS started WHERE started IS NOT NULL OFFSET 0) AS called",
];

/// One call under a `lock_timeout` of its own, as a batch inside a transaction. To parse two short
/// statements takes the server half as long as [`CALL_WITHIN`].
pub(crate) fn batch_call_within(timeout: Duration, call: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config('diesel_locks.lock_timeout', \
         pg_catalog.current_setting('lock_timeout'), true), \
         pg_catalog.set_config('lock_timeout', '{}', true); SELECT {call}, \
         pg_catalog.set_config('lock_timeout', \
         pg_catalog.current_setting('diesel_locks.lock_timeout'), true)",
        milliseconds(timeout),
    )
}

/// Sets `lock_timeout`, for each wait, and, where it is for the `whole` call, `statement_timeout`
/// for all of them, unless that is shorter already: the columns of a `SELECT` from [`BEFORE`].
const SET: &str = "pg_catalog.set_config('lock_timeout', timeout, true), \
     CASE WHEN whole AND NOT (statement_timeout::interval OPERATOR(pg_catalog.>) '0'::interval \
     AND statement_timeout::interval OPERATOR(pg_catalog.<) timeout::interval) \
     THEN pg_catalog.set_config('statement_timeout', timeout, true) END";

/// What is in force, beside the `timeout` that shall be, and whether it is for the whole call.
/// Read first, because `OFFSET` keeps the planner from making one of the two `SELECT`s.
const BEFORE: [&str; 3] = [
    " FROM (SELECT pg_catalog.current_setting('lock_timeout') AS lock_timeout, \
     pg_catalog.current_setting('statement_timeout') AS statement_timeout, ",
    " AS timeout, ",
    " AS whole OFFSET 0) AS before",
];

/// `timeout` with a unit, as a setting and as an interval.
fn with_unit(timeout: Duration) -> String {
    format!("{}ms", milliseconds(timeout))
}

/// The first statement of a batch inside a transaction, that limits what follows it until
/// [`RESTORE`]. What the limits were waits in settings of this crate's own.
fn limit(timeout: Duration, whole: bool) -> String {
    let [from, as_timeout, end] = BEFORE;
    format!(
        "SELECT pg_catalog.set_config('diesel_locks.lock_timeout', lock_timeout, true), \
         pg_catalog.set_config('diesel_locks.statement_timeout', statement_timeout, true), \
         {SET}{from}'{}'::pg_catalog.text{as_timeout}{whole}{end}",
        with_unit(timeout)
    )
}

/// The last statement of what [`limit`] begins.
const RESTORE: &str = "SELECT pg_catalog.set_config('lock_timeout', \
     pg_catalog.current_setting('diesel_locks.lock_timeout'), true), \
     pg_catalog.set_config('statement_timeout', \
     pg_catalog.current_setting('diesel_locks.statement_timeout'), true)";

/// `statement` as a batch, inside a transaction, for at most `timeout`.
pub(crate) fn batch_within(timeout: Duration, statement: &str) -> String {
    format!("{}; {statement}; {RESTORE}", limit(timeout, true))
}

/// Runs `work`, which takes a lock, in a savepoint of its own, and gives `None` if another session
/// is in the way. What `work` does not say `NOWAIT` of, such as the table of a row, is waited for
/// as shortly as PostgreSQL can.
///
/// Two round trips beside those of `work`.
pub(crate) fn attempt<C, T>(
    conn: &mut C,
    work: impl FnOnce(&mut C) -> Result<T, LockError>,
) -> Result<Option<T>, LockError>
where
    C: Connection<Backend = Pg>,
{
    let limit = limit(Duration::ZERO, false);
    match transaction::savepoint_with(conn, &limit, RESTORE, work) {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.is_contention() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Runs `work`, inside a transaction, for at most `timeout`.
///
/// Two round trips beside those of `work`.
pub(crate) fn within<C, T>(
    conn: &mut C,
    timeout: Duration,
    work: impl FnOnce(&mut C) -> Result<T, LockError>,
) -> Result<T, LockError>
where
    C: LoadConnection<Backend = Pg>,
{
    let before = Limits::set(conn, timeout, true)?;
    let clock = Clock::start(Wait::Timeout(timeout));
    let done = match work(conn) {
        // Not of the server, such as rows that can't be read: the transaction goes on.
        Err(LockError::Database(error)) if !matches!(error, Error::DatabaseError(..)) => {
            before.restore_after(conn, Err(error.into()))
        }
        Err(error) => Err(error),
        // It is under the limit too, which is for the whole call.
        done => before.restore_after(conn, done),
    };
    done.map_err(|error| clock.explain(error))
}

/// Runs `work`, inside a transaction, with `lock_timeout` and `statement_timeout` at what is given
/// of them.
///
/// Two round trips beside those of `work`; none, if nothing is given.
#[cfg(feature = "migrations")]
pub(crate) fn limited<C, T, E>(
    conn: &mut C,
    (lock_timeout, statement_timeout): (Option<Duration>, Option<Duration>),
    work: impl FnOnce(&mut C) -> Result<T, E>,
) -> Result<T, E>
where
    C: LoadConnection<Backend = Pg>,
    E: From<LockError>,
{
    if lock_timeout.is_none() && statement_timeout.is_none() {
        return work(conn);
    }
    let before =
        Limits::set_each(conn, lock_timeout, statement_timeout).map_err(LockError::from)?;
    let done = work(conn)?;
    before.restore_after(conn, Ok(done))
}

/// The limits that were in force.
struct Limits {
    lock_timeout: String,
    statement_timeout: String,
}

impl Limits {
    /// Sets new ones, `lock_timeout` for each wait, and, for the `whole` call, `statement_timeout`.
    fn set<C>(conn: &mut C, timeout: Duration, whole: bool) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let timeout = with_unit(timeout);
        let (lock_timeout, statement_timeout) = SetLimits { timeout, whole }.get_result(conn)?;
        Ok(Self {
            lock_timeout,
            statement_timeout,
        })
    }

    /// Sets those that are given.
    #[cfg(feature = "migrations")]
    fn set_each<C>(
        conn: &mut C,
        lock_timeout: Option<Duration>,
        statement_timeout: Option<Duration>,
    ) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let (lock_timeout, statement_timeout, _, _) = sql::<(Text, Text, Text, Text)>(
            "SELECT lock_timeout, statement_timeout, \
             pg_catalog.set_config('lock_timeout', COALESCE(",
        )
        .bind::<Nullable<Text>, _>(lock_timeout.map(with_unit))
        .sql(", lock_timeout), true), pg_catalog.set_config('statement_timeout', COALESCE(")
        .bind::<Nullable<Text>, _>(statement_timeout.map(with_unit))
        .sql(
            ", statement_timeout), true) \
             FROM (SELECT pg_catalog.current_setting('lock_timeout') AS lock_timeout, \
             pg_catalog.current_setting('statement_timeout') AS statement_timeout OFFSET 0) \
             AS before",
        )
        .get_result::<(String, String, String, String)>(conn)?;
        Ok(Self {
            lock_timeout,
            statement_timeout,
        })
    }

    /// Puts them back. Where that is not granted any more because what was `done` has failed, the
    /// rollback that must follow does it.
    fn restore_after<C, T, E>(self, conn: &mut C, done: Result<T, E>) -> Result<T, E>
    where
        C: LoadConnection<Backend = Pg>,
        E: From<LockError>,
    {
        let restored = RestoreLimits(self).execute(conn);
        let done = done?;
        restored.map_err(LockError::from)?;
        Ok(done)
    }
}

/// Sets limits, and asks for those that were in force. It is prepared once for a connection: to
/// parse it takes the server longer than all else of it.
struct SetLimits {
    timeout: String,
    whole: bool,
}

impl QueryFragment<Pg> for SetLimits {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let [from, as_timeout, end] = BEFORE;
        out.push_sql("SELECT lock_timeout, statement_timeout, ");
        out.push_sql(SET);
        out.push_sql(from);
        out.push_bind_param::<Text, String>(&self.timeout)?;
        out.push_sql(as_timeout);
        out.push_bind_param::<Bool, bool>(&self.whole)?;
        out.push_sql(end);
        Ok(())
    }
}

impl QueryId for SetLimits {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for SetLimits {
    type SqlType = (Text, Text);
}

impl<C> RunQueryDsl<C> for SetLimits {}

/// Puts limits back. Prepared once, like [`SetLimits`].
struct RestoreLimits(Limits);

impl QueryFragment<Pg> for RestoreLimits {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.set_config('lock_timeout', ");
        out.push_bind_param::<Text, String>(&self.0.lock_timeout)?;
        out.push_sql(", true), pg_catalog.set_config('statement_timeout', ");
        out.push_bind_param::<Text, String>(&self.0.statement_timeout)?;
        out.push_sql(", true)");
        Ok(())
    }
}

impl QueryId for RestoreLimits {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<C> RunQueryDsl<C> for RestoreLimits {}

/// A limit on every wait for a lock, on a connection.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use std::time::Duration;
///
/// use diesel::prelude::*;
/// use diesel_locks::{LockError, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let conn = &mut PgConnection::establish(database.url())?;
/// conn.transaction::<_, LockError, _>(|conn| {
///     // Waits neither for a row nor, where an `ALTER TABLE` runs, for a table.
///     conn.with_lock_timeout(Duration::from_millis(1), |conn| {
///         let job = jobs::table.select(jobs::id).limit(1);
///         let job = conn.select_for_update_skip_locked::<i32, _>(job)?;
///         conn.get_for_update_nowait::<i64, _>(accounts::table.find(1).select(accounts::balance))
///             .map(|balance| assert_eq!((job, balance), (vec![], 100)))
///     })
/// })?;
/// # Ok(())
/// # }
/// ```
pub trait LockTimeoutExt: LoadConnection<Backend = Pg> + Sized {
    /// Runs `work` with PostgreSQL's [`lock_timeout`] at `timeout`, which is for each wait for a
    /// lock: of a row, of its table, of any other, by whichever statement. Afterwards it is as it
    /// was.
    ///
    /// Two round trips beside those of `work`, whatever the number of locks. Whole milliseconds,
    /// rounded up: see [`Wait::Timeout`].
    ///
    /// # Transactions
    ///
    /// One must be open, and one that Diesel knows of. An error of the server in `work` leaves it
    /// aborted, as ever: pass the error on, and the rollback puts the setting back.
    ///
    /// # Errors
    ///
    /// Those of `work`, of which [`LockError::Timeout`] says that a wait took so long, though not
    /// for what. [`LockError::NotInTransaction`]: no transaction is open; `work` was not run, and
    /// nothing was sent. [`LockError::TransactionAborted`]: a statement of `work` has failed, and
    /// `work` has kept that to itself.
    ///
    /// [`lock_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    fn with_lock_timeout<T, E>(
        &mut self,
        timeout: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>,
    {
        transaction::require(self)?;
        let before = Limits::set(self, timeout, false).map_err(LockError::from)?;
        let done = work(self);
        before.restore_after(self, done)
    }
}

impl<C: LoadConnection<Backend = Pg>> LockTimeoutExt for C {}

/// Tells whose time was over when a statement that this crate has limited has failed.
pub(crate) struct Clock {
    wait: Wait,
    begun: Instant,
}

impl Clock {
    pub(crate) fn start(wait: Wait) -> Self {
        Self {
            wait,
            begun: Instant::now(),
        }
    }

    /// A `statement_timeout` of the caller's own that is shorter stays what it is. One that ends
    /// beside its statement is a cancellation to the server.
    pub(crate) fn explain(&self, error: LockError) -> LockError {
        match (error, self.wait) {
            (
                LockError::StatementTimeout { source } | LockError::Canceled { source },
                Wait::Timeout(timeout),
            ) if self.begun.elapsed() >= timeout => LockError::Timeout {
                target: None,
                after: Some(timeout),
                source: Some(source),
            },
            (error, wait) => error.after(wait),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_whole_milliseconds_that_postgresql_can_hold() {
        assert_eq!(milliseconds(Duration::ZERO), 1);
        assert_eq!(milliseconds(Duration::from_nanos(1)), 1);
        assert_eq!(milliseconds(Duration::from_micros(1_001)), 2);
        assert_eq!(milliseconds(Duration::from_secs(20)), 20_000);
        assert_eq!(milliseconds(Duration::MAX), 2_147_483_647);
    }
}
