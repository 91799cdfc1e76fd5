//! The SQL of one advisory lock: [*Advisory Lock Functions*], section 9.27.10 of the PostgreSQL
//! documentation. Each statement is one round trip, and is prepared once for a connection.
//!
//! [*Advisory Lock Functions*]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS

use std::marker::PhantomData;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer};
use diesel::{OptionalExtension, QueryResult, RunQueryDsl};

use crate::wait::{lock_timeout, timeout_started};
use crate::{AdvisoryLock, LockKey, Wait};

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

/// `pg_advisory_lock`.
struct Lock<S>(PhantomData<S>);

/// `pg_try_advisory_lock`: no row if it is refused.
struct TryLock<S>(PhantomData<S>);

/// `pg_advisory_lock` within a lock timeout of its own, in milliseconds.
///
/// The caller's timeout is back in force afterwards, in the words that the caller used for it.
struct LockWithin<S>(String, PhantomData<S>);

/// Takes `lock` for a scope, and returns whether it was granted.
pub(super) fn take<S: Scope, A: Answer, C>(
    conn: &mut C,
    lock: &AdvisoryLock,
    wait: Wait,
) -> QueryResult<A>
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

/// `pg_advisory_unlock`, if the session is still the given one: no row if that was not so.
struct Unlock {
    backend_pid: i32,
}

/// Gives `lock` back, and returns whether the session is still the given one and held it.
pub(super) fn give_back<C>(conn: &mut C, lock: &AdvisoryLock, backend_pid: i32) -> QueryResult<bool>
where
    C: LoadConnection<Backend = Pg>,
{
    Unlock { backend_pid }.run(conn, lock)
}

/// What is to be learnt from a statement that gives a row or none.
pub(super) trait Answer: Sized {
    fn ask<S: Statement, M: Mode, K: Key, C>(
        call: Call<S, M, K>,
        conn: &mut C,
    ) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>;
}

/// Whether there is a row, which is the cheaper question.
impl Answer for bool {
    fn ask<S: Statement, M: Mode, K: Key, C>(call: Call<S, M, K>, conn: &mut C) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>,
    {
        Ok(call.execute(conn)? == 1)
    }
}

/// The backend pid in the row.
impl Answer for Option<i32> {
    fn ask<S: Statement, M: Mode, K: Key, C>(call: Call<S, M, K>, conn: &mut C) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>,
    {
        call.get_result(conn).optional()
    }
}

/// A statement about one lock.
pub(super) trait Statement: Sized + 'static {
    /// Writes the SQL.
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()>;

    /// Sends it.
    fn run<A: Answer, C>(self, conn: &mut C, lock: &AdvisoryLock) -> QueryResult<A>
    where
        C: LoadConnection<Backend = Pg>,
    {
        match (lock.is_shared(), lock.key()) {
            (false, LockKey::Single(key)) => A::ask(Call::<_, Exclusive, _>::new(self, key), conn),
            (false, LockKey::Pair(a, b)) => {
                A::ask(Call::<_, Exclusive, _>::new(self, (a, b)), conn)
            }
            (true, LockKey::Single(key)) => A::ask(Call::<_, Shared, _>::new(self, key), conn),
            (true, LockKey::Pair(a, b)) => A::ask(Call::<_, Shared, _>::new(self, (a, b)), conn),
        }
    }
}

impl<S: Scope> Statement for Lock<S> {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT pg_backend_pid() WHERE ");
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
        out.push_sql("SELECT pg_backend_pid() WHERE ");
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
            " FROM started), restored AS MATERIALIZED (\
             SELECT set_config('lock_timeout', timeout, true) FROM locked, before) \
             SELECT pg_backend_pid() FROM restored",
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
        out.push_sql("SELECT WHERE CASE WHEN pg_backend_pid() = ");
        out.push_bind_param::<Integer, i32>(&self.backend_pid)?;
        out.push_sql(" THEN ");
        function::<M, K>("pg_advisory_unlock", key, out.reborrow())?;
        out.push_sql(" END");
        Ok(())
    }
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
pub(super) trait Mode: 'static {
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
pub(super) trait Key: 'static {
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
pub(super) struct Call<S, M, K> {
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
    type SqlType = Integer;
}

impl<S, M, K, C> RunQueryDsl<C> for Call<S, M, K> {}
