//! What `top` costs.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Double, Nullable};
use diesel_locks::prelude::*;
use diesel_locks_harness::{TempPostgres, TestDatabase};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::{parallel, serial};

use crate::support::{diesel_locks, soon};
use crate::terminal::Terminal;

const LOCKS: usize = 10_000;
const HOLDERS: usize = 98;
const WAITERS: usize = 100;

#[test]
#[serial]
#[cfg(target_os = "linux")]
fn top_takes_less_than_a_twentieth_of_a_core_for_10_000_locks_and_200_sessions() {
    let server = TempPostgres::start().unwrap();
    let connect = || PgConnection::establish(server.url()).unwrap();
    let mut observer = connect();
    let holders: Vec<_> = (0..HOLDERS)
        .map(|nth| {
            let mut conn = connect();
            conn.batch_execute(&format!(
                "SELECT pg_advisory_lock(n) FROM generate_series({nth}, {LOCKS} - 1, {HOLDERS}) AS n"
            ))
            .unwrap();
            conn
        })
        .collect();
    // They are let go by the end of the server.
    for nth in 0..WAITERS {
        let mut conn = connect();
        thread::spawn(move || {
            conn.batch_execute(&format!("SELECT pg_advisory_lock({})", nth % 10))
        });
    }
    soon("all wait", || {
        observer.lock_waits().unwrap().len() == WAITERS
    });

    let arguments = ["top", "--database-url", server.url()];
    let mut top = Terminal::run(diesel_locks().args(arguments));
    let mut last_look = || -> Option<f64> {
        sql::<Nullable<Double>>(
            "SELECT extract(epoch FROM max(query_start))::float8 FROM pg_stat_activity \
             WHERE application_name = 'diesel_locks'",
        )
        .get_result(&mut observer)
        .unwrap()
    };
    // Without optimization the longer list takes three times as much.
    let unoptimized = if cfg!(debug_assertions) { 4.0 } else { 1.0 };
    for (view, key, limit) in [("waits", "", 0.05), ("locks", "\t", 0.05 * unoptimized)] {
        top.press(key);
        let (begun, before) = (Instant::now(), cpu_time(top.process.id()));
        let mut looks = BTreeSet::new();
        while looks.len() < 8 {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "{view}: {looks:?}"
            );
            looks.extend(last_look().map(f64::to_bits));
            thread::sleep(Duration::from_millis(50));
        }
        let used = cpu_time(top.process.id()) - before;
        let share = used.as_secs_f64() / begun.elapsed().as_secs_f64();
        println!("{view}: {:.1} % of a core", share * 100.0);
        assert!(share < limit, "{view}: {share}");
    }
    let count: i64 = sql::<BigInt>("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'")
        .get_result(&mut observer)
        .unwrap();
    assert_eq!(count as usize, LOCKS + WAITERS);
    top.press("q");
    assert!(top.ends().success());
    drop(holders);
}

/// What all threads of a process have used.
fn cpu_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    // The name, which may have spaces, ends with a parenthesis.
    let fields: Vec<_> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .collect();
    let ticks: u64 = fields[11..=12]
        .iter()
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    let per_second = Command::new("getconf").arg("CLK_TCK").output().unwrap();
    let per_second: u64 = String::from_utf8(per_second.stdout)
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    Duration::from_millis(ticks * 1_000 / per_second)
}

#[test]
#[parallel]
fn whatever_ends_top_it_gives_the_terminal_back() {
    let database = TestDatabase::new().unwrap();
    for signal in [
        Signal::SIGHUP,
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
    ] {
        let mut command = diesel_locks();
        let mut top = Terminal::run(command.args(["top", "--database-url", database.url()]));
        top.shows("every 1 s");
        let pid = i32::try_from(top.process.id()).unwrap();
        kill(Pid::from_raw(pid), signal).unwrap();
        assert!(top.ends().success(), "{signal}");
        // It leaves the screen that it has taken.
        top.shows("\u{1b}[?1049l");
    }
}
