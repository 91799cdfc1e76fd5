//! Limits for the statements that follow, set and put back by statements of their own.

use std::time::Duration;

use diesel::RunQueryDsl;
use diesel::connection::LoadConnection;
#[cfg(feature = "migrations")]
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::result::QueryResult;
#[cfg(feature = "migrations")]
use diesel::sql_types::Nullable;
use diesel::sql_types::{Bool, Text};

use super::milliseconds::with_unit;
use crate::LockError;

/// Sets `lock_timeout`, for each wait, and, where it is for the `whole` call, `statement_timeout`
/// for all of them, unless that is shorter already: the columns of a `SELECT` from [`BEFORE`].
pub(super) const SET: &str = "pg_catalog.set_config('lock_timeout', timeout, true), \
     CASE WHEN whole AND NOT (statement_timeout::interval OPERATOR(pg_catalog.>) '0'::interval \
     AND statement_timeout::interval OPERATOR(pg_catalog.<) timeout::interval) \
     THEN pg_catalog.set_config('statement_timeout', timeout, true) END";

/// What is in force, beside the `timeout` that shall be, and whether it is for the whole call.
/// Read first, because `OFFSET` keeps the planner from making one of the two `SELECT`s.
pub(super) const BEFORE: [&str; 3] = [
    " FROM (SELECT pg_catalog.current_setting('lock_timeout') AS lock_timeout, \
     pg_catalog.current_setting('statement_timeout') AS statement_timeout, ",
    " AS timeout, ",
    " AS whole OFFSET 0) AS before",
];

/// The limits that were in force.
pub(super) struct Limits {
    lock_timeout: String,
    statement_timeout: String,
}

impl Limits {
    /// Sets new ones, `lock_timeout` for each wait, and, for the `whole` call, `statement_timeout`.
    pub(super) fn set<C>(conn: &mut C, timeout: Duration, whole: bool) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let timeout = with_unit(timeout);
        let (lock_timeout, statement_timeout) = SetLimits { timeout, whole }.get_result(conn)?;
        Ok(Self {
            lock_timeout,
            statement_timeout,
        })
    }

    /// Sets those that are given.
    #[cfg(feature = "migrations")]
    pub(super) fn set_each<C>(
        conn: &mut C,
        lock_timeout: Option<Duration>,
        statement_timeout: Option<Duration>,
    ) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let (lock_timeout, statement_timeout, _, _) = sql::<(Text, Text, Text, Text)>(
            "SELECT lock_timeout, statement_timeout, \
             pg_catalog.set_config('lock_timeout', COALESCE(",
        )
        .bind::<Nullable<Text>, _>(lock_timeout.map(with_unit))
        .sql(", lock_timeout), true), pg_catalog.set_config('statement_timeout', COALESCE(")
        .bind::<Nullable<Text>, _>(statement_timeout.map(with_unit))
        .sql(
            ", statement_timeout), true) \
             FROM (SELECT pg_catalog.current_setting('lock_timeout') AS lock_timeout, \
             pg_catalog.current_setting('statement_timeout') AS statement_timeout OFFSET 0) \
             AS before",
        )
        .get_result::<(String, String, String, String)>(conn)?;
        Ok(Self {
            lock_timeout,
            statement_timeout,
        })
    }

    /// Puts them back. Where that is not granted any more because what was `done` has failed, the
    /// rollback that must follow does it.
    pub(super) fn restore_after<C, T, E>(self, conn: &mut C, done: Result<T, E>) -> Result<T, E>
    where
        C: LoadConnection<Backend = Pg>,
        E: From<LockError>,
    {
        let restored = RestoreLimits(self).execute(conn);
        let done = done?;
        restored.map_err(LockError::from)?;
        Ok(done)
    }
}

/// Sets limits, and asks for those that were in force. It is prepared once for a connection: to
/// parse it takes the server longer than all else of it.
struct SetLimits {
    timeout: String,
    whole: bool,
}

impl QueryFragment<Pg> for SetLimits {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        let [from, as_timeout, end] = BEFORE;
        out.push_sql("SELECT lock_timeout, statement_timeout, ");
        out.push_sql(SET);
        out.push_sql(from);
        out.push_bind_param::<Text, String>(&self.timeout)?;
        out.push_sql(as_timeout);
        out.push_bind_param::<Bool, bool>(&self.whole)?;
        out.push_sql(end);
        Ok(())
    }
}

impl QueryId for SetLimits {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl Query for SetLimits {
    type SqlType = (Text, Text);
}

impl<C> RunQueryDsl<C> for SetLimits {}

/// Puts limits back. Prepared once, like [`SetLimits`].
struct RestoreLimits(Limits);

impl QueryFragment<Pg> for RestoreLimits {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.set_config('lock_timeout', ");
        out.push_bind_param::<Text, String>(&self.0.lock_timeout)?;
        out.push_sql(", true), pg_catalog.set_config('statement_timeout', ");
        out.push_bind_param::<Text, String>(&self.0.statement_timeout)?;
        out.push_sql(", true)");
        Ok(())
    }
}

impl QueryId for RestoreLimits {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<C> RunQueryDsl<C> for RestoreLimits {}
