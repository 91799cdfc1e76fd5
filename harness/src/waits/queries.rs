//! What the server is asked. Each can be built for any backend, and is sent to PostgreSQL alone.

use diesel::backend::Backend;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Integer, Text};
use diesel::{QueryResult, RunQueryDsl};

/// One row for each waiter and each session that it waits for.
///
/// It reads no table, so that no lock can hold it up.
#[derive(Debug, QueryId)]
pub struct Waits {
    pub(super) waiters: String,
    pub(super) all: String,
}

impl Query for Waits {
    type SqlType = (Integer, Integer);
}

impl<C> RunQueryDsl<C> for Waits {}

impl<DB> QueryFragment<DB> for Waits
where
    DB: Backend + HasSqlType<Text>,
    String: ToSql<Text, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("SELECT DISTINCT waiter, blocker FROM pg_catalog.unnest(");
        out.push_bind_param::<Text, _>(&self.waiters)?;
        out.push_sql(
            "::integer[]) AS waiter, pg_catalog.unnest(pg_catalog.pg_blocking_pids(waiter) \
             OPERATOR(pg_catalog.||) pg_catalog.pg_safe_snapshot_blocking_pids(waiter)) \
             AS blocker WHERE blocker OPERATOR(pg_catalog.=) ANY (",
        );
        out.push_bind_param::<Text, _>(&self.all)?;
        out.push_sql("::integer[])");
        Ok(())
    }
}

/// One row for each session that is busy elsewhere, and then as [`Waits`] for other sessions.
///
/// It reads no table either: what a session does is no table, but what a function says.
#[derive(Debug, QueryId)]
pub struct WaitsBeside {
    pub(super) busy: String,
    pub(super) all: String,
    pub(super) seconds: String,
}

impl Query for WaitsBeside {
    type SqlType = (Integer, Integer);
}

impl<C> RunQueryDsl<C> for WaitsBeside {}

impl<DB> QueryFragment<DB> for WaitsBeside
where
    DB: Backend + HasSqlType<Text>,
    String: ToSql<Text, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        out.push_sql("WITH question AS MATERIALIZED (SELECT ");
        out.push_bind_param::<Text, _>(&self.busy)?;
        out.push_sql("::integer[] AS busy, ");
        out.push_bind_param::<Text, _>(&self.all)?;
        out.push_sql("::integer[] AS everyone, pg_catalog.make_interval(secs => ");
        out.push_bind_param::<Text, _>(&self.seconds)?;
        out.push_sql(
            "::double precision) AS age), \
             own AS MATERIALIZED (SELECT datid, pid \
             FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())), \
             activity AS MATERIALIZED (SELECT activity.pid, activity.state, \
             activity.state_change OPERATOR(pg_catalog.>=) \
             (pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) age) AS used \
             FROM question, own, pg_catalog.pg_stat_get_activity(NULL) AS activity \
             WHERE activity.datid OPERATOR(pg_catalog.=) own.datid \
             AND activity.pid OPERATOR(pg_catalog.<>) own.pid) \
             SELECT pid, 0 FROM activity, question \
             WHERE pid OPERATOR(pg_catalog.=) ANY (busy) \
             AND state OPERATOR(pg_catalog.~~) 'idle%' \
             UNION ALL SELECT DISTINCT pid, blocker FROM question, activity, \
             pg_catalog.unnest(pg_catalog.pg_blocking_pids(pid) OPERATOR(pg_catalog.||) \
             pg_catalog.pg_safe_snapshot_blocking_pids(pid)) AS blocker \
             WHERE used AND state OPERATOR(pg_catalog.=) 'active' \
             AND pid OPERATOR(pg_catalog.<>) ALL (everyone) \
             AND (blocker OPERATOR(pg_catalog.=) ANY (everyone) \
             OR blocker OPERATOR(pg_catalog.=) ANY (SELECT pid FROM activity WHERE used))",
        );
        Ok(())
    }
}

/// What a session waits for; no row where that is no lock, but a safe snapshot.
#[derive(Debug, QueryId)]
pub struct WaitedLock {
    pub(super) waiter: i32,
}

impl Query for WaitedLock {
    type SqlType = Text;
}

impl<C> RunQueryDsl<C> for WaitedLock {}

impl<DB> QueryFragment<DB> for WaitedLock
where
    DB: Backend + HasSqlType<Integer>,
    i32: ToSql<Integer, DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        // Who waits for a row waits for the transaction that locked it, and has the row's own
        // lock meanwhile. To find a table's name may take a lock that a session has: the name
        // depends on the timeout, so that it is looked up when that is set.
        out.push_sql(
            "WITH timeout AS MATERIALIZED (\
             SELECT pg_catalog.set_config('lock_timeout', '100ms', true) AS t), \
             locks AS (SELECT pg_locks.*, CASE WHEN t IS NOT NULL \
             THEN relation::pg_catalog.regclass::pg_catalog.text END AS name \
             FROM pg_catalog.pg_locks CROSS JOIN timeout WHERE pid OPERATOR(pg_catalog.=) ",
        );
        out.push_bind_param::<Integer, _>(&self.waiter)?;
        out.push_sql(
            ") SELECT pg_catalog.format('%s on %s', mode, CASE \
             WHEN locktype OPERATOR(pg_catalog.=) 'relation' THEN name \
             WHEN locktype OPERATOR(pg_catalog.=) 'tuple' \
             THEN pg_catalog.format('a row of %s', name) \
             WHEN locktype OPERATOR(pg_catalog.=) 'transactionid' THEN coalesce(\
             (SELECT pg_catalog.format('a row of %s', name) FROM locks \
             WHERE locktype OPERATOR(pg_catalog.=) 'tuple' AND granted LIMIT 1), 'a transaction') \
             WHEN locktype OPERATOR(pg_catalog.=) 'virtualxid' THEN 'a transaction' \
             WHEN locktype OPERATOR(pg_catalog.=) 'advisory' AND objsubid OPERATOR(pg_catalog.=) 1 \
             THEN pg_catalog.format('advisory lock %s', \
             (classid::bigint OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) objid::bigint) \
             WHEN locktype OPERATOR(pg_catalog.=) 'advisory' \
             THEN pg_catalog.format('advisory lock (%s, %s)', \
             classid::bigint OPERATOR(pg_catalog.<<) 32 OPERATOR(pg_catalog.>>) 32, \
             objid::bigint OPERATOR(pg_catalog.<<) 32 OPERATOR(pg_catalog.>>) 32) \
             ELSE locktype END) FROM locks WHERE NOT granted LIMIT 1",
        );
        Ok(())
    }
}
