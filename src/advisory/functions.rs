//! The SQL of one advisory lock: [*Advisory Lock Functions*], section 9.27.10 of the PostgreSQL
//! documentation. Each statement is one round trip, and is prepared once for a connection.
//!
//! [*Advisory Lock Functions*]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS

use std::marker::PhantomData;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Integer, Nullable, Text};
use diesel::{OptionalExtension, QueryResult, RunQueryDsl};

use super::owner::{Mark, Unmarked};
use crate::lock_timeout::{CALL_WITHIN, milliseconds};
use crate::{AdvisoryLock, LockKey, Wait};

/// What became of a lock that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It was granted, to the session with this backend pid.
    Granted(i32),
    /// Another session is in the way.
    Refused,
    /// Another client shares the session; nothing was taken.
    Shared,
}

/// How long a lock is held: a type, because it is part of the SQL that is prepared.
pub(super) trait Scope: 'static {
    const LOCK: &'static str;
    const TRY_LOCK: &'static str;

    fn mark(&self) -> &impl Mark;
}

/// Until it is released.
pub(super) struct Session<M>(pub(super) M);

impl<M: Mark> Scope for Session<M> {
    const LOCK: &'static str = "pg_catalog.pg_advisory_lock";
    const TRY_LOCK: &'static str = "pg_catalog.pg_try_advisory_lock";

    fn mark(&self) -> &impl Mark {
        &self.0
    }
}

/// Until the transaction ends, for which a pooler lends the session to nobody else.
pub(super) struct Transaction;

impl Scope for Transaction {
    const LOCK: &'static str = "pg_catalog.pg_advisory_xact_lock";
    const TRY_LOCK: &'static str = "pg_catalog.pg_try_advisory_xact_lock";

    fn mark(&self) -> &impl Mark {
        &Unmarked
    }
}

/// `pg_advisory_lock`.
struct Lock<S>(S);

/// `pg_try_advisory_lock`: 0 if it is refused.
struct TryLock<S>(S);

/// `pg_advisory_lock` within a lock timeout of its own, in milliseconds.
///
/// The caller's timeout is back in force afterwards, in the words that the caller used for it.
struct LockWithin<S>(S, String);

/// Takes `lock` for a scope.
pub(super) fn take<S: Scope, C>(
    conn: &mut C,
    scope: S,
    lock: &AdvisoryLock,
    wait: Wait,
) -> QueryResult<Answer>
where
    C: LoadConnection<Backend = Pg>,
{
    let pid = match wait {
        Wait::Block => Lock(scope).run(conn, lock),
        Wait::NoWait => TryLock(scope).run(conn, lock),
        Wait::Timeout(timeout) => {
            LockWithin(scope, milliseconds(timeout).to_string()).run(conn, lock)
        }
    }?;
    Ok(match pid {
        Some(0) => Answer::Refused,
        Some(pid) => Answer::Granted(pid),
        None => Answer::Shared,
    })
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
    let pid = Unlock { backend_pid }.run(conn, lock)?;
    Ok(pid.is_some())
}

/// A statement about one lock, whose answer is a backend pid, or null, or no row.
trait Statement: Sized + 'static {
    /// Writes the SQL.
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()>;

    fn ask<M: Mode, K: Key, C>(call: Call<Self, M, K>, conn: &mut C) -> QueryResult<Option<i32>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let row = call.get_result::<Option<i32>>(conn).optional()?;
        Ok(row.flatten())
    }

    /// Sends it.
    fn run<C>(self, conn: &mut C, lock: &AdvisoryLock) -> QueryResult<Option<i32>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        match (lock.is_shared(), lock.key()) {
            (false, LockKey::Single(key)) => {
                Self::ask(Call::<_, Exclusive, _>::new(self, key), conn)
            }
            (false, LockKey::Pair(a, b)) => {
                Self::ask(Call::<_, Exclusive, _>::new(self, (a, b)), conn)
            }
            (true, LockKey::Single(key)) => Self::ask(Call::<_, Shared, _>::new(self, key), conn),
            (true, LockKey::Pair(a, b)) => Self::ask(Call::<_, Shared, _>::new(self, (a, b)), conn),
        }
    }
}

impl<S: Scope> Statement for Lock<S> {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_backend_pid() WHERE CASE WHEN ");
        self.0.mark().claim(&mut out);
        out.push_sql(" THEN ");
        function::<M, K>(S::LOCK, key, out.reborrow())?;
        out.push_sql(" IS NOT NULL END");
        Ok(())
    }
}

impl<S: Scope> Statement for TryLock<S> {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT CASE WHEN ");
        self.0.mark().claim(&mut out);
        out.push_sql(" THEN CASE WHEN ");
        function::<M, K>(S::TRY_LOCK, key, out.reborrow())?;
        out.push_sql(" THEN pg_catalog.pg_backend_pid() ELSE 0 END END");
        Ok(())
    }
}

impl<S: Scope> Statement for LockWithin<S> {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        let [restore, start, end] = CALL_WITHIN;
        out.push_sql(restore);
        out.push_sql("CASE WHEN ");
        self.0.mark().claim(&mut out);
        out.push_sql(" THEN CASE WHEN ");
        function::<M, K>(S::LOCK, key, out.reborrow())?;
        out.push_sql(" IS NOT NULL THEN pg_catalog.pg_backend_pid() END END");
        out.push_sql(start);
        out.push_bind_param::<Text, String>(&self.1)?;
        out.push_sql(end);
        Ok(())
    }
}

impl Statement for Unlock {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT WHERE CASE WHEN pg_catalog.pg_backend_pid() OPERATOR(pg_catalog.=) ");
        out.push_bind_param::<Integer, i32>(&self.backend_pid)?;
        out.push_sql(" THEN ");
        function::<M, K>("pg_catalog.pg_advisory_unlock", key, out.reborrow())?;
        out.push_sql(" END");
        Ok(())
    }

    /// Whether there is a row, which is the cheaper question.
    fn ask<M: Mode, K: Key, C>(call: Call<Self, M, K>, conn: &mut C) -> QueryResult<Option<i32>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let backend_pid = call.statement.backend_pid;
        Ok((call.execute(conn)? == 1).then_some(backend_pid))
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
    type SqlType = Nullable<Integer>;
}

impl<S, M, K, C> RunQueryDsl<C> for Call<S, M, K> {}
