//! The connection for the setup, the invariants and the teardown.

use std::thread;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;
use diesel::{QueryResult, RunQueryDsl};

use crate::sessions::LET_GO;

pub(super) struct Control<C>
where
    C: LoadConnection<Backend = Pg>,
{
    pub(super) conn: C,
    /// Makes it what it was.
    reset: String,
    /// Has it compile nothing, and wait for a lock so long at most, if it had no limit.
    patience: String,
}

impl<C: LoadConnection<Backend = Pg>> Control<C> {
    /// Takes note of how the connection is. Once it is [`reset`](Self::reset), it waits for a lock
    /// so long at most, if it had no limit, and compiles no query: what is read at the end of each
    /// schedule would take ten times as long.
    pub(super) fn new(mut conn: C, limit: Duration) -> QueryResult<Self> {
        // A limit of nothing is none.
        let limit = limit.as_millis().clamp(1, i32::MAX as u128);
        let statements = sql::<Text>(
            "SELECT pg_catalog.format('SELECT pg_catalog.set_config(%L, %L, false)', name, value) \
             FROM (SELECT s.name, s.setting FROM ROWS FROM (pg_catalog.pg_show_all_settings()) AS s \
             WHERE s.source OPERATOR(pg_catalog.=) 'session' \
             UNION ALL SELECT 'role', pg_catalog.current_setting('role')) AS own (name, value) \
             UNION ALL SELECT 'DISCARD TEMP' \
             WHERE pg_catalog.pg_my_temp_schema() OPERATOR(pg_catalog.=) 0::pg_catalog.oid",
        );
        let statements: Vec<String> = statements.load(&mut conn)?;
        // What RESET makes of the role may not set what was set before.
        let reset = format!(
            "{LET_GO}; SET ROLE NONE; RESET ALL; {}",
            statements.join("; ")
        );
        let patience = format!(
            "SELECT pg_catalog.set_config('jit', 'off', false); \
             SELECT pg_catalog.set_config('lock_timeout', '{limit}', false) \
             WHERE pg_catalog.current_setting('lock_timeout') OPERATOR(pg_catalog.=) '0'"
        );
        Ok(Self {
            conn,
            reset,
            patience,
        })
    }

    /// Makes it what it was when it was opened.
    pub(super) fn reset(&mut self) {
        // On a connection that is lost there is nothing to reset; what follows says so.
        let reset = format!("{}; {}", self.reset, self.patience);
        if self.conn.batch_execute(&reset).is_err() {
            // Nothing of it was done. It may have been somebody who was allowed more.
            let _ = self.conn.batch_execute(&self.patience);
        }
    }

    /// What it has left open or locked is in nobody's way.
    pub(super) fn let_go(&mut self) {
        let _ = self.conn.batch_execute(LET_GO);
    }
}

impl<C: LoadConnection<Backend = Pg>> Drop for Control<C> {
    fn drop(&mut self) {
        // What sees its statements may be what panics.
        if !thread::panicking() {
            let _ = self.conn.batch_execute(&self.reset);
        }
    }
}
