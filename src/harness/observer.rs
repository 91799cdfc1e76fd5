use std::any::TypeId;

use diesel::connection::Connection;
use diesel::dsl::sql;
use diesel::expression::SqlLiteral;
use diesel::pg::Pg;
use diesel::query_dsl::methods::LoadQuery;
use diesel::sql_types::Integer;
use diesel::{QueryResult, RunQueryDsl};

/// A connection that the harness can use: every synchronous connection that Diesel has.
///
/// This includes `PgConnection`, `SqliteConnection`, `MysqlConnection`, and r2d2's
/// `PooledConnection` around any of them. All of them have it already.
pub trait HarnessConnection: Connection<Backend: 'static> + 'static {
    /// Loads one column of integers.
    #[doc(hidden)]
    fn integers(&mut self, query: &str) -> QueryResult<Vec<i32>>;
}

impl<C> HarnessConnection for C
where
    C: Connection<Backend: 'static> + 'static,
    for<'query> SqlLiteral<Integer>: LoadQuery<'query, C, i32>,
{
    fn integers(&mut self, query: &str) -> QueryResult<Vec<i32>> {
        sql::<Integer>(query).load(self)
    }
}

/// The process id of the server session, which only PostgreSQL can say: `None` elsewhere.
pub(super) fn backend_pid<C: HarnessConnection>(conn: &mut C) -> QueryResult<Option<i32>> {
    if TypeId::of::<C::Backend>() != TypeId::of::<Pg>() {
        return Ok(None);
    }
    Ok(conn.integers("SELECT pg_catalog.pg_backend_pid()")?.pop())
}

/// A connection beside those that are observed.
pub(super) struct Observer<C>(C);

impl<C: HarnessConnection> Observer<C> {
    pub(super) fn new(conn: C) -> Self {
        Self(conn)
    }

    /// Which of `pids` wait for a lock that one of `pids` holds, or will be granted first.
    pub(super) fn waiting(&mut self, pids: &[i32]) -> QueryResult<Vec<i32>> {
        let pids = array(pids);
        self.0.integers(&format!(
            "SELECT pid FROM pg_catalog.unnest({pids}) AS pid \
             WHERE pg_catalog.pg_blocking_pids(pid) OPERATOR(pg_catalog.&&) {pids}"
        ))
    }

    /// Ends the sessions, whatever they do.
    pub(super) fn terminate(&mut self, pids: &[i32]) -> QueryResult<()> {
        let pids = array(pids);
        self.0
            .integers(&format!(
                "SELECT pg_catalog.pg_terminate_backend(pid)::integer \
                 FROM pg_catalog.unnest({pids}) AS pid"
            ))
            .map(drop)
    }
}

fn array(pids: &[i32]) -> String {
    let pids: Vec<_> = pids.iter().map(i32::to_string).collect();
    format!("ARRAY[{}]::integer[]", pids.join(", "))
}
