//! Who gets the lock.

use std::process::{Child, Command, Output, Stdio};

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::{LockKey, OwnedAdvisoryLockGuard, Wait, prelude::*};
use diesel_locks_harness::TestDatabase;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serial_test::parallel;

use crate::support::{diesel_locks, soon, stderr, stdout};

fn command(database: &TestDatabase, arguments: &[&str]) -> Command {
    let mut command = diesel_locks();
    command
        .args(["run", "--database-url", database.url()])
        .args(arguments)
        .args(["--", "echo", "run"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn run(database: &TestDatabase, arguments: &[&str]) -> Output {
    command(database, arguments).output().unwrap()
}

fn hold(
    database: &TestDatabase,
    lock: impl Into<diesel_locks::AdvisoryLock>,
) -> OwnedAdvisoryLockGuard<PgConnection> {
    OwnedAdvisoryLockGuard::connect(database.url(), lock, Wait::NoWait).unwrap()
}

fn is_waited_for(database: &TestDatabase) -> bool {
    let mut conn = PgConnection::establish(database.url()).unwrap();
    let waiting: i64 = diesel::dsl::sql::<BigInt>(
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
    )
    .get_result(&mut conn)
    .unwrap();
    waiting == 1
}

fn end(waiting: Child) -> Output {
    waiting.wait_with_output().unwrap()
}

#[test]
#[parallel]
fn a_lock_that_is_held_is_waited_for() {
    let database = TestDatabase::new().unwrap();
    let holder = hold(&database, "lock");
    let waiting = command(&database, &["lock"]).spawn().unwrap();
    soon("it waits", || is_waited_for(&database));
    holder.release().unwrap();
    let output = end(waiting);
    assert_eq!((stdout(&output), stderr(&output)), ("run\n", ""));
}

#[test]
#[parallel]
fn who_does_not_want_to_wait_is_told_who_holds_it() {
    let database = TestDatabase::new().unwrap();
    let mut holder = hold(&database, "lock");
    diesel::sql_query("SET application_name = 'billing'")
        .execute(&mut *holder)
        .unwrap();
    for wait in [&["--nowait"][..], &["--timeout", "50ms"]] {
        let output = run(&database, &[wait, &["lock"]].concat());
        assert_eq!(output.status.code(), Some(75));
        assert_eq!(stdout(&output), "");
        let told = stderr(&output);
        assert!(told.contains("advisory lock \"lock\" "), "{told}");
        assert!(told.contains("held by pid "), "{told}");
        assert!(told.contains("(billing, as "), "{told}");

        let quiet = run(&database, &[wait, &["lock", "-q", "-E", "0"]].concat());
        assert_eq!(quiet.status.code(), Some(0));
        assert_eq!((stdout(&quiet), stderr(&quiet)), ("", ""));
    }
    holder.release().unwrap();
    let output = run(&database, &["--timeout", "50ms", "lock"]);
    assert_eq!(stdout(&output), "run\n");
}

#[test]
#[parallel]
fn who_waits_says_for_whom_if_asked() {
    let database = TestDatabase::new().unwrap();
    let holder = hold(&database, "lock");
    let waiting = command(&database, &["--wait-message", "lock"]);
    let waiting = { waiting }.spawn().unwrap();
    soon("it waits", || is_waited_for(&database));
    holder.release().unwrap();
    let output = end(waiting);
    assert_eq!(stdout(&output), "run\n");
    let told = stderr(&output);
    assert!(told.starts_with("diesel_locks: waiting for advisory lock \"lock\"\n"));
    assert!(told.contains("diesel_locks: held by pid "), "{told}");
}

#[test]
#[parallel]
fn shared_locks_go_together_and_beside_no_exclusive_one() {
    let database = TestDatabase::new().unwrap();
    let shared = hold(&database, diesel_locks::AdvisoryLock::shared("lock"));
    let together = run(&database, &["--nowait", "--shared", "lock"]);
    assert_eq!(stdout(&together), "run\n");
    let alone = run(&database, &["--nowait", "lock"]);
    assert_eq!(alone.status.code(), Some(75));
    shared.release().unwrap();
}

#[test]
#[parallel]
fn keys_are_those_of_other_ecosystems_too() {
    let database = TestDatabase::new().unwrap();
    let mut conn = PgConnection::establish(database.url()).unwrap();
    for (text, key) in [
        ("sqlx:lock", LockKey::sqlx("lock")),
        ("django_pglock:lock", LockKey::django_pglock("lock")),
        ("ruby:lock", LockKey::ruby_with_advisory_lock("lock")),
        ("-42", LockKey::Single(-42)),
        ("7,-42", LockKey::Pair(7, -42)),
    ] {
        let guard = conn.advisory_lock_nowait(key).unwrap();
        let refused = run(&database, &["--nowait", "--key", text]);
        assert_eq!(refused.status.code(), Some(75), "{text}");
        guard.release().unwrap();
        let output = run(&database, &["--nowait", "--key", text]);
        assert_eq!(stdout(&output), "run\n", "{text}");
    }
}

#[test]
#[parallel]
fn the_lock_is_free_when_the_command_has_ended_whatever_it_has_left_running() {
    let database = TestDatabase::new().unwrap();
    let mut command = diesel_locks();
    command.args(["run", "lock", "--database-url", database.url(), "--"]);
    let output = command
        .args(["sh", "-c", "sleep 300 >/dev/null 2>&1 & echo $!"])
        .output()
        .unwrap();
    let left: i32 = stdout(&output).trim().parse().unwrap();
    hold(&database, "lock").release().unwrap();
    // It is there still.
    kill(Pid::from_raw(left), Signal::SIGKILL).unwrap();
}
