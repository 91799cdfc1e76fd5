//! What a migration does after a `ROLLBACK` of its own is to change nothing.

use std::panic::{self, AssertUnwindSafe};

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::result::Error;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use crate::migrate::held::Held;
use crate::{LockError, transaction};

/// Runs `work` in a transaction that may write if the session may. Every other transaction of the
/// session is read-only meanwhile; in the caller's transaction that can't be had.
pub(super) fn outside_a_transaction<C, T, E>(
    held: &mut Held<'_, C>,
    work: impl FnOnce(&mut C) -> Result<T, E>,
) -> Result<T, E>
where
    C: LoadConnection<Backend = Pg>,
    E: From<Error> + From<LockError>,
{
    if held.is_in_transaction() {
        return held.transaction(work);
    }
    let before: String =
        sql::<Text>("SELECT pg_catalog.current_setting('default_transaction_read_only')")
            .get_result(held.conn())?;
    if before == "on" {
        return held.transaction(work);
    }
    set(held.conn(), "on")?;
    let done = panic::catch_unwind(AssertUnwindSafe(|| {
        let begin = |conn: &mut C| transaction::begin_with(conn, "SET TRANSACTION READ WRITE");
        held.transaction_begun_by(begin, work)
    }));
    let restored = set(held.conn(), &before);
    match done {
        Ok(done) => {
            let done = done?;
            restored?;
            Ok(done)
        }
        Err(payload) => panic::resume_unwind(payload),
    }
}

fn set<C: LoadConnection<Backend = Pg>>(conn: &mut C, is_read_only: &str) -> QueryResult<()> {
    sql::<Text>("SELECT pg_catalog.set_config('default_transaction_read_only', ")
        .bind::<Text, _>(is_read_only)
        .sql(", false)")
        .execute(conn)
        .map(drop)
}
