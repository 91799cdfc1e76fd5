use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::query_builder::AstPass;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use crate::LockError;

/// What to do while another session holds the lock.
///
/// For code that decides at run time; most methods say it by their names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wait {
    /// Wait until it is granted, or until the session's `lock_timeout` ends the wait.
    Block,
    /// Do not wait: [`LockError::NotAvailable`](crate::LockError::NotAvailable) at once.
    NoWait,
    /// Wait that long at most, measured by the server:
    /// [`LockError::Timeout`](crate::LockError::Timeout) after that.
    ///
    /// PostgreSQL counts in milliseconds, from 1 to 2,147,483,647 (24.8 days): a fraction is
    /// rounded up, and what lies outside becomes the nearest of these. So zero is the shortest
    /// wait there is, and not PostgreSQL's `lock_timeout = 0`, which would wait for ever.
    Timeout(Duration),
}

/// `timeout` in whole milliseconds that PostgreSQL can hold, none of them zero.
pub(crate) fn milliseconds(timeout: Duration) -> i64 {
    let milliseconds = timeout.as_nanos().div_ceil(1_000_000);
    i32::try_from(milliseconds)
        .map_or(i32::MAX, |milliseconds| milliseconds.max(1))
        .into()
}

/// `timeout` as PostgreSQL's `lock_timeout` takes it.
pub(crate) fn lock_timeout(timeout: Duration) -> String {
    milliseconds(timeout).to_string()
}

/// The parts of a `WITH` that set the lock timeout: `before` has what it was, in the words of
/// whoever set it, and what reads from `started` runs under the new one.
pub(crate) fn timeout_started<'b>(
    milliseconds: &'b String,
    mut out: AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    out.push_sql(
        "before AS MATERIALIZED (\
         SELECT pg_catalog.current_setting('lock_timeout') AS timeout), \
         started AS MATERIALIZED (SELECT pg_catalog.set_config('lock_timeout', ",
    );
    out.push_bind_param::<Text, String>(milliseconds)?;
    out.push_sql(", true) FROM before)");
    Ok(())
}

/// `statement` as a batch, inside a transaction, under a lock timeout of its own.
///
/// What the timeout was waits in a setting of this crate's own. If the statement fails, the
/// rollback puts it back.
pub(crate) fn batch_within(timeout: Duration, statement: &str) -> String {
    format!(
        "SELECT pg_catalog.set_config('diesel_locks.before', \
         pg_catalog.current_setting('lock_timeout'), true), \
         pg_catalog.set_config('lock_timeout', '{}', true); {statement}; \
         SELECT pg_catalog.set_config('lock_timeout', \
         pg_catalog.current_setting('diesel_locks.before'), true)",
        lock_timeout(timeout),
    )
}

/// Runs `work`, inside a transaction, under a lock timeout of its own.
///
/// If it fails, the rollback puts back what the timeout was.
pub(crate) fn within<C, T>(
    conn: &mut C,
    timeout: Duration,
    work: impl FnOnce(&mut C) -> Result<T, LockError>,
) -> Result<T, LockError>
where
    C: LoadConnection<Backend = Pg>,
{
    let set = |timeout: String| {
        sql::<(Text, Text)>(
            "SELECT pg_catalog.current_setting('lock_timeout'), \
             pg_catalog.set_config('lock_timeout', ",
        )
        .bind::<Text, _>(timeout)
        .sql(", true)")
    };
    let (before, _) = set(lock_timeout(timeout)).get_result::<(String, String)>(conn)?;
    let done = work(conn).map_err(|error| error.after(Wait::Timeout(timeout)))?;
    set(before).execute(conn)?;
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_whole_milliseconds_that_postgresql_can_hold() {
        assert_eq!(lock_timeout(Duration::ZERO), "1");
        assert_eq!(lock_timeout(Duration::from_nanos(1)), "1");
        assert_eq!(lock_timeout(Duration::from_micros(1_001)), "2");
        assert_eq!(lock_timeout(Duration::from_secs(20)), "20000");
        assert_eq!(lock_timeout(Duration::MAX), "2147483647");
    }
}
