//! The SQL of any number of advisory locks. Each statement is one round trip, and is prepared
//! once for a connection, whatever the number of locks.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable};
use diesel::{QueryResult, RunQueryDsl};

use crate::wait::timeout_started;
use crate::{AdvisoryLock, LockKey};

/// The server's answer: which session it is, and the first lock that is an exception.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) backend_pid: i32,
    pub(super) except: Option<AdvisoryLock>,
}

/// Takes the locks one after the other, and waits for each; no exception.
pub(super) struct LockAll;

/// As [`LockAll`], with a lock timeout for each wait, in milliseconds.
pub(super) struct LockAllWithin(pub(super) String);

/// Takes the locks until one, the exception, is refused, and then gives back those before it.
pub(super) struct TryLockAll;

/// Gives all of them back, if the session is still the given one; the exception was not held.
pub(super) struct UnlockAll {
    pub(super) backend_pid: i32,
}

/// Gives back those before the exception, which is the first that is not held.
pub(super) struct UnlockTaken;

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
        let (backend_pid, n) = Call::new(self, locks).get_result::<(i32, Option<i64>)>(conn)?;
        let except = n.and_then(|n| locks.get(usize::try_from(n - 1).ok()?).copied());
        Ok(Reply {
            backend_pid,
            except,
        })
    }
}

impl Statement for LockAll {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(", ");
        taken("pg_advisory_lock", " IS NOT NULL", "", &mut out);
        out.push_sql(" SELECT pg_backend_pid(), min(n) FROM taken WHERE NOT granted");
        Ok(())
    }
}

impl Statement for LockAllWithin {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(", ");
        timeout_started(&self.0, out.reborrow())?;
        out.push_sql(", ");
        taken(
            "pg_advisory_lock",
            " IS NOT NULL",
            " FROM started",
            &mut out,
        );
        out.push_sql(
            ", done AS MATERIALIZED (SELECT min(n) AS n FROM taken WHERE NOT granted), \
             restored AS MATERIALIZED (\
             SELECT n, set_config('lock_timeout', timeout, true) FROM done, before) \
             SELECT pg_backend_pid(), n FROM restored",
        );
        Ok(())
    }
}

impl Statement for TryLockAll {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(", ");
        taken("pg_try_advisory_lock", "", "", &mut out);
        out.push_sql(
            ", refused AS MATERIALIZED (SELECT min(n) AS n FROM taken WHERE NOT granted), \
             given_back AS MATERIALIZED (SELECT count(",
        );
        each("pg_advisory_unlock", "", &mut out);
        out.push_sql(
            ") FROM wanted, refused WHERE wanted.n < refused.n) \
             SELECT pg_backend_pid(), refused.n FROM refused, given_back",
        );
        Ok(())
    }
}

impl Statement for UnlockAll {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(", released AS MATERIALIZED (SELECT n, ");
        each("pg_advisory_unlock", "", &mut out);
        out.push_sql(" AS held FROM wanted WHERE pg_backend_pid() = ");
        out.push_bind_param::<Integer, i32>(&self.backend_pid)?;
        out.push_sql(") SELECT pg_backend_pid(), min(n) FROM released WHERE NOT held");
        Ok(())
    }
}

impl Statement for UnlockTaken {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(", missing AS MATERIALIZED (SELECT min(n) AS n FROM wanted WHERE NOT ");
        out.push_sql(IS_HELD);
        out.push_sql("), given_back AS MATERIALIZED (SELECT count(");
        each("pg_advisory_unlock", "", &mut out);
        out.push_sql(
            ") FROM wanted, missing WHERE (wanted.n < missing.n) IS NOT FALSE) \
             SELECT pg_backend_pid(), missing.n FROM missing, given_back",
        );
        Ok(())
    }
}

impl Statement for AllHeld {
    fn write<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(" SELECT pg_backend_pid(), min(n) FROM wanted WHERE NOT ");
        out.push_sql(IS_HELD);
        Ok(())
    }
}

/// Whether this session holds the lock of a row of `wanted`. `pg_locks` shows both halves of a
/// key as unsigned numbers, and 1 for a single key and 2 for a pair.
const IS_HELD: &str = "EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() \
     AND locktype = 'advisory' AND granted \
     AND mode = CASE WHEN shared THEN 'ShareLock' ELSE 'ExclusiveLock' END \
     AND (classid::bigint, objid::bigint, objsubid) = (CASE WHEN second IS NULL \
     THEN ((first >> 32) & 4294967295, first & 4294967295, 1::smallint) \
     ELSE (first & 4294967295, second::bigint & 4294967295, 2::smallint) END))";

/// Writes `taken`: row by row of `wanted`, until one is not granted. The first row, 0, is none.
fn taken(function: &str, suffix: &str, from: &str, out: &mut AstPass<'_, '_, Pg>) {
    out.push_sql("taken(n, granted) AS (SELECT 0::bigint, true");
    out.push_sql(from);
    out.push_sql(" UNION ALL SELECT wanted.n, ");
    each(function, suffix, out);
    out.push_sql(" FROM taken JOIN wanted ON wanted.n = taken.n + 1 WHERE granted)");
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
        out.push_sql(
            "WITH RECURSIVE wanted AS MATERIALIZED \
             (SELECT * FROM unnest(",
        );
        out.push_bind_param::<Array<BigInt>, Vec<i64>>(&self.first)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Nullable<Integer>>, Vec<Option<i32>>>(&self.second)?;
        out.push_sql(", ");
        out.push_bind_param::<Array<Bool>, Vec<bool>>(&self.shared)?;
        out.push_sql(") WITH ORDINALITY AS wanted(first, second, shared, n))");
        self.statement.write(out)
    }
}

impl<S: Statement> QueryId for Call<S> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Statement> Query for Call<S> {
    type SqlType = (Integer, Nullable<BigInt>);
}

impl<S, C> RunQueryDsl<C> for Call<S> {}
