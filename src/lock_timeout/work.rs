//! What runs under limits.

use std::time::Duration;

use diesel::connection::{Connection, LoadConnection};
use diesel::pg::Pg;
use diesel::result::Error;

use super::batch::{RESTORE, limit};
use super::clock::Clock;
use super::limits::Limits;
use crate::{LockError, Wait, transaction};

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
