//! Sessions that wait for each other, made on purpose.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Array, Integer};
use diesel_locks::{LockKey, SessionId, WaitGraph};
use diesel_locks_harness::TempPostgres;

use crate::support::{backend_pid, eventually, migrate};

/// A server of the test's own, as a graph is of all that a server has.
pub(super) fn server() -> TempPostgres {
    let server = TempPostgres::start().unwrap();
    migrate(&mut connect_to(&server));
    server
}

pub(super) fn connect_to(server: &TempPostgres) -> PgConnection {
    PgConnection::establish(server.url()).unwrap()
}

/// The number of a name, for SQL.
pub(super) fn number(name: &str) -> i64 {
    match LockKey::named(name) {
        LockKey::Single(number) => number,
        key => panic!("{key}"),
    }
}

pub(super) fn connect_as(server: &TempPostgres, role: &str) -> PgConnection {
    let url = server.url().replace("postgres@", &format!("{role}@"));
    PgConnection::establish(&url).unwrap()
}

/// A session on a thread of its own, which does one thing after another.
pub(super) struct Actor {
    pub(super) pid: i32,
    work: Option<Sender<String>>,
    begun: Cell<usize>,
    done: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Actor {
    pub(super) fn new(server: &TempPostgres, name: &str) -> Self {
        Self::of(server, "postgres", name)
    }

    pub(super) fn of(server: &TempPostgres, role: &str, name: &str) -> Self {
        Self::on(connect_as(server, role), name)
    }

    pub(super) fn on(mut conn: PgConnection, name: &str) -> Self {
        conn.batch_execute(&format!("SET application_name = '{name}'"))
            .unwrap();
        let pid = backend_pid(&mut conn);
        let (work, statements) = mpsc::channel::<String>();
        let done = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&done);
        let thread = thread::spawn(move || {
            for statement in statements {
                // One that is cancelled or ended in a test has failed on purpose.
                let _ = conn.batch_execute(&statement);
                count.fetch_add(1, Ordering::Release);
            }
        });
        Self {
            pid,
            work: Some(work),
            begun: Cell::new(0),
            done,
            thread: Some(thread),
        }
    }

    /// Begins something.
    pub(super) fn begins(&self, statement: &str) {
        self.begun.set(self.begun.get() + 1);
        let work = self.work.as_ref().unwrap();
        work.send(statement.to_owned()).unwrap();
    }

    /// Whether it has done all that it was told.
    pub(super) fn rests(&self) -> bool {
        self.done.load(Ordering::Acquire) == self.begun.get()
    }

    /// Does something that waits for nobody.
    pub(super) fn does(&self, statement: &str) {
        self.begins(statement);
        eventually(|| self.rests());
    }

    /// Begins something that has to wait.
    pub(super) fn waits(&self, observer: &mut PgConnection, statement: &str) {
        self.begins(statement);
        eventually(|| !blockers(observer, self.pid).is_empty());
    }
}

impl Drop for Actor {
    fn drop(&mut self) {
        drop(self.work.take());
        // After a failure it may wait for one that is dropped later.
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            thread.join().unwrap();
        }
    }
}

/// Ends all the sessions, so that none waits for another one that is dropped after it.
pub(super) fn end(server: &TempPostgres, actors: Vec<Actor>) {
    let mut conn = connect_to(server);
    let pids: Vec<i32> = actors.iter().map(|actor| actor.pid).collect();
    diesel::sql_query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = ANY ($1)",
    )
    .bind::<Array<Integer>, _>(pids)
    .execute(&mut conn)
    .unwrap();
    drop(actors);
}

/// What the server says itself, without this crate.
pub(super) fn blockers(observer: &mut PgConnection, pid: i32) -> BTreeSet<i32> {
    let blockers: Vec<i32> = diesel::select(
        sql::<Array<Integer>>("pg_catalog.pg_blocking_pids(")
            .bind::<Integer, _>(pid)
            .sql(")"),
    )
    .get_result(observer)
    .unwrap();
    blockers.into_iter().collect()
}

/// All pairs of a waiter and a blocker among these, where 0 stands for a prepared transaction.
pub(super) fn edges_by_server(observer: &mut PgConnection, pids: &[i32]) -> BTreeSet<(i32, i32)> {
    let edges = pids.iter().flat_map(|&pid| {
        let blockers = blockers(observer, pid);
        blockers.into_iter().map(move |blocker| (pid, blocker))
    });
    edges.collect()
}

/// The same of a graph.
pub(super) fn edges_by_graph(graph: &WaitGraph) -> BTreeSet<(i32, i32)> {
    let number = |id: SessionId| match id {
        SessionId::Pid(pid) => pid,
        _ => 0,
    };
    let edges = graph.edges();
    edges
        .map(|edge| (number(edge.waiter.id()), number(edge.blocker.id())))
        .collect()
}
