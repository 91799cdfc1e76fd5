//! Who waits for whom: the one place that asks the server, for all that the harness runs.

use std::time::{Duration, Instant};

use diesel::backend::Backend;
use diesel::connection::{Connection, SimpleConnection};
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::query_dsl::methods::LoadQuery;
use diesel::serialize::ToSql;
use diesel::sql_types::{HasSqlType, Integer, Text};
use diesel::{QueryResult, RunQueryDsl};

/// How old a step is when the server is first asked whether it waits: most have ended by then.
const PATIENCE: Duration = Duration::from_micros(700);

/// How long until the server is asked again: at least, and at most.
const POLL: (Duration, Duration) = (Duration::from_micros(250), Duration::from_millis(10));

/// When to ask first about what began at `begun`.
pub(crate) fn first_look(begun: Instant) -> Instant {
    begun + PATIENCE
}

/// When to ask again about what began at `begun`: the longer it takes, the less often.
pub(crate) fn next_look(begun: Instant) -> Instant {
    let now = Instant::now();
    now + (now.saturating_duration_since(begun) / 8).clamp(POLL.0, POLL.1)
}

/// Who of `waiters` waits, and for whom of `all`; `None` unless each of them does, and will until
/// somebody else changes that.
///
/// The server is asked twice: when it is asked once, a session may be seen to wait for one that
/// was seen to wait a moment later, and that has let it go on in between.
pub(crate) fn if_all_wait<O: Observer + ?Sized>(
    observer: &mut O,
    waiters: &[i32],
    all: &[i32],
) -> QueryResult<Option<Vec<(i32, i32)>>> {
    let mut waits = Vec::new();
    for _ in 0..2 {
        waits = observer.waits(waiters, all)?;
        let waits_still = |pid| waits.iter().any(|&(waiter, _)| waiter == pid);
        if !waiters.iter().copied().all(waits_still) {
            return Ok(None);
        }
    }
    Ok(Some(waits))
}

/// How to stop a session.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// `pg_cancel_backend`: the statement fails, if there is one.
    Cancel,
    /// `pg_terminate_backend`: the session ends.
    Terminate,
}

/// A connection beside the sessions, on which the server is asked about them.
///
/// Every connection of Diesel's can be one, but only PostgreSQL has the answers.
pub trait Observer: SimpleConnection {
    /// The process of the connection's own session.
    fn backend_pid(&mut self) -> QueryResult<i32>;

    /// Who of `waiters` waits, and for whom of `all`.
    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>>;

    /// The lock that a session waits for, in words; empty where it does not wait for one.
    fn waited_lock(&mut self, waiter: i32) -> QueryResult<String>;

    /// Stops what a session does.
    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()>;
}

impl<C> Observer for C
where
    C: Connection,
    for<'q> SqlLiteral<Integer>: LoadQuery<'q, C, i32>,
    for<'q> Waits: LoadQuery<'q, C, (i32, i32)>,
    for<'q> WaitedLock: LoadQuery<'q, C, String>,
{
    fn backend_pid(&mut self) -> QueryResult<i32> {
        sql::<Integer>("SELECT pg_backend_pid()").get_result(self)
    }

    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>> {
        let (waiters, all) = (array(waiters), array(all));
        Waits { waiters, all }.load(self)
    }

    fn waited_lock(&mut self, waiter: i32) -> QueryResult<String> {
        let lock = WaitedLock { waiter }.load(self)?.pop();
        Ok(lock.unwrap_or_default())
    }

    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()> {
        let function = match stop {
            Stop::Cancel => "pg_cancel_backend",
            Stop::Terminate => "pg_terminate_backend",
        };
        let stopped = sql::<Integer>(&format!("SELECT {function}({pid})::integer"));
        stopped.load::<i32>(self).map(drop)
    }
}

/// Processes as PostgreSQL writes an array: other backends have no type for one.
fn array(pids: &[i32]) -> String {
    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
    format!("{{{}}}", pids.join(","))
}

/// One row for each waiter and each session that it waits for.
///
/// It reads no table, so that no lock can hold it up.
#[derive(Debug, QueryId)]
pub struct Waits {
    waiters: String,
    all: String,
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
        out.push_sql("SELECT DISTINCT waiter, blocker FROM unnest(");
        out.push_bind_param::<Text, _>(&self.waiters)?;
        out.push_sql(
            "::integer[]) AS waiter, unnest(pg_blocking_pids(waiter) || \
             pg_safe_snapshot_blocking_pids(waiter)) AS blocker WHERE blocker = ANY (",
        );
        out.push_bind_param::<Text, _>(&self.all)?;
        out.push_sql("::integer[])");
        Ok(())
    }
}

/// What a session waits for; no row where that is no lock, but a safe snapshot.
#[derive(Debug, QueryId)]
pub struct WaitedLock {
    waiter: i32,
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
            "WITH timeout AS MATERIALIZED (SELECT set_config('lock_timeout', '100ms', true) AS t), \
             locks AS (SELECT pg_locks.*, \
             CASE WHEN t IS NOT NULL THEN relation::regclass::text END AS name \
             FROM pg_locks CROSS JOIN timeout WHERE pid = ",
        );
        out.push_bind_param::<Integer, _>(&self.waiter)?;
        out.push_sql(
            ") SELECT mode || ' on ' || CASE locktype \
             WHEN 'relation' THEN name \
             WHEN 'tuple' THEN 'a row of ' || name \
             WHEN 'transactionid' THEN coalesce((SELECT 'a row of ' || min(name) FROM locks \
             WHERE locktype = 'tuple' AND granted), 'a transaction') \
             WHEN 'virtualxid' THEN 'a transaction' \
             WHEN 'advisory' THEN 'advisory lock ' || CASE objsubid \
             WHEN 1 THEN ((classid::bigint << 32) | objid::bigint)::text \
             ELSE format('(%s, %s)', \
             (classid::bigint << 32 >> 32)::text, (objid::bigint << 32 >> 32)::text) END \
             ELSE locktype END FROM locks WHERE NOT granted LIMIT 1",
        );
        Ok(())
    }
}
