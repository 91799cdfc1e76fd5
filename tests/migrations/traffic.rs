//! A migration of a table that others read and write without pause.

use std::env;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{MigrationEvent, MigrationLock};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::MigrationHarness;

use crate::fixture::All;
use crate::support::{backend_pid, connect, eventually, is_blocked};

/// How long the long transaction lasts at least, for whoever measures.
fn length() -> Duration {
    let seconds = env::var("DIESEL_LOCKS_LONG_TRANSACTION");
    Duration::from_secs(seconds.map_or(0, |seconds| seconds.parse().unwrap()))
}

/// One of those that read and write.
#[derive(Default)]
struct Worker {
    statements: AtomicUsize,
    /// Of the slowest one.
    microseconds: AtomicU64,
}

impl Worker {
    fn work(&self, conn: &mut PgConnection, id: usize, is_over: &AtomicBool) {
        while !is_over.load(Ordering::Relaxed) {
            for sql in [
                format!("SELECT balance FROM accounts WHERE id = {id}"),
                format!("UPDATE accounts SET balance = balance + 1 WHERE id = {id}"),
            ] {
                let begun = Instant::now();
                conn.batch_execute(&sql).unwrap();
                let took = u64::try_from(begun.elapsed().as_micros()).unwrap();
                self.microseconds.fetch_max(took, Ordering::Relaxed);
                self.statements.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// Runs `migrate` beside four that read and write, and one transaction that stays open until
/// `is_enough` of how many statements each of the four has run, and their sessions.
fn beside_traffic(
    migrate: impl FnOnce(&mut PgConnection, &All) + Send,
    mut is_enough: impl FnMut(&[usize], &[i32], &mut PgConnection) -> bool,
) -> Duration {
    let database = TestDatabase::new().unwrap();
    let mut long = connect(&database);
    long.batch_execute(
        "CREATE TABLE accounts (id int PRIMARY KEY, balance int NOT NULL); \
         INSERT INTO accounts VALUES (0, 0), (1, 0), (2, 0), (3, 0)",
    )
    .unwrap();
    long.batch_execute("BEGIN; SELECT * FROM accounts").unwrap();
    let is_over = AtomicBool::new(false);
    let workers: [Worker; 4] = Default::default();
    let mut conns: Vec<_> = workers.iter().map(|_| connect(&database)).collect();
    let pids: Vec<i32> = conns.iter_mut().map(backend_pid).collect();
    thread::scope(|scope| {
        for (id, (worker, mut conn)) in workers.iter().zip(conns).enumerate() {
            let is_over = &is_over;
            scope.spawn(move || worker.work(&mut conn, id, is_over));
        }
        let mut conn = connect(&database);
        let migration = scope.spawn(move || {
            let all = All::of([("1", "ALTER TABLE accounts ADD COLUMN email text")]);
            migrate(&mut conn, &all);
        });
        let begun = Instant::now();
        let observer = &mut connect(&database);
        let statements = || {
            workers
                .each_ref()
                .map(|it| it.statements.load(Ordering::Relaxed))
        };
        eventually(|| {
            // It would take a processor from those that it looks at.
            thread::sleep(Duration::from_millis(5));
            begun.elapsed() >= length() && is_enough(&statements(), &pids, observer)
        });
        long.batch_execute("COMMIT").unwrap();
        migration.join().unwrap();
        is_over.store(true, Ordering::Relaxed);
    });
    let slowest = workers
        .iter()
        .map(|it| it.microseconds.load(Ordering::Relaxed))
        .max();
    Duration::from_micros(slowest.unwrap())
}

#[test]
fn traffic_goes_on_while_a_migration_waits_briefly_and_often() {
    let refused = AtomicUsize::new(0);
    let mut before = None;
    let slowest = beside_traffic(
        |conn, migrations| {
            let lock = MigrationLock::new()
                .lock_timeout(Duration::from_millis(50))
                .on_progress(|event| {
                    if let MigrationEvent::Refused { .. } = event {
                        refused.fetch_add(1, Ordering::Relaxed);
                    }
                });
            lock.run_pending(conn, migrations).unwrap();
        },
        |statements, _, _| {
            if refused.load(Ordering::Relaxed) == 0 {
                return false;
            }
            let before = before.get_or_insert_with(|| statements.to_vec());
            refused.load(Ordering::Relaxed) >= 3
                && statements
                    .iter()
                    .zip(before)
                    .all(|(now, before)| *now >= *before + 20)
        },
    );
    eprintln!("with a lock_timeout, the slowest statement took {slowest:?}");
}

#[test]
fn with_diesels_own_run_all_traffic_stops_behind_the_migration() {
    let slowest = beside_traffic(
        |conn, migrations| drop(conn.run_pending_migrations(migrations).unwrap()),
        |_, pids, observer| pids.iter().all(|&pid| is_blocked(observer, pid)),
    );
    eprintln!("with Diesel's own run, the slowest statement took {slowest:?}");
}
