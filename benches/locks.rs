//! Taking and releasing an advisory lock, against bare libpq and against what people write today.
//!
//! `cargo bench --bench locks` needs a C compiler and libpq's headers (Debian: `libpq-dev`) for
//! the bare libpq, which is `libpq.c`. The rounds take turns, so that a machine whose speed drifts
//! is as fast for one as for the other. On one processor (`taskset -c 0 cargo bench --bench locks`)
//! the figures are without the time that it takes to wake up another one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks::{LockAwareManager, LockError};
use diesel_locks_harness::TestDatabase;

const ROUNDS: usize = 21;

#[diesel::declare_sql_function]
extern "SQL" {
    /// Diesel's own way to call it.
    #[sql_name = "pg_catalog.pg_try_advisory_lock"]
    fn pg_try_advisory_lock(key: BigInt) -> Bool;
    /// Diesel's own way to call it.
    #[sql_name = "pg_catalog.pg_advisory_unlock"]
    fn pg_advisory_unlock(key: BigInt) -> Bool;
}

/// What is compared: does it so often, and returns the nanoseconds of one time.
type Contender<'c> = (&'c str, Box<dyn FnMut(u32) -> f64 + 'c>);

fn main() {
    let database = TestDatabase::new().unwrap();
    let url = database.url();
    let connect = || PgConnection::establish(url).unwrap();
    let libpq = compile_libpq();

    let [mut guard, mut timeout, mut typed, mut raw] = [(); 4].map(|()| connect());
    compare(
        "lock and release",
        4_000,
        vec![
            ("bare libpq, prepared", by_libpq(&libpq, url, 1)),
            (
                "this crate's guard",
                by_calls(move || guard.advisory_lock(42).unwrap().release().unwrap()),
            ),
            (
                "the same with a timeout",
                by_calls(move || drop(timeout.advisory_lock_timeout(42, MINUTE).unwrap())),
            ),
            (
                "Diesel's typed functions",
                by_calls(move || {
                    let locked =
                        diesel::select(pg_try_advisory_lock(42)).get_result::<bool>(&mut typed);
                    assert!(locked.unwrap());
                    let unlocked =
                        diesel::select(pg_advisory_unlock(42)).get_result::<bool>(&mut typed);
                    assert!(unlocked.unwrap());
                }),
            ),
            (
                "sql_query",
                by_calls(move || {
                    for statement in [
                        "SELECT pg_catalog.pg_advisory_lock($1)",
                        "SELECT pg_catalog.pg_advisory_unlock($1)",
                    ] {
                        let statement = diesel::sql_query(statement).bind::<BigInt, _>(42);
                        statement.execute(&mut raw).unwrap();
                    }
                }),
            ),
        ],
    );
    for (locks, times) in [(10, 1_000), (100, 300), (500, 60), (1_000, 30)] {
        let [mut all, mut timeout] = [(); 2].map(|()| connect());
        compare(
            &format!("{locks} locks at once, and release"),
            times,
            vec![
                ("bare libpq, unnest", by_libpq(&libpq, url, locks)),
                (
                    "this crate's set",
                    by_calls(move || drop(all.advisory_lock_all(1..=locks).unwrap())),
                ),
                (
                    "the same with a timeout",
                    by_calls(move || {
                        drop(
                            timeout
                                .advisory_lock_all_timeout(1..=locks, MINUTE)
                                .unwrap(),
                        );
                    }),
                ),
            ],
        );
    }
    let [mut empty, mut locked, mut timeout] = [(); 3].map(|()| connect());
    let work = |_: &mut PgConnection| Ok::<_, LockError>(());
    compare(
        "a transaction around nothing",
        2_000,
        vec![
            (
                "Diesel's transaction",
                by_calls(move || empty.transaction(work).unwrap()),
            ),
            (
                "with an advisory lock",
                by_calls(move || locked.transaction_with_advisory_lock(42, work).unwrap()),
            ),
            (
                "the same with a timeout",
                by_calls(move || {
                    let done = timeout.transaction_with_advisory_lock_timeout(42, MINUTE, work);
                    done.unwrap();
                }),
            ),
        ],
    );
    let manager = || ConnectionManager::<PgConnection>::new(url);
    let usual = Pool::builder().max_size(1).build(manager()).unwrap();
    let aware = LockAwareManager::new(manager());
    let aware = Pool::builder().max_size(1).build(aware).unwrap();
    compare(
        "a connection out of a pool and back",
        4_000,
        vec![
            (
                "Diesel's manager",
                by_calls(move || drop(usual.get().unwrap())),
            ),
            (
                "LockAwareManager",
                by_calls(move || drop(aware.get().unwrap())),
            ),
        ],
    );
}

const MINUTE: Duration = Duration::from_secs(60);

/// Lets the contenders take turns, and prints the median of each beside the first one's.
fn compare(what: &str, times: u32, mut contenders: Vec<Contender<'_>>) {
    println!("{what}, median of {ROUNDS} rounds of {times}:");
    let mut samples = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((_, run), samples) in contenders.iter_mut().zip(&mut samples) {
            samples.push(run(times));
        }
    }
    let medians: Vec<f64> = samples.into_iter().map(median).collect();
    for ((name, _), median) in contenders.iter().zip(&medians) {
        let (microseconds, ratio) = (median / 1_000.0, median / medians[0]);
        println!("  {name:26} {microseconds:9.1} µs  {ratio:5.2}");
    }
}

fn by_calls<'c>(mut call: impl FnMut() + 'c) -> Box<dyn FnMut(u32) -> f64 + 'c> {
    Box::new(move |times| {
        let begun = Instant::now();
        (0..times).for_each(|_| call());
        begun.elapsed().as_nanos() as f64 / f64::from(times)
    })
}

fn by_libpq<'c>(program: &'c Path, url: &'c str, locks: i64) -> Box<dyn FnMut(u32) -> f64 + 'c> {
    Box::new(move |times| {
        let output = Command::new(program)
            .args([url, &times.to_string(), &locks.to_string()])
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        printed.trim().parse().unwrap()
    })
}

fn median(mut samples: Vec<f64>) -> f64 {
    samples.sort_by(f64::total_cmp);
    samples[samples.len() / 2]
}

fn compile_libpq() -> PathBuf {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libpq");
    let headers = Command::new("pg_config")
        .arg("--includedir")
        .output()
        .unwrap();
    let status = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/libpq.c"))
        .arg(format!(
            "-I{}",
            String::from_utf8(headers.stdout).unwrap().trim()
        ))
        .arg("-lpq")
        .status()
        .unwrap();
    assert!(status.success(), "libpq's headers are missing");
    program
}
