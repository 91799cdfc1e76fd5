use diesel::RunQueryDsl;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_dsl::methods::LoadQuery;
use diesel::result::Error;

use super::count::uncounted;
use super::locked::LockedQuery;
use super::relation::locked_relation;
use crate::seal::Seal;
use crate::sql::as_sql;
use crate::{LockError, LockTarget, Wait, lock_timeout, transaction};

/// Loads a query that has a lock: the mechanism under all methods.
pub(super) fn load<'query, C, Q, How, U>(
    conn: &mut C,
    query: Q,
    wait: Wait,
) -> Result<Vec<U>, LockError>
where
    C: LoadConnection<Backend = Pg>,
    Q: LockedQuery<How, Nowait: LoadQuery<'query, C, U>> + LoadQuery<'query, C, U>,
{
    transaction::require(conn)?;
    match wait {
        Wait::Block => Ok(query.load(conn)?),
        Wait::NoWait => Ok(query.nowait(Seal).load(conn)?),
        Wait::Timeout(timeout) => {
            let sql = as_sql(&query)?;
            let loaded = lock_timeout::within(conn, timeout, |conn| Ok(query.load(conn)?));
            loaded.map_err(|error| waiting_for(&sql, error))
        }
    }
}

/// Adds to a timeout what was waited for, where the text of the query tells.
fn waiting_for(sql: &str, mut error: LockError) -> LockError {
    if let LockError::Timeout { target, .. } = &mut error {
        *target = locked_relation(uncounted(sql)).map(|relation| LockTarget::Row { relation });
    }
    error
}

/// The first row, of which there should be one.
pub(super) fn one<U>(rows: Vec<U>) -> Result<U, LockError> {
    let first = rows.into_iter().next();
    first.ok_or(LockError::Database(Error::NotFound))
}

/// What the server has counted.
pub(super) fn count(rows: i64) -> Result<usize, LockError> {
    usize::try_from(rows)
        .map_err(|error| LockError::Database(Error::DeserializationError(Box::new(error))))
}
