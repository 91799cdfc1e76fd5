//! A look at a server with 10,000 advisory locks, and 198 sessions of which 100 wait.
//!
//! `cargo bench --bench observe`

use std::iter;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{WaitGraph, prelude::*};
use diesel_locks_harness::TempPostgres;

const SESSIONS: usize = 198;
const WAITERS: usize = 100;
const LOCKS: usize = 10_000;
const ROUNDS: usize = 51;

fn main() {
    let server = TempPostgres::start().unwrap();
    let connect = || PgConnection::establish(server.url()).unwrap();
    let mut observer = connect();
    let holders: Vec<_> = (0..SESSIONS - WAITERS)
        .map(|nth| {
            let mut conn = connect();
            let (first, step) = (nth, SESSIONS - WAITERS);
            conn.batch_execute(&format!(
                "SELECT pg_advisory_lock(n) FROM generate_series({first}, {LOCKS} - 1, {step}) AS n"
            ))
            .unwrap();
            conn
        })
        .collect();
    // Ten waiters for each of ten locks, whom the end of the server lets go.
    for nth in 0..WAITERS {
        let mut conn = connect();
        let lock = nth % 10;
        thread::spawn(move || conn.batch_execute(&format!("SELECT pg_advisory_lock({lock})")));
    }
    while observer.lock_waits().unwrap().len() < WAITERS {}

    let locks = observer.locks().unwrap();
    let advisory = locks
        .iter()
        .filter(|lock| lock.object.to_string().starts_with("advisory"));
    println!("{} advisory locks of {SESSIONS} sessions", advisory.count());
    measure("locks", || drop(observer.locks().unwrap()));
    measure("lock_waits", || drop(observer.lock_waits().unwrap()));
    measure("WaitGraph::load", || {
        drop(WaitGraph::load(&mut observer).unwrap())
    });
    let graph = WaitGraph::load(&mut observer).unwrap();
    println!(
        "{} waits, {} edges",
        graph.waits().len(),
        graph.edges().count()
    );
    measure("its tree", || drop(graph.to_string()));
    drop(holders);
}

fn measure(what: &str, mut look: impl FnMut()) {
    let mut times: Vec<Duration> = iter::repeat_with(|| {
        let begun = Instant::now();
        look();
        begun.elapsed()
    })
    .take(ROUNDS)
    .collect();
    times.sort_unstable();
    let (median, slowest) = (times[ROUNDS / 2], times[ROUNDS - 1]);
    println!("  {what:16} median {median:9.1?}, slowest of {ROUNDS} {slowest:9.1?}");
}
