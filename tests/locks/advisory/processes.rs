//! A lock keeps out other processes, and other programs.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support;
use crate::support::second_process::{SecondProcess, hold_still, say, second_process, this_test};
use crate::support::server::psql;

#[test]
#[parallel]
fn another_process_is_refused_and_gets_the_lock_afterwards() {
    if let Some(url) = second_process() {
        match OwnedAdvisoryLockGuard::connect(&url, "gold_leader", Wait::NoWait) {
            Ok(leader) => {
                leader.release().unwrap();
                say("granted");
            }
            Err(LockError::NotAvailable { .. }) => say("refused"),
            Err(error) => panic!("{error:?}"),
        }
        return;
    }
    let test = &this_test!();
    let database = TestDatabase::new().unwrap();
    let answer = || {
        let mut child = SecondProcess::start(test, database.url(), &[]);
        let word = child.hear();
        child.succeeds();
        word
    };
    let leader =
        OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait).unwrap();
    assert_eq!(answer(), "refused");
    leader.release().unwrap();
    assert_eq!(answer(), "granted");
}

#[test]
#[parallel]
fn killing_the_process_that_holds_the_lock_frees_it() {
    if let Some(url) = second_process() {
        let _leader = OwnedAdvisoryLockGuard::connect(&url, "gold_leader", Wait::NoWait).unwrap();
        say("held");
        hold_still();
    }
    let test = &this_test!();
    let database = TestDatabase::new().unwrap();
    let mut child = SecondProcess::start(test, database.url(), &[]);
    assert_eq!(child.hear(), "held");
    let mut conn = support::connect(&database);
    assert!(conn.try_advisory_lock("gold_leader").unwrap().is_none());
    child.kill();
    // This waits until the server has noticed.
    conn.advisory_lock("gold_leader")
        .unwrap()
        .release()
        .unwrap();
}

#[test]
#[parallel]
fn psql_and_this_crate_exclude_each_other_by_name() {
    const KEY: &str = "('x' || encode(substr(sha256(convert_to('gold_leader', 'UTF8')), 1, 8), \
         'hex'))::bit(64)::bigint";
    let database = TestDatabase::new().unwrap();
    let mut conn = support::connect(&database);
    let psql = psql(&mut conn);
    let try_lock = format!("SELECT pg_try_advisory_lock({KEY})");
    let granted_to_psql = || {
        let psql = Command::new(&psql)
            .args([database.url(), "-XAtc", &try_lock])
            .output();
        String::from_utf8(psql.unwrap().stdout).unwrap().trim() == "t"
    };
    let leader = conn.advisory_lock_nowait("gold_leader").unwrap();
    assert!(!granted_to_psql());
    leader.release().unwrap();
    assert!(granted_to_psql());

    // That session ends a moment after its client.
    support::eventually(|| support::advisory_locks(&database) == 0);

    // The other way round: psql has the lock until its input ends.
    let mut holder = Command::new(&psql)
        .args([database.url(), "-XAt"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = holder.stdin.take().unwrap();
    writeln!(input, "{try_lock};").unwrap();
    let mut answer = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap())
        .read_line(&mut answer)
        .unwrap();
    assert_eq!(answer.trim(), "t");
    assert!(conn.try_advisory_lock("gold_leader").unwrap().is_none());
    drop(input);
    conn.advisory_lock("gold_leader")
        .unwrap()
        .release()
        .unwrap();
    holder.wait().unwrap();
}
