//! The private server: what it needs, what it says when something is missing, and what it leaves.

use std::path::{Path, PathBuf};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::parallel;

use crate::support;
use crate::support::directory::Directory;
use crate::support::second_process::{
    SecondProcess, hold_still, say, second_process, start_fails, tell_story, this_test,
};
use crate::support::server::{assert_gone, assert_soon_gone, bindir, is_gone, is_root, postmaster};

#[test]
#[parallel]
fn a_killed_process_leaves_no_server_and_no_directory() {
    if second_process().is_some() {
        let server = TempPostgres::start().unwrap();
        // One that is in use is ended all the same.
        let _conn = PgConnection::establish(server.url()).unwrap();
        say(&postmaster(server.directory()));
        say(server.directory().to_str().unwrap());
        hold_still();
    }
    let test = &this_test!();
    let mut child = SecondProcess::start(test, "", &[]);
    let postmaster = child.hear();
    let directory = PathBuf::from(child.hear());
    assert!(directory.exists());
    child.kill();
    assert_soon_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn a_process_that_exits_leaves_no_server_and_no_directory() {
    if second_process().is_some() {
        let database = TestDatabase::new().unwrap();
        say(database.url());
        std::process::exit(0);
    }
    let test = &this_test!();
    // On a server that outlives the process, its database would be left behind.
    let mut child = SecondProcess::start(test, "", &[("DATABASE_URL", "".as_ref())]);
    let url = child.hear();
    child.succeeds();
    let (_, directory) = url.split_once("host=").unwrap();
    let (directory, _) = directory.split_once('&').unwrap();
    assert_soon_gone(Path::new(directory), "none");
}

#[test]
#[parallel]
fn a_server_that_is_dropped_is_gone_and_servers_do_not_meet() {
    let first = TempPostgres::start().unwrap();
    let second = TempPostgres::start().unwrap();
    let mut conn = PgConnection::establish(first.url()).unwrap();
    let mut other = PgConnection::establish(second.url()).unwrap();
    let _here = conn.advisory_lock_nowait("x").unwrap();
    let _there = other.advisory_lock_nowait("x").unwrap();
    let directory = first.directory().to_owned();
    let postmaster = postmaster(&directory);
    assert!(!is_gone(&directory, &postmaster));
    drop(first);
    // No poll: it is so when drop returns.
    assert_gone(&directory, &postmaster);
}

#[test]
#[parallel]
fn without_server_binaries_the_error_says_what_to_install() {
    if second_process().is_some() {
        return tell_story(&TempPostgres::start().unwrap_err());
    }
    let test = &this_test!();
    let empty = Directory::new("binaries");
    let story = start_fails(test, &[("PG_BIN_DIR", &empty.0)]);
    assert!(story.starts_with("NoServerBinaries"), "{story}");
    for word in ["apt-get install postgresql", "PG_BIN_DIR", "DATABASE_URL"] {
        assert!(story.contains(word), "{story}");
    }
    assert!(story.contains(empty.0.to_str().unwrap()), "{story}");
}

#[test]
#[parallel]
fn a_temporary_directory_without_permission_is_named() {
    if second_process().is_some() {
        return tell_story(&TempPostgres::start().unwrap_err());
    }
    if is_root() {
        return println!("skipped: root may write everywhere");
    }
    let test = &this_test!();
    let forbidden = Directory::new("forbidden");
    forbidden.allow(0o500);
    let story = start_fails(test, &[("TMPDIR", &forbidden.0)]);
    assert!(story.starts_with("PermissionDenied"), "{story}");
    assert!(story.contains(forbidden.0.to_str().unwrap()), "{story}");
    assert_eq!(forbidden.count(), 0);
}

#[test]
#[parallel]
fn what_the_environment_says_of_other_servers_is_overruled() {
    if second_process().is_some() {
        let database = TestDatabase::new().unwrap();
        support::connect(&database)
            .batch_execute("SELECT 1")
            .unwrap();
        return say(database.url());
    }
    let test = &this_test!();
    let roots = Directory::new("roots");
    roots.allow(0o700);
    let environment = [
        ("PGHOST", "nowhere.invalid"),
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGPORT", "1"),
        ("PGUSER", "nobody"),
        ("PGDATABASE", "none"),
        ("PGOPTIONS", "-c nonsense=1"),
        ("PGSSLMODE", "require"),
        ("PGTARGETSESSIONATTRS", "standby"),
        ("PGDATA", "/nowhere"),
        // Root's own directory would be closed to the server's user.
        ("TMPDIR", roots.0.to_str().unwrap()),
        ("DATABASE_URL", ""),
    ];
    let mut child = SecondProcess::start(
        test,
        "",
        &environment.map(|(name, value)| (name, value.as_ref())),
    );
    child.hear();
    child.succeeds();
}

#[test]
#[parallel]
fn a_server_that_dies_at_its_start_has_the_last_word() {
    if second_process().is_some() {
        return tell_story(&TempPostgres::start().unwrap_err());
    }
    let test = &this_test!();
    let server = TempPostgres::start().unwrap();
    let binaries = bindir(&mut PgConnection::establish(server.url()).unwrap());
    let binaries = binaries.display();
    let programs = Directory::new("programs");
    let temporary = Directory::new("temporary");
    temporary.allow(0o1777);
    let environment = [
        ("PG_BIN_DIR", &*programs.0),
        ("TMPDIR", &*temporary.0),
        ("XDG_CACHE_HOME", &*programs.0),
    ];

    programs.program("initdb", &format!("exec {binaries}/initdb \"$@\""));
    programs.program(
        "postgres",
        &format!("exec {binaries}/postgres \"$@\" --no_such_setting=1"),
    );
    let story = start_fails(test, &environment);
    assert!(story.starts_with("ServerFailed"), "{story}");
    assert!(story.contains("postgres failed"), "{story}");
    assert!(
        story.contains("unrecognized configuration parameter \"no_such_setting\""),
        "{story}"
    );
    assert_eq!(temporary.count(), 0);

    programs.program("postgres", "echo postgres of another version");
    programs.program(
        "initdb",
        &format!("exec {binaries}/initdb --no-such-option"),
    );
    let story = start_fails(test, &environment);
    assert!(story.starts_with("ServerFailed"), "{story}");
    assert!(story.contains("initdb failed"), "{story}");
    assert!(story.contains("unrecognized option"), "{story}");
    assert_eq!(temporary.count(), 0);
}
