//! What looks, from a second connection, at a session that may wait. It has threads.

mod on_wait;
mod prioritized;

use std::time::SystemTime;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer, Nullable, Timestamptz};

#[cfg(feature = "r2d2")]
pub(crate) use on_wait::while_told;
pub use on_wait::{OnWaitExt, Waiting};
pub use prioritized::Prioritized;

use super::session::{time, timestamp};

/// A session: its pid is used again, and so it has its beginning too.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Watched {
    pid: i32,
    begun: SystemTime,
}

impl Watched {
    /// The connection's own. One round trip.
    pub(crate) fn of<C>(conn: &mut C) -> QueryResult<Self>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let (pid, begun) = sql::<(Integer, Timestamptz)>(
            "SELECT pid, backend_start \
             FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid())",
        )
        .get_result(conn)?;
        Ok(Self {
            pid,
            begun: time(begun),
        })
    }

    /// Whether it waits for a lock; `None` if it is gone. This is the cheapest question there is.
    fn waits<C>(self, conn: &mut C) -> QueryResult<Option<bool>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        sql::<Bool>(
            "SELECT pg_catalog.cardinality(pg_catalog.pg_blocking_pids(pid)) \
             OPERATOR(pg_catalog.>) 0 FROM pg_catalog.pg_stat_get_activity(",
        )
        .bind::<Integer, _>(self.pid)
        // Where that may not be seen, the pid has to do.
        .sql(") WHERE coalesce(backend_start OPERATOR(pg_catalog.=) ")
        .bind::<Nullable<Timestamptz>, _>(timestamp(self.begun))
        .sql(", true)")
        .get_result(conn)
        .optional()
    }
}
