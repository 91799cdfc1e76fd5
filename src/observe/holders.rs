use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Oid, SmallInt};
use diesel::{QueryResult, RunQueryDsl};

use super::session::SessionRow;
use super::sql::{ACTIVITY, HELD_BY, HERE, PREPARED, SESSION, SESSIONS, TAKEN};
use crate::{LockKey, SessionInfo};

/// Who holds an advisory lock in the current database.
///
/// One round trip.
pub(crate) fn holders<C>(conn: &mut C, key: LockKey) -> QueryResult<Vec<SessionInfo>>
where
    C: LoadConnection<Backend = Pg>,
{
    let (class, object, space) = key.in_pg_locks();
    sql::<SessionRow>(&format!(
        "WITH {ACTIVITY}, {TAKEN}, {PREPARED}, {SESSIONS} \
         SELECT {SESSION} FROM diesel_locks_sessions AS sessions \
         WHERE EXISTS (SELECT FROM diesel_locks_taken AS taken WHERE {HELD_BY} AND taken.granted \
         AND taken.locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND taken.database OPERATOR(pg_catalog.=) {HERE} AND taken.classid OPERATOR(pg_catalog.=) "
    ))
    .bind::<Oid, _>(class)
    .sql(" AND taken.objid OPERATOR(pg_catalog.=) ")
    .bind::<Oid, _>(object)
    .sql(" AND taken.objsubid OPERATOR(pg_catalog.=) ")
    .bind::<SmallInt, _>(space)
    .sql(") ORDER BY sessions.age DESC NULLS LAST, sessions.pid")
    .load(conn)
}
