//! The one place that sets PostgreSQL's time limits for a lock, and puts back what was in force,
//! in the words of whoever set it. If what runs under a limit fails, the rollback of the
//! transaction, or of the statement alone, puts it back.

use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;

use crate::{LockError, Wait};

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

/// Sets `lock_timeout`, for each wait, and `statement_timeout`, for all of them, unless that is
/// shorter already. A text, of no meaning.
fn set(milliseconds: i64) -> String {
    format!(
        "CASE WHEN pg_catalog.set_config('lock_timeout', '{milliseconds}', true) IS NULL \
         OR (pg_catalog.current_setting('statement_timeout')::interval \
         OPERATOR(pg_catalog.>) '0'::interval \
         AND pg_catalog.current_setting('statement_timeout')::interval \
         OPERATOR(pg_catalog.<) '{milliseconds} ms'::interval) THEN '' \
         ELSE pg_catalog.set_config('statement_timeout', '{milliseconds}', true) END"
    )
}

/// `statement` as a batch, inside a transaction, for at most `timeout`.
///
/// What the limits were waits in settings of this crate's own.
pub(crate) fn batch_within(timeout: Duration, statement: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config('diesel_locks.lock_timeout', \
         pg_catalog.current_setting('lock_timeout'), true), \
         pg_catalog.set_config('diesel_locks.statement_timeout', \
         pg_catalog.current_setting('statement_timeout'), true), {}; {statement}; \
         SELECT pg_catalog.set_config('lock_timeout', \
         pg_catalog.current_setting('diesel_locks.lock_timeout'), true), \
         pg_catalog.set_config('statement_timeout', \
         pg_catalog.current_setting('diesel_locks.statement_timeout'), true)",
        set(milliseconds(timeout)),
    )
}

/// Runs `work`, inside a transaction, for at most `timeout`.
pub(crate) fn within<C, T>(
    conn: &mut C,
    timeout: Duration,
    work: impl FnOnce(&mut C) -> Result<T, LockError>,
) -> Result<T, LockError>
where
    C: LoadConnection<Backend = Pg>,
{
    let set = set(milliseconds(timeout));
    let (lock_timeout, statement_timeout, _) = sql::<(Text, Text, Text)>(&format!(
        "SELECT before.*, {set} FROM (SELECT pg_catalog.current_setting('lock_timeout'), \
         pg_catalog.current_setting('statement_timeout') OFFSET 0) AS before"
    ))
    .get_result::<(String, String, String)>(conn)?;
    let clock = Clock::start(Wait::Timeout(timeout));
    let done = work(conn).map_err(|error| clock.explain(error))?;
    sql::<(Text, Text)>("SELECT pg_catalog.set_config('lock_timeout', ")
        .bind::<Text, _>(lock_timeout)
        .sql(", true), pg_catalog.set_config('statement_timeout', ")
        .bind::<Text, _>(statement_timeout)
        .sql(", true)")
        .execute(conn)?;
    Ok(done)
}

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

    /// A `statement_timeout` of the caller's own that is shorter stays what it is.
    pub(crate) fn explain(&self, error: LockError) -> LockError {
        match (error, self.wait) {
            (LockError::StatementTimeout { source }, Wait::Timeout(timeout))
                if self.begun.elapsed() >= timeout =>
            {
                LockError::Timeout {
                    target: None,
                    after: Some(timeout),
                    source: Some(source),
                }
            }
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
