//! What is sent beside locks, and what of them is judged.

use diesel::connection::SimpleConnection;
use diesel::result::{Error, QueryResult};
use diesel_locks::{AdvisoryLock, LockError};

use super::turn::{Fate, Limit, is_judged};

pub(super) fn held(locks: &[AdvisoryLock]) -> Vec<(String, bool)> {
    let judged = locks.iter().filter(|lock| is_judged(lock));
    judged
        .map(|lock| (format!("{:?}", lock.key()), !lock.is_shared()))
        .collect()
}

pub(super) fn set_timeouts<C: SimpleConnection>(
    conn: &mut C,
    limit: Option<Limit>,
) -> QueryResult<()> {
    let (statement, lock) = match limit {
        Some(Limit::Statement(time)) => (time.to_string(), "DEFAULT".to_owned()),
        Some(Limit::Lock(time)) => ("DEFAULT".to_owned(), time.to_string()),
        None => ("DEFAULT".to_owned(), "DEFAULT".to_owned()),
    };
    conn.batch_execute(&format!(
        "SET lock_timeout TO {lock}; SET statement_timeout TO {statement}"
    ))
}
/// Gives others, and the hand, an opportunity.
pub(super) fn dwell<C: SimpleConnection>(conn: &mut C) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT pg_sleep(0.01 * random())")?)
}

pub(super) fn abort<C: SimpleConnection>(conn: &mut C) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT 1 / 0")?)
}

pub(super) fn end<C: SimpleConnection>(conn: &mut C, fate: Fate) -> Result<(), LockError> {
    match fate {
        Fate::Commit => Ok(()),
        Fate::Rollback => Err(Error::RollbackTransaction.into()),
        Fate::Abort => abort(conn),
        Fate::AbortUnnoticed => {
            // That it is aborted already is as good.
            let _ = abort(conn);
            Ok(())
        }
    }
}
