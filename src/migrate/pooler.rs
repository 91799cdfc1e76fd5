//! A pooler in transaction mode, as far as one client can tell.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::Bool;
use diesel::{QueryResult, RunQueryDsl};

/// Whether the session has statements that PgBouncer has prepared. In transaction mode it gives each
/// a name of its own, so that any of its sessions may run it; in session mode it does not.
pub(super) fn is_in_between<C>(conn: &mut C) -> QueryResult<bool>
where
    C: LoadConnection<Backend = Pg>,
{
    Renamed.get_result(conn)
}

/// Is prepared itself, and so finds itself at least.
#[derive(QueryId)]
struct Renamed;

impl QueryFragment<Pg> for Renamed {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        out.push_sql(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_prepared_statements \
             WHERE pg_catalog.starts_with(name, 'PGBOUNCER_'))",
        );
        Ok(())
    }
}

impl Query for Renamed {
    type SqlType = Bool;
}

impl<C> RunQueryDsl<C> for Renamed {}
