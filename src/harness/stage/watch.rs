use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, Integer, Text};

/// How to stop a session's step.
#[derive(Debug, Clone, Copy)]
pub(in crate::harness) enum Stop {
    /// `pg_cancel_backend`: the statement fails, if there is one.
    Cancel,
    /// `pg_terminate_backend`: the session ends.
    Terminate,
}

/// A connection beside the sessions, on which the server is asked about them.
pub(in crate::harness) trait Watch: SimpleConnection + Send {
    /// Who of `waiters` waits, and for whom of `all`.
    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>>;

    /// The lock that a session waits for, in words.
    fn lock(&mut self, waiter: i32) -> QueryResult<String>;

    /// Stops what a session does.
    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()>;
}

impl<C> Watch for C
where
    C: LoadConnection<Backend = Pg> + Send,
{
    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>> {
        let (waiters, all) = (waiters.to_vec(), all.to_vec());
        Waits { waiters, all }.load(self)
    }

    fn lock(&mut self, waiter: i32) -> QueryResult<String> {
        let lock: Option<String> = WaitedLock { waiter }.get_result(self).optional()?;
        Ok(lock.unwrap_or_default())
    }

    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()> {
        let stopped: Result<bool, _> = match stop {
            Stop::Cancel => diesel::select(pg_cancel_backend(pid)).get_result(self),
            Stop::Terminate => diesel::select(pg_terminate_backend(pid)).get_result(self),
        };
        stopped.map(drop)
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    #[sql_name = "pg_catalog.pg_cancel_backend"]
    fn pg_cancel_backend(pid: Integer) -> Bool;
    #[sql_name = "pg_catalog.pg_terminate_backend"]
    fn pg_terminate_backend(pid: Integer) -> Bool;
}

/// One row for each waiter and each session that it waits for.
///
/// It reads no table, so that no lock can hold it up.
#[derive(Debug, QueryId)]
struct Waits {
    waiters: Vec<i32>,
    all: Vec<i32>,
}

impl Query for Waits {
    type SqlType = (Integer, Integer);
}

impl<C> RunQueryDsl<C> for Waits {}

impl QueryFragment<Pg> for Waits {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT DISTINCT waiter, blocker FROM pg_catalog.unnest(");
        out.push_bind_param::<Array<Integer>, _>(&self.waiters)?;
        out.push_sql(
            ") AS waiter, pg_catalog.unnest(pg_catalog.pg_blocking_pids(waiter) \
             OPERATOR(pg_catalog.||) pg_catalog.pg_safe_snapshot_blocking_pids(waiter)) \
             AS blocker WHERE blocker OPERATOR(pg_catalog.=) ANY (",
        );
        out.push_bind_param::<Array<Integer>, _>(&self.all)?;
        out.push_sql(")");
        Ok(())
    }
}

/// What a session waits for; no row where that is no lock, but a safe snapshot.
#[derive(Debug, QueryId)]
struct WaitedLock {
    waiter: i32,
}

impl Query for WaitedLock {
    type SqlType = Text;
}

impl<C> RunQueryDsl<C> for WaitedLock {}

impl QueryFragment<Pg> for WaitedLock {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
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
