//! A server, and sessions on it that are looked at.

use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer};
use diesel_locks_harness::TempPostgres;

/// A server with tables that a role `app` may lock.
pub(crate) fn server() -> TempPostgres {
    let server = TempPostgres::start().unwrap();
    connect(&server, "postgres")
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE TABLE accounts (); CREATE TABLE invoices (); \
             GRANT ALL ON accounts, invoices TO app",
        )
        .unwrap();
    server
}

pub(crate) fn connect(server: &TempPostgres, role: &str) -> PgConnection {
    let url = server.url().replace("postgres@", &format!("{role}@"));
    PgConnection::establish(&url).unwrap()
}

/// A session that has a table locked, and others that wait for it.
pub(crate) struct Jam {
    pub(crate) holder: PgConnection,
    pub(crate) held_by: String,
    pub(crate) waited_by: Vec<String>,
    waiting: Vec<JoinHandle<QueryResult<()>>>,
}

impl Jam {
    pub(crate) fn new(server: &TempPostgres, table: &str, waiters: usize) -> Self {
        let mut holder = connect(server, "app");
        let held_by = pid(&mut holder).to_string();
        let lock = format!("BEGIN; LOCK TABLE {table}");
        holder.batch_execute(&lock).unwrap();
        let mut observer = connect(server, "postgres");
        let (mut waited_by, mut waiting) = (Vec::new(), Vec::new());
        for _ in 0..waiters {
            let mut waiter = connect(server, "app");
            let pid = pid(&mut waiter);
            let select = format!("SELECT FROM {table}");
            waiting.push(thread::spawn(move || waiter.batch_execute(&select)));
            soon(|| is_blocked(&mut observer, pid));
            waited_by.push(pid.to_string());
        }
        Self {
            holder,
            held_by,
            waited_by,
            waiting,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.waiting.iter().any(JoinHandle::is_finished)
    }

    /// Waits until all waiters have got what they wanted, as the holder is gone.
    pub(crate) fn ends(mut self) {
        for waiting in self.waiting {
            waiting.join().unwrap().unwrap();
        }
        self.holder.batch_execute("SELECT 1").unwrap_err();
    }
}

pub(crate) fn pid(conn: &mut PgConnection) -> i32 {
    sql::<Integer>("SELECT pg_backend_pid()")
        .get_result(conn)
        .unwrap()
}

fn is_blocked(conn: &mut PgConnection, pid: i32) -> bool {
    sql::<Bool>("SELECT cardinality(pg_blocking_pids(")
        .bind::<Integer, _>(pid)
        .sql(")) > 0")
        .get_result(conn)
        .unwrap()
}

/// Polls until it is so.
#[track_caller]
pub(crate) fn soon(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20));
        thread::sleep(Duration::from_millis(5));
    }
}
