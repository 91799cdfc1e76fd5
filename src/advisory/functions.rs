//! The SQL of advisory locks: [*Advisory Lock Functions*], section 9.27.10 of the PostgreSQL
//! documentation. Each statement is one round trip, and is prepared once for a connection.
//!
//! [*Advisory Lock Functions*]: https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS

use std::marker::PhantomData;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{BigInt, Bool, Integer, Nullable, SmallInt, Text};
use diesel::{QueryResult, RunQueryDsl};

use crate::{AdvisoryLock, LockKey};

/// The server's answer: which session it is, and what the function returned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply {
    pub(super) backend_pid: i32,
    pub(super) returned: bool,
}

/// `pg_advisory_lock`: returns true.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lock;

/// `pg_advisory_lock` within a lock timeout of its own, in milliseconds: returns true.
///
/// The caller's timeout is back in force afterwards, in the words that the caller used for it.
#[derive(Debug, Clone)]
pub(super) struct LockWithin(pub(super) String);

/// `pg_try_advisory_lock`: returns whether it was granted.
#[derive(Debug, Clone, Copy)]
pub(super) struct TryLock;

/// `pg_advisory_unlock`, if the session is still the given one: returns whether it was held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unlock {
    pub(super) backend_pid: i32,
}

/// `pg_locks`: returns whether this session holds the lock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held {
    class: i64,
    object: i64,
    /// 1 for a single key, 2 for a pair.
    space: i16,
}

impl Held {
    pub(super) fn of(lock: &AdvisoryLock) -> Self {
        // `pg_locks` shows both halves of a key as unsigned numbers.
        let (class, object, space) = match lock.key() {
            LockKey::Single(key) => ((key >> 32) as u32, key as u32, 1),
            LockKey::Pair(class, object) => (class as u32, object as u32, 2),
        };
        Self {
            class: class.into(),
            object: object.into(),
            space,
        }
    }
}

/// A statement about one lock.
pub(super) trait Statement: Sized + 'static {
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

impl Statement for Lock {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT pg_backend_pid(), ");
        function::<M, K>("pg_advisory_lock", key, out.reborrow())?;
        out.push_sql(" IS NOT NULL");
        Ok(())
    }
}

impl Statement for LockWithin {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql(
            "WITH before AS MATERIALIZED (SELECT current_setting('lock_timeout') AS timeout), \
             started AS MATERIALIZED (SELECT set_config('lock_timeout', ",
        );
        out.push_bind_param::<Text, String>(&self.0)?;
        out.push_sql(", true) FROM before), locked AS MATERIALIZED (SELECT ");
        function::<M, K>("pg_advisory_lock", key, out.reborrow())?;
        out.push_sql(
            " FROM started) \
             SELECT pg_backend_pid(), set_config('lock_timeout', timeout, true) IS NOT NULL \
             FROM locked, before",
        );
        Ok(())
    }
}

impl Statement for TryLock {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql("SELECT pg_backend_pid(), ");
        function::<M, K>("pg_try_advisory_lock", key, out)
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

impl Statement for Held {
    fn write<'b, M: Mode, K: Key>(
        &'b self,
        _key: &'b K,
        mut out: AstPass<'_, 'b, Pg>,
    ) -> QueryResult<()> {
        out.push_sql(
            "SELECT pg_backend_pid(), EXISTS (SELECT FROM pg_locks WHERE pid = pg_backend_pid() \
             AND locktype = 'advisory' AND granted AND mode = '",
        );
        out.push_sql(M::NAME);
        out.push_sql("' AND classid::bigint = ");
        out.push_bind_param::<BigInt, i64>(&self.class)?;
        out.push_sql(" AND objid::bigint = ");
        out.push_bind_param::<BigInt, i64>(&self.object)?;
        out.push_sql(" AND objsubid = ");
        out.push_bind_param::<SmallInt, i16>(&self.space)?;
        out.push_sql(")");
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
    /// Its name in `pg_locks`.
    const NAME: &'static str;
}

enum Exclusive {}

impl Mode for Exclusive {
    const SUFFIX: &'static str = "";
    const NAME: &'static str = "ExclusiveLock";
}

enum Shared {}

impl Mode for Shared {
    const SUFFIX: &'static str = "_shared";
    const NAME: &'static str = "ShareLock";
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
