//! How a private server ends when some of its processes were killed or stopped before.

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::{Path, PathBuf};

use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use crate::support::directory::Directory;
use crate::support::second_process::{SecondProcess, hold_still, say, second_process, this_test};
use crate::support::server::{
    assert_gone, assert_soon_gone, drop_in_time, is_gone, is_root, keepers, named, postmaster,
    processes, signal,
};

/// A server, its directory and the number of its first process.
fn start() -> (TempPostgres, PathBuf, String) {
    let server = TempPostgres::start().unwrap();
    let directory = server.directory().to_owned();
    let postmaster = postmaster(&directory);
    (server, directory, postmaster)
}

/// The same in another process, which is told the directory for temporary files.
fn start_elsewhere(test: &str, temporary: &Path) -> (SecondProcess, PathBuf, String) {
    let mut child = SecondProcess::start(test, "", &[("TMPDIR", temporary)]);
    let directory = PathBuf::from(child.hear());
    let postmaster = postmaster(&directory);
    (child, directory, postmaster)
}

/// What the other process does.
fn be_elsewhere() -> ! {
    let server = TempPostgres::start().unwrap();
    let _conn = PgConnection::establish(server.url()).unwrap();
    say(server.directory().to_str().unwrap());
    hold_still();
}

/// A directory for temporary files.
fn temporary(name: &str) -> Directory {
    let temporary = Directory::new(name);
    temporary.allow(0o1777);
    temporary
}

#[test]
#[parallel]
fn a_server_whose_keepers_were_killed_is_gone_when_it_is_dropped() {
    let (server, directory, postmaster) = start();
    signal("-KILL", &keepers(&directory));
    drop_in_time(server);
    assert_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn a_server_whose_keepers_are_stopped_is_gone_when_it_is_dropped() {
    let (server, directory, postmaster) = start();
    signal("-STOP", &keepers(&directory));
    drop_in_time(server);
    assert_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn a_server_that_is_stopped_is_gone_when_it_is_dropped() {
    let (server, directory, postmaster) = start();
    signal("-STOP", std::slice::from_ref(&postmaster));
    drop_in_time(server);
    assert_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn a_server_of_which_everything_is_stopped_is_gone_when_it_is_dropped() {
    let (server, directory, postmaster) = start();
    let _conn = PgConnection::establish(server.url()).unwrap();
    signal("-STOP", &named("postgres", &directory));
    signal("-STOP", &keepers(&directory));
    drop_in_time(server);
    assert_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn a_server_that_was_killed_is_gone_when_it_is_dropped() {
    let (server, directory, postmaster) = start();
    let _conn = PgConnection::establish(server.url()).unwrap();
    // The first process can't tell the others any more.
    let mut others = named("postgres", &directory);
    others.retain(|process| *process != postmaster);
    signal("-STOP", &others);
    signal("-KILL", std::slice::from_ref(&postmaster));
    drop_in_time(server);
    assert_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn either_keeper_ends_the_server_of_a_killed_process() {
    if second_process().is_some() {
        be_elsewhere();
    }
    let test = &this_test!();
    let temporary = temporary("either");
    for which in 0..2 {
        for how in ["-KILL", "-STOP"] {
            let (child, directory, postmaster) = start_elsewhere(test, &temporary.0);
            signal(how, &keepers(&directory)[which..=which]);
            child.kill();
            assert_soon_gone(&directory, &postmaster);
        }
    }
    assert_eq!(temporary.count(), 0);
}

#[test]
#[parallel]
fn the_stopped_server_of_a_killed_process_is_ended() {
    if second_process().is_some() {
        be_elsewhere();
    }
    let test = &this_test!();
    let temporary = temporary("stopped");
    let (child, directory, postmaster) = start_elsewhere(test, &temporary.0);
    signal("-STOP", &named("postgres", &directory));
    child.kill();
    assert_soon_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn what_nobody_could_clear_away_the_next_start_does_and_what_lives_stays() {
    if second_process().is_some() {
        be_elsewhere();
    }
    let test = &this_test!();
    let temporary = temporary("next");
    let (dead, dead_directory, dead_postmaster) = start_elsewhere(test, &temporary.0);
    let (living, living_directory, _) = start_elsewhere(test, &temporary.0);
    signal("-KILL", &keepers(&dead_directory));
    dead.kill();
    signal("-KILL", &keepers(&living_directory));
    assert!(!is_gone(&dead_directory, &dead_postmaster));

    let (next, _, _) = start_elsewhere(test, &temporary.0);
    assert_gone(&dead_directory, &dead_postmaster);
    assert!(!named("postgres", &living_directory).is_empty());
    assert!(living_directory.join("data/PG_VERSION").exists());

    for child in [living, next] {
        child.kill();
    }
    let (last, last_directory, last_postmaster) = start_elsewhere(test, &temporary.0);
    assert!(!living_directory.exists());
    last.kill();
    assert_soon_gone(&last_directory, &last_postmaster);
}

#[test]
#[parallel]
fn what_only_looks_like_a_directory_that_was_left_behind_stays() {
    if second_process().is_some() {
        drop(TempPostgres::start().unwrap());
        return;
    }
    let test = &this_test!();
    let precious = Directory::new("precious");
    fs::write(precious.0.join("file"), "").unwrap();
    let temporary = temporary("looks");
    let entry = |name: &str| temporary.0.join(format!("diesel_locks-{name}"));
    symlink(&precious.0, entry("0123456789abcdef")).unwrap();
    fs::write(entry("0123456789abcde0"), "").unwrap();
    fs::create_dir(entry("of-somebody")).unwrap();
    let mut left = 3;
    if is_root() {
        let others = entry("0123456789abcde1");
        fs::create_dir(&others).unwrap();
        chown(&others, Some(65_533), None).unwrap();
        left += 1;
    } else {
        println!("skipped: only root can make a directory of another user");
    }
    // Only this one is of the own making.
    fs::create_dir(entry("0123456789abcde2")).unwrap();
    SecondProcess::start(test, "", &[("TMPDIR", &temporary.0)]).succeeds();
    assert_eq!(temporary.count(), left);
    assert_eq!(precious.count(), 1);
    assert!(processes(&temporary.0).is_empty());
}
