//! Taking and releasing an advisory lock, against bare libpq and against what people write today.
//!
//! `cargo bench --bench locks` needs a C compiler and libpq's headers (Debian: `libpq-dev`) for
//! the bare libpq, which is `libpq.c`. The rounds take turns, so that a machine whose speed drifts
//! is as fast for one as for the other. On one processor (`taskset -c 0 cargo bench --bench locks`)
//! the figures are without the time that it takes to wake up another one.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks_harness::TestDatabase;

const ROUNDS: usize = 21;
const PAIRS: u32 = 4_000;

#[diesel::declare_sql_function]
extern "SQL" {
    /// Diesel's own way to call it.
    #[sql_name = "pg_catalog.pg_try_advisory_lock"]
    fn pg_try_advisory_lock(key: BigInt) -> Bool;
    /// Diesel's own way to call it.
    #[sql_name = "pg_catalog.pg_advisory_unlock"]
    fn pg_advisory_unlock(key: BigInt) -> Bool;
}

fn main() {
    let database = TestDatabase::new().unwrap();
    let conn = &mut PgConnection::establish(database.url()).unwrap();
    let libpq = compile_libpq();

    let mut nanoseconds = [const { Vec::new() }; 5];
    for _ in 0..ROUNDS {
        let [bare, guard, all, typed, raw] = &mut nanoseconds;
        bare.push(run_libpq(&libpq, database.url()));
        guard.push(time(|| conn.advisory_lock(42).unwrap().release().unwrap()));
        all.push(time(|| {
            conn.advisory_lock_all(0..10).unwrap().release().unwrap()
        }));
        typed.push(time(|| {
            assert!(
                diesel::select(pg_try_advisory_lock(42))
                    .get_result::<bool>(conn)
                    .unwrap()
            );
            assert!(
                diesel::select(pg_advisory_unlock(42))
                    .get_result::<bool>(conn)
                    .unwrap()
            );
        }));
        raw.push(time(|| {
            for statement in [
                "SELECT pg_catalog.pg_advisory_lock($1)",
                "SELECT pg_catalog.pg_advisory_unlock($1)",
            ] {
                let statement = diesel::sql_query(statement).bind::<BigInt, _>(42);
                statement.execute(conn).unwrap();
            }
        }));
    }
    let [bare, guard, all, typed, raw] = nanoseconds.map(median);
    println!("lock and release, median of {ROUNDS} rounds of {PAIRS}:");
    for (what, nanoseconds) in [
        ("bare libpq, prepared", bare),
        ("this crate's guard", guard),
        ("this crate, ten locks at once", all),
        ("Diesel's typed functions", typed),
        ("sql_query", raw),
    ] {
        let microseconds = nanoseconds / 1_000.0;
        println!(
            "  {what:30} {microseconds:6.1} µs  {:5.2} × libpq",
            nanoseconds / bare
        );
    }
    println!(
        "  sql_query takes {:.2} times as long as the guard",
        raw / guard
    );
}

/// The nanoseconds that one call takes.
fn time(mut pair: impl FnMut()) -> f64 {
    let begun = Instant::now();
    (0..PAIRS).for_each(|_| pair());
    begun.elapsed().as_nanos() as f64 / f64::from(PAIRS)
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

fn run_libpq(program: &Path, url: &str) -> f64 {
    let output = Command::new(program)
        .args([url, &PAIRS.to_string()])
        .output()
        .unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    printed.trim().parse().unwrap()
}
