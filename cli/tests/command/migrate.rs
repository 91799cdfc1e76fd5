//! Migrations by one process at a time, and what comes with a package.

use std::fs;

use diesel::prelude::*;
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::{diesel_locks, directory, stdout};

#[test]
#[parallel]
fn of_several_at_once_one_runs_the_migrations() {
    let database = TestDatabase::new().unwrap();
    let directory = directory("migrations");
    let one = directory.join("2026-01-01-000000_one");
    fs::create_dir(&one).unwrap();
    fs::write(one.join("up.sql"), "CREATE TABLE things (id integer);").unwrap();
    fs::write(one.join("down.sql"), "DROP TABLE things;").unwrap();
    let migrate = |more: &[&str]| {
        let mut command = diesel_locks();
        command
            .args(["migrate", "--database-url", database.url()])
            .arg("--migration-dir")
            .arg(&directory)
            .args(more);
        command
    };
    let tried = migrate(&["--dry-run"]).output().unwrap();
    assert!(tried.status.success(), "{tried:?}");
    let mut conn = PgConnection::establish(database.url()).unwrap();
    let mut is_there = || diesel::sql_query("TABLE things").execute(&mut conn).is_ok();
    assert!(!is_there());

    let running = [(); 3].map(|()| {
        let mut command = migrate(&[]);
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    });
    let outputs = running.map(|process| process.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()));
    let versions: String = outputs.iter().map(stdout).collect();
    assert_eq!(versions, "20260101000000\n");
    assert!(is_there());
}

#[test]
#[parallel]
fn completions_and_the_man_page_know_the_commands() {
    for arguments in [
        &["completions", "bash"][..],
        &["completions", "zsh"],
        &["man"],
    ] {
        let output = diesel_locks().args(arguments).output().unwrap();
        assert!(output.status.success());
        assert!(stdout(&output).contains("terminate"), "{arguments:?}");
    }
}
