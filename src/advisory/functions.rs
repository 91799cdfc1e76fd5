//! The SQL of one advisory lock: [*Advisory Lock Functions*], section 9.27.10 of the PostgreSQL
//! documentation. Each statement is one round trip, and is prepared once for a connection.
//!
//! [*Advisory Lock Functions*]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS

use std::marker::PhantomData;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, Text};
use diesel::{QueryResult, RunQueryDsl};

use super::several;
use crate::wait::lock_timeout;
use crate::{AdvisoryLock, LockKey, Wait};

/// The server's answer: which session it is, and what the function returned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) backend_pid: i32,
    pub(super) returned: bool,
}

impl Reply {
    /// The answer for a set of one lock, which is the exception if the function returned false.
    pub(super) fn for_one(self, lock: &AdvisoryLock) -> several::Reply {
        several::Reply {
            backend_pid: self.backend_pid,
            except: (!self.returned).then_some(*lock),
        }
    }
}

/// How long a lock is held: a type, because it is part of the SQL that is prepared.
pub(super) trait Scope: 'static {
    const LOCK: &'static str;
    const TRY_LOCK: &'static str;
}

/// Until it is released.
#[derive(Debug, Clone, Copy)]
pub(super) enum Session {}

impl Scope for Session {
    const LOCK: &'static str = "pg_advisory_lock";
    const TRY_LOCK: &'static str = "pg_try_advisory_lock";
}

/// Until the transaction ends.
#[derive(Debug, Clone, Copy)]
pub(super) enum Transaction {}

impl Scope for Transaction {
    const LOCK: &'static str = "pg_advisory_xact_lock";
    const TRY_LOCK: &'static str = "pg_try_advisory_xact_lock";
}

/// `pg_advisory_lock`: returns true.
struct Lock<S>(PhantomData<S>);

/// `pg_try_advisory_lock`: returns whether it was granted.
struct TryLock<S>(PhantomData<S>);

/// `pg_advisory_lock` within a lock timeout of its own, in milliseconds: returns true.
///
/// The caller's timeout is back in force afterwards, in the words that the caller used for it.
struct LockWithin<S>(String, PhantomData<S>);

/// Takes `lock` for a scope; it was refused if that returns false.
pub(super) fn take<S: Scope, C>(conn: &mut C, lock: &AdvisoryLock, wait: Wait) -> QueryResult<Reply>
where
    C: LoadConnection<Backend = Pg>,
{
    match wait {
        Wait::Block => Lock::<S>(PhantomData).run(conn, lock),
        Wait::NoWait => TryLock::<S>(PhantomData).run(conn, lock),
        Wait::Timeout(timeout) => {
            LockWithin::<S>(lock_timeout(timeout), PhantomData).run(conn, lock)
        }
    }
}

/// `pg_advisory_unlock`, if the session is still the given one: returns whether it was held.
struct Unlock {
    backend_pid: i32,
}

/// Gives `lock` back, if the session is still the given one; it was not held if that returns
/// false.
pub(super) fn give_back<C>(
    conn: &mut C,
    lock: &AdvisoryLock,
    backend_pid: i32,
) -> QueryResult<Reply>
where
    C: LoadConnection<Backend = Pg>,
{
    Unlock { backend_pid }.run(conn, lock)
}

/// A statement about one lock.
trait Statement: Sized + 'static {
    /// Writes the SQL: a backend pid and a boolean.
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()>;

    /// Sends it.
    fn run<C>(self, conn: &mut C, lock: &AdvisoryLock) -> QueryResult<Reply>
    where
        C: LoadConnection<Backend = Pg>,
    {
        match (lock.is_shared(), lock.key()) {
            (false, LockKey::Single(key)) => Call::<_, Exclusive, _>::new(self, key).run(conn),
            (false, LockKey::Pair(a, b)) => Call::<_, Exclusive, _>::new(self, (a, b)).run(conn),
            (true, LockKey::Single(key)) => Call::<_, Shared, _>::new(self, key).run(conn),
            (true, LockKey::Pair(a, b)) => Call::<_, Shared, _>::new(self, (a, b)).run(conn),
        }
    }
}

impl<S: Scope> Statement for Lock<S> {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT pg_backend_pid(), ");
        function::<M, K>(S::LOCK, key, out.reborrow())?;
        out.push_sql(" IS NOT NULL");
        Ok(())
    }
}

impl<S: Scope> Statement for TryLock<S> {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT pg_backend_pid(), ");
        function::<M, K>(S::TRY_LOCK, key, out)
    }
}

impl<S: Scope> Statement for LockWithin<S> {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("WITH ");
        timeout_started(&self.0, out.reborrow())?;
        out.push_sql(", locked AS MATERIALIZED (SELECT ");
        function::<M, K>(S::LOCK, key, out.reborrow())?;
        out.push_sql(
            " FROM started) \
             SELECT pg_backend_pid(), set_config('lock_timeout', timeout, true) IS NOT NULL \
             FROM locked, before",
        );
        Ok(())
    }
}

impl Statement for Unlock {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT pg_backend_pid(), CASE WHEN pg_backend_pid() = ");
        out.push_bind_param::<Integer, i32>(&self.backend_pid)?;
        out.push_sql(" THEN ");
        function::<M, K>("pg_advisory_unlock", key, out.reborrow())?;
        out.push_sql(" END");
        Ok(())
    }
}

/// The parts of a `WITH` that set the lock timeout: `before` has what it was, and whatever reads
/// from `started` runs under the new one.
pub(super) fn timeout_started<'b>(
    milliseconds: &'b String,
    mut out: AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    out.push_sql(
        "before AS MATERIALIZED (SELECT current_setting('lock_timeout') AS timeout), \
         started AS MATERIALIZED (SELECT set_config('lock_timeout', ",
    );
    out.push_bind_param::<Text, String>(milliseconds)?;
    out.push_sql(", true) FROM before)");
    Ok(())
}

fn function<'b, M: Mode, K: Key>(
    name: &str,
    key: &'b K,
    mut out: AstPass<'_, 'b, Pg>,
) -> QueryResult<()> {
    out.push_sql(name);
    out.push_sql(M::SUFFIX);
    out.push_sql("(");
    key.push(out.reborrow())?;
    out.push_sql(")");
    Ok(())
}

/// Exclusive or shared: a type, because it is part of the SQL that is prepared.
trait Mode: 'static {
    /// What the functions' names end with.
    const SUFFIX: &'static str;
}

enum Exclusive {}

impl Mode for Exclusive {
    const SUFFIX: &'static str = "";
}

enum Shared {}

impl Mode for Shared {
    const SUFFIX: &'static str = "_shared";
}

/// The arguments that a key is.
trait Key: 'static {
    fn push<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()>;
}

impl Key for i64 {
    fn push<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<BigInt, i64>(self)
    }
}

impl Key for (i32, i32) {
    fn push<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_bind_param::<Integer, i32>(&self.0)?;
        out.push_sql(", ");
        out.push_bind_param::<Integer, i32>(&self.1)
    }
}

/// A statement with its mode and key: what Diesel prepares, once for each such type.
struct Call<S, M, K> {
    statement: S,
    key: K,
    mode: PhantomData<M>,
}

impl<S: Statement, M: Mode, K: Key> Call<S, M, K> {
    fn new(statement: S, key: K) -> Self {
        Self {
            statement,
            key,
            mode: PhantomData,
        }
    }

    fn run<C: LoadConnection<Backend = Pg>>(self, conn: &mut C) -> QueryResult<Reply> {
        let (backend_pid, returned) = self.get_result::<(i32, Option<bool>)>(conn)?;
        Ok(Reply {
            backend_pid,
            returned: returned.unwrap_or(false),
        })
    }
}

impl<S: Statement, M: Mode, K: Key> QueryFragment<Pg> for Call<S, M, K> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        self.statement.write::<M, K>(&self.key, out)
    }
}

impl<S: Statement, M: Mode, K: Key> QueryId for Call<S, M, K> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<S: Statement, M: Mode, K: Key> Query for Call<S, M, K> {
    type SqlType = (Integer, Nullable<Bool>);
}

impl<S, M, K, C> RunQueryDsl<C> for Call<S, M, K> {}
