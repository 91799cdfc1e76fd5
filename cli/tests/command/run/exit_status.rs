//! How it ends.

use std::process::Output;

use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::{diesel_locks, stderr, stdout};

fn run(database: &TestDatabase, command: &[&str]) -> Output {
    let mut run = diesel_locks();
    run.args(["run", "lock", "--database-url", database.url(), "--"]);
    run.args(command).output().unwrap()
}

#[test]
#[parallel]
fn the_status_is_that_of_the_command() {
    let database = TestDatabase::new().unwrap();
    for (script, status) in [("true", 0), ("exit 7", 7), ("exit 255", 255)] {
        let output = run(&database, &["sh", "-c", script]);
        assert_eq!(output.status.code(), Some(status), "{script}: {output:?}");
        assert_eq!(stderr(&output), "");
    }
    for (signal, status) in [("TERM", 143), ("KILL", 137), ("INT", 130)] {
        let output = run(&database, &["sh", "-c", &format!("kill -{signal} $$")]);
        assert_eq!(output.status.code(), Some(status), "{signal}: {output:?}");
    }
}

#[test]
#[parallel]
fn a_command_that_is_not_there_or_cannot_be_run_has_the_shells_status() {
    let database = TestDatabase::new().unwrap();
    let missing = run(&database, &["no-such-command"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(stderr(&missing).contains("no-such-command: No such file"));
    let directory = run(&database, &["/"]);
    assert_eq!(directory.status.code(), Some(126));
}

#[test]
#[parallel]
fn without_a_database_nothing_is_run() {
    let mut command = diesel_locks();
    command.args(["run", "lock", "--database-url", "host=/nowhere"]);
    let output = command.args(["--", "echo", "run"]).output().unwrap();
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(stdout(&output), "");
    assert!(
        stderr(&output).starts_with("diesel_locks: could not connect to the database: "),
        "{output:?}"
    );
}

#[test]
#[parallel]
fn what_the_command_reads_and_writes_passes_through() {
    use std::io::Write;
    use std::process::Stdio;

    let database = TestDatabase::new().unwrap();
    let mut command = diesel_locks();
    command.args(["run", "lock", "--database-url", database.url(), "--"]);
    let mut process = command
        .args(["sh", "-c", "cat; echo told >&2"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    process.stdin.take().unwrap().write_all(b"read").unwrap();
    let output = process.wait_with_output().unwrap();
    assert_eq!((stdout(&output), stderr(&output)), ("read", "told\n"));
}
