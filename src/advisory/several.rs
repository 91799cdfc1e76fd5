//! The SQL of any number of advisory locks. Each statement is one round trip, and is prepared
//! once for a connection, whatever the number of locks; and takes a time that is linear in it.
//!
//! The server calls a function for one row after the other, in the order of the locks. What must
//! come first is asked by a `SELECT` of its own inside the call.

use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable};
use diesel::{QueryResult, RunQueryDsl};

use super::owner::Mark;
use crate::lock_timeout::milliseconds;
use crate::slot::Guards;
use crate::{AdvisoryLock, LockKey};

/// The server's answer: which session it is, and the first lock that is an exception.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    /// `None` where nothing was done, because the session is another client's.
    pub(super) backend_pid: Option<i32>,
    pub(super) except: Option<AdvisoryLock>,
}

/// Takes the locks one after the other, and waits for each; no exception.
pub(super) struct LockAll<M>(pub(super) M);

/// As [`LockAll`], for at most so many milliseconds in all.
pub(super) struct LockAllWithin<M>(M, i64);

impl<M> LockAllWithin<M> {
    pub(super) fn new(mark: M, timeout: Duration) -> Self {
        Self(mark, milliseconds(timeout))
    }
}

/// Takes the locks until one, the exception, is refused, and then gives back those before it.
pub(super) struct TryLockAll<M>(pub(super) M);

/// Gives all of them back, if the session is still the given one; the exception was not held.
pub(super) struct UnlockAll {
    pub(super) backend_pid: i32,
}

/// Gives back what the session has beyond what guards hold, of each lock once at most; the
/// exception was not held before.
pub(super) struct Restore<M> {
    pub(super) mark: M,
    pub(super) guards: Guards,
}

/// Looks, in `pg_locks`; the exception is not held by this session.
pub(super) struct AllHeld;

/// A statement about the rows of `wanted`, which are the locks, counted by `n` from 1.
pub(super) trait Statement: Sized + 'static {
    /// Writes what follows the definition of `wanted`, up to a backend pid and an `n`.
    fn write<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()>;

    /// Sends it.
    fn run<C>(self, conn: &mut C, locks: &[AdvisoryLock]) -> QueryResult<Reply>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let (backend_pid, n) =
            Call::new(self, locks).get_result::<(Option<i32>, Option<i64>)>(conn)?;
        let except = n.and_then(|n| locks.get(usize::try_from(n - 1).ok()?).copied());
        Ok(Reply {
            backend_pid,
            except,
        })
    }
}

/// The first columns of the last `SELECT`, after what says whether the session is ours.
const PID: &str = " SELECT CASE WHEN is_ours THEN pg_catalog.pg_backend_pid() END, ";

impl<M: Mark> Statement for LockAll<M> {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        claimed(&self.0, &mut out);
        out.push_sql(
            ", locked AS MATERIALIZED (SELECT pg_catalog.count(*) FROM wanted \
             WHERE CASE WHEN (SELECT is_ours FROM claimed) THEN ",
        );
        each("pg_catalog.pg_advisory_lock", " IS NOT NULL", &mut out);
        out.push_sql(" END)");
        out.push_sql(PID);
        out.push_sql("NULL::bigint FROM claimed, locked");
        Ok(())
    }
}

impl<M: Mark> Statement for LockAllWithin<M> {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        claimed(&self.0, &mut out);
        // Only for a lock that has to be waited for is the time looked at.
        out.push_sql(
            ", before AS MATERIALIZED (SELECT is_ours, \
             pg_catalog.current_setting('lock_timeout') AS timeout FROM claimed), \
             locked AS MATERIALIZED (SELECT pg_catalog.count(*) FROM wanted \
             WHERE CASE WHEN (SELECT is_ours AND timeout IS NOT NULL FROM before) THEN CASE WHEN ",
        );
        each("pg_catalog.pg_try_advisory_lock", "", &mut out);
        out.push_sql(" THEN true WHEN pg_catalog.set_config('lock_timeout', GREATEST(1, (");
        out.push_bind_param::<BigInt, i64>(&self.1)?;
        out.push_sql(
            " OPERATOR(pg_catalog.-) (1000 OPERATOR(pg_catalog.*) pg_catalog.date_part('epoch', \
             pg_catalog.clock_timestamp() OPERATOR(pg_catalog.-) \
             pg_catalog.statement_timestamp())))::bigint)::pg_catalog.text, true) IS NOT NULL THEN ",
        );
        each("pg_catalog.pg_advisory_lock", " IS NOT NULL", &mut out);
        out.push_sql(
            " END END), restored AS MATERIALIZED (SELECT is_ours, \
             pg_catalog.set_config('lock_timeout', timeout, true) FROM locked, before)",
        );
        out.push_sql(PID);
        out.push_sql("NULL::bigint FROM restored");
        Ok(())
    }
}

impl<M: Mark> Statement for TryLockAll<M> {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        claimed(&self.0, &mut out);
        out.push_sql(
            ", refused AS MATERIALIZED (SELECT n FROM wanted \
             WHERE CASE WHEN (SELECT is_ours FROM claimed) THEN NOT (",
        );
        each("pg_catalog.pg_try_advisory_lock", "", &mut out);
        out.push_sql(
            ") END LIMIT 1), given_back AS MATERIALIZED (SELECT pg_catalog.count(*) FROM wanted \
             WHERE CASE WHEN n OPERATOR(pg_catalog.<) (SELECT n FROM refused) THEN ",
        );
        each("pg_catalog.pg_advisory_unlock", "", &mut out);
        out.push_sql(" END)");
        out.push_sql(PID);
        out.push_sql("(SELECT n FROM refused) FROM claimed, given_back");
        Ok(())
    }
}

impl Statement for UnlockAll {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            " SELECT pg_catalog.pg_backend_pid(), pg_catalog.min(n) FROM wanted \
             WHERE CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) ",
        );
        out.push_bind_param::<Integer, i32>(&self.backend_pid)?;
        out.push_sql(" THEN NOT (");
        each("pg_catalog.pg_advisory_unlock", "", &mut out);
        out.push_sql(") END");
        Ok(())
    }
}

/// How often a session has a lock, the server does not say. So it is given back once more than
/// guards hold it, and taken again; meanwhile a lock of the transaction keeps everybody else out.
/// Arrays do the counting, because the planner takes a `generate_series` for long, and compiles.
impl<M: Mark> Statement for Restore<M> {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(", claimed AS MATERIALIZED (SELECT NOT (");
        for part in self.mark.is_foreign() {
            out.push_sql(part);
        }
        out.push_sql(") AND pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.<>) ALL (");
        out.push_bind_param::<Array<Integer>, Vec<i32>>(&self.guards.uncounted)?;
        out.push_sql(") AND (pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) ");
        out.push_bind_param::<Nullable<Integer>, Option<i32>>(&self.guards.backend_pid)?;
        out.push_sql(
            ") IS NOT FALSE AS is_ours), counts AS MATERIALIZED (SELECT * FROM pg_catalog.unnest(",
        );
        out.push_bind_param::<Array<Integer>, Vec<i32>>(&self.guards.counts)?;
        out.push_sql(
            ") WITH ORDINALITY AS counts(guards, n)), \
             had AS MATERIALIZED (SELECT wanted.*, guards, ",
        );
        out.push_sql(IS_HELD);
        out.push_sql(
            " AS is_held FROM wanted JOIN counts ON counts.n OPERATOR(pg_catalog.=) wanted.n), \
             given_back AS MATERIALIZED (SELECT had.*, CASE WHEN guards OPERATOR(pg_catalog.=) 0 \
             OR (",
        );
        each("pg_catalog.pg_try_advisory_xact_lock", "", &mut out);
        out.push_sql(
            ") THEN (SELECT pg_catalog.count(*) FROM pg_catalog.unnest(pg_catalog.array_fill(\
             true, ARRAY[guards OPERATOR(pg_catalog.+) 1])) WHERE ",
        );
        each("pg_catalog.pg_advisory_unlock", "", &mut out);
        out.push_sql(
            ")::integer END AS times FROM had WHERE is_held AND (SELECT is_ours FROM claimed)), \
             kept AS MATERIALIZED (SELECT pg_catalog.count(",
        );
        each("pg_catalog.pg_advisory_lock", " IS NOT NULL", &mut out);
        out.push_sql(
            ") FROM given_back CROSS JOIN LATERAL \
             pg_catalog.unnest(pg_catalog.array_fill(true, ARRAY[LEAST(times, guards)])))",
        );
        out.push_sql(PID);
        out.push_sql("(SELECT pg_catalog.min(n) FROM had WHERE NOT is_held) FROM claimed, kept");
        Ok(())
    }
}

impl Statement for AllHeld {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            " SELECT pg_catalog.pg_backend_pid(), pg_catalog.min(n) FROM wanted WHERE NOT ",
        );
        out.push_sql(IS_HELD);
        Ok(())
    }
}

/// Whether this session holds the lock of a row of `wanted`. `pg_locks` shows both halves of a
/// key as unsigned numbers, and 1 for a single key and 2 for a pair.
const IS_HELD: &str = "(CASE WHEN second IS NULL \
     THEN (first OPERATOR(pg_catalog.>>) 32) OPERATOR(pg_catalog.&) 4294967295 \
     ELSE first OPERATOR(pg_catalog.&) 4294967295 END, \
     CASE WHEN second IS NULL THEN first ELSE second::bigint END \
     OPERATOR(pg_catalog.&) 4294967295, \
     CASE WHEN second IS NULL THEN 1 ELSE 2 END, shared) \
     OPERATOR(pg_catalog.=) ANY (SELECT classid::bigint, objid::bigint, objsubid::integer, \
     mode OPERATOR(pg_catalog.=) 'ShareLock' FROM pg_catalog.pg_locks \
     WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND granted \
     AND pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())";

/// Writes `claimed`, which says whether the session is ours, and makes it so where it is nobody's.
fn claimed(mark: &impl Mark, out: &mut AstPass<'_, '_, Pg>) {
    out.push_sql(", claimed AS MATERIALIZED (SELECT ");
    mark.claim(out);
    out.push_sql(" AS is_ours)");
}

/// Writes a call of `function` for a row of `wanted`.
fn each(function: &str, suffix: &str, out: &mut AstPass<'_, '_, Pg>) {
    let forms = [
        (
            "CASE WHEN second IS NULL AND NOT shared THEN ",
            "",
            "(first)",
        ),
        (" WHEN second IS NULL THEN ", "_shared", "(first)"),
        (" WHEN NOT shared THEN ", "", "(first::integer, second)"),
        (" ELSE ", "_shared", "(first::integer, second)"),
    ];
    for (when, mode, arguments) in forms {
        for part in [when, function, mode, arguments, suffix] {
            out.push_sql(part);
        }
    }
    out.push_sql(" END");
}

struct Call<S> {
    statement: S,
    first: Vec<i64>,
    second: Vec<Option<i32>>,
    shared: Vec<bool>,
}

impl<S> Call<S> {
    fn new(statement: S, locks: &[AdvisoryLock]) -> Self {
        let (first, second) = locks
            .iter()
            .map(|lock| match lock.key() {
                LockKey::Single(key) => (key, None),
                LockKey::Pair(class, object) => (class.into(), Some(object)),
            })
            .unzip();
        Self {
            statement,
            first,
            second,
            shared: locks.iter().map(|lock| lock.is_shared()).collect(),
        }
    }
}

impl<S: Statement> QueryFragment<Pg> for Call<S> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("WITH wanted AS MATERIALIZED (SELECT * FROM ROWS FROM (pg_catalog.unnest(");
        out.push_bind_param::<Array<BigInt>, Vec<i64>>(&self.first)?;
        out.push_sql("), pg_catalog.unnest(");
        out.push_bind_param::<Array<Nullable<Integer>>, Vec<Option<i32>>>(&self.second)?;
        out.push_sql("), pg_catalog.unnest(");
        out.push_bind_param::<Array<Bool>, Vec<bool>>(&self.shared)?;
        out.push_sql(")) WITH ORDINALITY AS wanted(first, second, shared, n))");
        self.statement.write(out)
    }
}

impl<S: Statement> QueryId for Call<S> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Statement> Query for Call<S> {
    type SqlType = (Nullable<Integer>, Nullable<BigInt>);
}

impl<S, C> RunQueryDsl<C> for Call<S> {}
