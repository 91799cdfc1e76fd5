//! Giving back every lock that a session has, before a pool lends its connection again.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Untyped;
use diesel::{QueryResult, RunQueryDsl};

use super::owner::{Mark, Unmarked};
use crate::slot;

/// Gives back all advisory locks of the session, in one round trip, unless a pooler shares it with
/// another client, whose they may be.
pub(crate) fn give_back_all<C>(conn: &mut C) -> QueryResult<()>
where
    C: LoadConnection<Backend = Pg>,
{
    match slot::owner(conn) {
        Some(owner) => UnlockAll(owner).execute(conn),
        None => UnlockAll(Unmarked).execute(conn),
    }
    .map(drop)
}

/// Prepared, because it is sent at each check-out.
struct UnlockAll<M>(M);

impl<M: Mark> QueryFragment<Pg> for UnlockAll<M> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql("SELECT pg_catalog.pg_advisory_unlock_all() WHERE NOT (");
        for part in self.0.is_foreign() {
            out.push_sql(part);
        }
        out.push_sql(")");
        Ok(())
    }
}

impl<M: Mark> QueryId for UnlockAll<M> {
    type QueryId = Self;
    const HAS_STATIC_QUERY_ID: bool = true;
}

impl<M: Mark> Query for UnlockAll<M> {
    type SqlType = Untyped;
}

impl<M, C> RunQueryDsl<C> for UnlockAll<M> {}
