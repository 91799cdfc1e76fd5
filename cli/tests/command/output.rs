//! What is printed and told, and to nobody.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::{diesel_locks, directory, stderr};

/// The end of a pipe that nobody reads.
fn nobody() -> Stdio {
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    writer.into()
}

#[test]
#[parallel]
fn a_reader_who_has_gone_away_changes_no_status() {
    let database = TestDatabase::new().unwrap();
    let files = directory("output");
    let one = files.join("migrations/2026-01-01-000000_one");
    fs::create_dir_all(&one).unwrap();
    fs::write(one.join("up.sql"), "CREATE TABLE things ()").unwrap();
    fs::write(files.join("any.spec"), "session s1  step one { SELECT 1; }").unwrap();
    for (arguments, status) in [
        (&["key", "x"][..], 0),
        (&["key", "--quiet", "x"], 0),
        (&["man"], 0),
        (&["completions", "bash"], 0),
        (&["--help"], 0),
        (&["ls", "--all"], 0),
        (&["waits"], 0),
        (&["graph", "--json"], 0),
        (&["isolation", "any.spec"], 0),
        (&["isolation", "none.spec"], 1),
        (&["terminate", "--yes", "nobody has this"], 1),
        (&["migrate", "--dry-run"], 0),
        (&["migrate"], 0),
        (&["run", "x", "--", "false"], 1),
        (&["run", "x", "--", "no such command"], 127),
    ] {
        let mut command: Command = diesel_locks();
        command
            .args(arguments)
            .current_dir(&files)
            .stdout(nobody())
            .stderr(nobody());
        let ended = command
            .env("DATABASE_URL", database.url())
            .status()
            .unwrap();
        assert_eq!(ended.code(), Some(status), "{arguments:?}");
    }
}

#[test]
#[parallel]
fn what_is_wrong_with_the_command_line_is_said_so_that_it_can_be_mended() {
    let told = |arguments: &[&str], status: i32| {
        let mut command = diesel_locks();
        for name in ["PGHOST", "PGPORT", "PGSERVICE"] {
            command.env_remove(name);
        }
        let output = command.args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        stderr(&output).to_owned()
    };
    let wrong_scheme = ["--database-url", "mysql://me:secret@localhost/app"];
    for arguments in [&["ls"][..], &["isolation", "any.spec"]] {
        let error = told(&[arguments, &wrong_scheme].concat(), 69);
        assert!(error.contains("begins with postgres://"), "{error}");
        assert!(!error.contains("secret"), "{error}");
    }
    let error = told(&["migrate", "--migration-dir", "nowhere/at/all"], 1);
    assert!(error.contains("nowhere/at/all: No such file"), "{error}");
    let error = told(&["man", "--out-dir", "nowhere/at/all"], 1);
    assert!(error.contains("nowhere/at/all: No such file"), "{error}");
    let broken = directory("broken");
    fs::write(
        broken.join(".env"),
        "DATABASE_URL=postgres://me:secret@h/a b\n",
    )
    .unwrap();
    let mut command = diesel_locks();
    let output = command.arg("ls").current_dir(&broken).output().unwrap();
    let error = stderr(&output);
    assert!(
        error.starts_with("diesel_locks: the file .env has a line that cannot be"),
        "{error}"
    );
    assert!(!error.contains("secret"), "{error}");
    // Such as that of a variable that is not set.
    for command in [
        &["run", "", "--", "true"][..],
        &["cancel", "", "--yes"],
        &["terminate", "", "--yes"],
    ] {
        let error = told(command, 2);
        assert!(error.contains("NAME"), "{error}");
    }
    let error = told(&["ls", "--kind", "table"], 2);
    assert!(error.contains("relation"), "{error}");
    let error = told(&["terminate", "--key", "x:y"], 2);
    assert!(error.contains("a key is a number"), "{error}");
}
