//! Locks of relations, by their numbers in the catalogue.

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Oid, Text};
use diesel::{QueryResult, RunQueryDsl};

use super::sql::HERE;

/// The relations that this session has locked, each with the mode in the server's words.
pub(crate) fn locked_here<C>(conn: &mut C) -> QueryResult<Vec<(u32, String)>>
where
    C: LoadConnection<Backend = Pg>,
{
    sql::<(Oid, Text)>(&format!(
        "SELECT relation, mode FROM pg_catalog.pg_locks \
         WHERE (locktype OPERATOR(pg_catalog.=) 'relation') AND granted \
         AND (database OPERATOR(pg_catalog.=) {HERE}) \
         AND (pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())"
    ))
    .load(conn)
}

/// The tables of which another session may be building an index, by `CREATE INDEX CONCURRENTLY`: it
/// has the lock for that, and runs nothing that is known to be something else, such as a `VACUUM`.
/// Of a long statement only the beginning is known, which may be a comment. Those of other databases,
/// which may be in another encoding, are not looked into.
pub(crate) fn tables_being_indexed<C>(conn: &mut C) -> QueryResult<Vec<u32>>
where
    C: LoadConnection<Backend = Pg>,
{
    sql::<Oid>(&format!(
        "SELECT relation FROM pg_catalog.pg_locks \
         WHERE (locktype OPERATOR(pg_catalog.=) 'relation') AND granted \
         AND (database OPERATOR(pg_catalog.=) {HERE}) \
         AND (mode OPERATOR(pg_catalog.=) 'ShareUpdateExclusiveLock') \
         AND (pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()) \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_activity AS activity \
         WHERE (activity.pid OPERATOR(pg_catalog.=) pg_locks.pid) \
         AND (activity.query OPERATOR(pg_catalog.<>) ALL \
         (ARRAY['', '<insufficient privilege>']::pg_catalog.text[])) \
         AND CASE WHEN activity.datid OPERATOR(pg_catalog.=) {HERE} \
         THEN pg_catalog.strpos(pg_catalog.lower(activity.query), 'index') \
         OPERATOR(pg_catalog.=) 0 END \
         AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index AS building \
         WHERE building.pid OPERATOR(pg_catalog.=) activity.pid))"
    ))
    .load(conn)
}
