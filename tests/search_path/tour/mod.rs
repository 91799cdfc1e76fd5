//! Every method of the crate that sends something, where it succeeds and where it fails.
//!
//! What the tour itself sends is qualified, or looks nothing up.

mod advisory;
mod guards;
mod harness;
mod migrations;
mod observe;
mod tables;

use std::thread;
use std::time::Duration;

use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer};
use diesel_locks_harness::TempPostgres;

use crate::support::{backend_pid, eventually, is_blocked, migrate};

/// What the optional migration does, which is no version of the migrations that the tour runs.
const LOCK_NAMES: &str =
    include_str!("../../../src/lock_names/2026-11-25-052500_create_lock_names/up.sql");

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

/// A server whose database has what the tour needs.
pub(crate) fn server() -> TempPostgres {
    let server = TempPostgres::start().unwrap();
    let conn = &mut PgConnection::establish(server.url()).unwrap();
    migrate(conn);
    conn.batch_execute(LOCK_NAMES).unwrap();
    conn.batch_execute("CREATE ROLE nobody_special").unwrap();
    conn.batch_execute(
        "BEGIN; SELECT pg_catalog.pg_advisory_xact_lock_shared(7, -7); \
         PREPARE TRANSACTION 'prepared'",
    )
    .unwrap();
    server
}

/// What is done to every connection before it is used.
pub(crate) type Prepare = fn(&mut PgConnection);

pub(crate) struct Tour<'u> {
    pub(crate) url: &'u str,
    pub(crate) prepare: Prepare,
}

impl Tour<'_> {
    pub(crate) fn go(&self) {
        advisory::go(self);
        guards::go(self);
        tables::go(self);
        observe::go(self);
        migrations::go(self);
        harness::go(self);
    }

    fn try_connect(&self) -> ConnectionResult<PgConnection> {
        let mut conn = PgConnection::establish(self.url)?;
        (self.prepare)(&mut conn);
        Ok(conn)
    }

    fn connect(&self) -> PgConnection {
        self.try_connect().unwrap()
    }

    /// Does something that has to wait, and `then` when it does.
    fn when_waiting<T: Send>(
        &self,
        conn: &mut PgConnection,
        wait: impl FnOnce(&mut PgConnection) -> T + Send,
        then: impl FnOnce(i32),
    ) -> T {
        let pid = backend_pid(conn);
        let mut observer = self.connect();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| wait(conn));
            eventually(|| is_blocked(&mut observer, pid));
            then(pid);
            waiting.join().unwrap()
        })
    }

    /// Has another session call a function with the number of a session.
    fn signal(&self, function: &str, pid: i32) {
        let call = sql::<Bool>(&format!("pg_catalog.{function}("));
        let call = call.bind::<Integer, _>(pid).sql(")");
        let done: bool = diesel::select(call)
            .get_result(&mut self.connect())
            .unwrap();
        assert!(done);
    }
}

/// Aborts the transaction.
fn fail<C: LoadConnection<Backend = Pg>>(conn: &mut C) {
    conn.batch_execute("SELECT FROM nowhere").unwrap_err();
}

/// The session's own end.
fn kill<C: SimpleConnection>(conn: &mut C) {
    conn.batch_execute("SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())")
        .unwrap_err();
}

/// Asserts that a result is an error of this kind.
macro_rules! fails {
    ($result:expr, $kind:ident) => {
        match $result {
            Err(diesel_locks::LockError::$kind { .. }) => {}
            other => panic!("{}: {:?}", stringify!($result), other.map(drop)),
        }
    };
}
use fails;
