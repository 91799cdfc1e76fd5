//! Locks that end with their transaction.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::functions::{self, Answer, Transaction};
use crate::error::LockTarget;
use crate::lock_timeout::{CALL_WITHIN, milliseconds};
use crate::{AdvisoryLock, LockError, LockKey, Wait, transaction};

/// Takes `lock` until the open transaction ends.
pub(super) fn take<C>(conn: &mut C, lock: AdvisoryLock, wait: Wait) -> Result<(), LockError>
where
    C: LoadConnection<Backend = Pg>,
{
    transaction::require(conn)?;
    match functions::take(conn, Transaction, &lock, wait) {
        Ok(Answer::Granted(_)) => Ok(()),
        Ok(Answer::Refused | Answer::Shared) => Err(LockError::NotAvailable {
            target: LockTarget::Advisory(lock),
            source: None,
        }),
        Err(error) => Err(LockError::from(error).waiting_for(lock).after(wait)),
    }
}

/// Runs `work` in a transaction that begins with `lock`.
pub(super) fn with_lock<C, T, E>(
    conn: &mut C,
    lock: AdvisoryLock,
    wait: Wait,
    work: impl FnOnce(&mut C) -> Result<T, E>,
) -> Result<T, E>
where
    C: LoadConnection<Backend = Pg>,
    E: From<LockError> + From<diesel::result::Error>,
{
    let is_open = transaction::depth(conn).map_err(LockError::from)?.is_some();
    let statement = match wait {
        Wait::Block if !is_open => format!("SELECT {}", call(&lock)),
        Wait::Timeout(timeout) if !is_open => {
            let [restore, start, end] = CALL_WITHIN;
            let (call, milliseconds) = (call(&lock), milliseconds(timeout));
            format!("{restore}{call} IS NOT NULL{start}'{milliseconds}'{end}")
        }
        // Diesel makes the savepoint, and only a statement of its own says that it was refused.
        _ => {
            return conn.transaction(|conn| {
                take(conn, lock, wait)?;
                work(conn)
            });
        }
    };
    transaction::begin_with(conn, &statement)
        .map_err(|error| LockError::from(error).waiting_for(lock).after(wait))?;
    let done = work(conn);
    transaction::end(conn, done)
}

/// The call that waits for `lock`, as text.
fn call(lock: &AdvisoryLock) -> String {
    let mode = if lock.is_shared() { "_shared" } else { "" };
    // Quoted, because the smallest numbers have no literal.
    match lock.key() {
        LockKey::Single(key) => format!("pg_catalog.pg_advisory_xact_lock{mode}('{key}'::bigint)"),
        LockKey::Pair(class, object) => {
            format!(
                "pg_catalog.pg_advisory_xact_lock{mode}('{class}'::integer, '{object}'::integer)"
            )
        }
    }
}
