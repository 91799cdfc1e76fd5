//! The connection on which the server is asked: what statements touch, and who waits for whom.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use diesel::QueryResult;
use diesel::RunQueryDsl;
use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::Text;

use crate::waits::{Observer, Stop};

/// All clones are one connection.
pub(super) struct Scout<C: SimpleConnection>(Arc<Mutex<Own<C>>>);

/// The connection, and what makes it what it was.
struct Own<C: SimpleConnection> {
    conn: C,
    reset: String,
}

impl<C: SimpleConnection> Drop for Own<C> {
    fn drop(&mut self) {
        // What sees its statements may be what panics.
        if !thread::panicking() {
            let _ = self.conn.batch_execute(&self.reset);
        }
    }
}

impl<C: LoadConnection<Backend = Pg>> Scout<C> {
    /// What it asks is not worth waiting for, nor compiling, where the schema is large.
    pub(super) fn new(mut conn: C) -> QueryResult<Self> {
        let set = diesel::select(sql::<(Text, Text, Text)>(
            "pg_catalog.format(\
             'SELECT pg_catalog.set_config(n, v, false) FROM (VALUES (%L, %L), (%L, %L)) AS own (n, v)', \
             'lock_timeout', pg_catalog.current_setting('lock_timeout'), \
             'jit', pg_catalog.current_setting('jit')), \
             pg_catalog.set_config('lock_timeout', '200ms', false), \
             pg_catalog.set_config('jit', 'off', false)",
        ));
        let (reset, ..): (String, String, String) = set.get_result(&mut conn)?;
        Ok(Self(Arc::new(Mutex::new(Own { conn, reset }))))
    }
}

impl<C: SimpleConnection> Scout<C> {
    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut C) -> T) -> T {
        let mut own = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        question(&mut own.conn)
    }
}

impl<C: SimpleConnection> Clone for Scout<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: SimpleConnection> SimpleConnection for Scout<C> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.ask(|conn| conn.batch_execute(query))
    }
}

impl<C: Observer + SimpleConnection> Observer for Scout<C> {
    fn backend_pid(&mut self) -> QueryResult<i32> {
        self.ask(Observer::backend_pid)
    }

    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>> {
        self.ask(|conn| conn.waits(waiters, all))
    }

    fn waits_beside(
        &mut self,
        busy: &[i32],
        all: &[i32],
        since: Duration,
    ) -> QueryResult<Vec<(i32, i32)>> {
        self.ask(|conn| conn.waits_beside(busy, all, since))
    }

    fn waited_lock(&mut self, waiter: i32) -> QueryResult<String> {
        self.ask(|conn| conn.waited_lock(waiter))
    }

    fn is_there(&mut self, pid: i32) -> QueryResult<bool> {
        self.ask(|conn| conn.is_there(pid))
    }

    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()> {
        self.ask(|conn| conn.stop(pid, stop))
    }
}
