//! A private server among other users' files.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use diesel::prelude::*;
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use crate::support::directory::Directory;
use crate::support::second_process::{
    Running, SecondProcess, say, second_process, start_fails, tell_story, this_test,
};
use crate::support::server::{bindir, is_root};

#[test]
#[parallel]
fn a_temporary_directory_in_which_others_can_rename_is_not_used() {
    if second_process().is_some() {
        let server = TempPostgres::start().unwrap();
        return say(server.directory().to_str().unwrap());
    }
    let test = &this_test!();
    let temporary = Directory::new("rename");
    let is_used = || {
        let mut child = SecondProcess::start(test, "", &[("TMPDIR", &temporary.0)]);
        let directory = child.hear();
        child.succeeds();
        Path::new(&directory).starts_with(&temporary.0)
    };
    temporary.allow(0o1777);
    assert!(is_used());
    temporary.allow(0o777);
    assert!(!is_used());
    if is_root() {
        temporary.allow(0o1777);
        chown(&temporary.0, Some(65_533), None).unwrap();
        assert!(!is_used());
    } else {
        println!("skipped: only root can make a directory of another user");
    }
}

/// A program that does all it can, as the server's user, to have a file overwritten.
const LINKS: &str = "while :; do
    for directory in \"$1\"/diesel_locks-*; do
        cd \"$directory\" && mkdir data data/global data/pg_wal data/base data/base/1
        for name in log data data/PG_VERSION data/postgresql.conf data/postgresql.auto.conf \
            data/pg_hba.conf data/postmaster.pid data/postmaster.opts data/global/pg_control \
            data/base/1/PG_VERSION data/base/1/1259 data/global/1262
        do
            ln -s \"$2\" $name
        done
        cd /
    done
done 2>/dev/null";

#[test]
#[parallel]
fn root_follows_no_link_that_the_servers_user_has_made() {
    if second_process().is_some() {
        for _ in 0..6 {
            // The links may well be in the server's own way.
            drop(TempPostgres::start());
        }
        return;
    }
    if !is_root() {
        return println!("skipped: only root runs the server as another user");
    }
    let test = &this_test!();
    let temporary = Directory::new("links");
    temporary.allow(0o1777);
    // There is a template now, and it is known who runs the server.
    let server = TempPostgres::start().unwrap();
    let user = fs::metadata(server.directory()).unwrap();
    let secrets = Directory::new("secrets");
    let secret = secrets.0.join("secret");
    fs::write(&secret, "secret").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    let attacker = Command::new("sh")
        .args(["-c", LINKS, "links"])
        .args([&temporary.0, &secret])
        .uid(user.uid())
        .gid(user.gid())
        .stdin(Stdio::null())
        .spawn();
    let attacker = Running(attacker.unwrap());
    SecondProcess::start(test, "", &[("TMPDIR", &temporary.0)]).succeeds();
    drop(attacker);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "secret");
    let metadata = fs::metadata(&secret).unwrap();
    assert_eq!((metadata.uid(), metadata.mode() & 0o777), (0, 0o600));
    assert_eq!(secrets.count(), 1);
}

#[test]
#[parallel]
fn what_the_servers_user_puts_in_the_way_is_neither_read_nor_waited_for() {
    if second_process().is_some() {
        return tell_story(&TempPostgres::start().unwrap_err());
    }
    let test = &this_test!();
    let server = TempPostgres::start().unwrap();
    let binaries = bindir(&mut PgConnection::establish(server.url()).unwrap());
    let binaries = binaries.display();
    let secrets = Directory::new("secrets");
    let secret = secrets.0.join("secret");
    fs::write(&secret, "secret").unwrap();
    let programs = Directory::new("programs");
    programs.program("initdb", &format!("exec {binaries}/initdb \"$@\""));
    for in_the_way in [
        "mkfifo data/postmaster.pid",
        "ln -s /dev/zero data/postmaster.pid",
        "rm log; mkfifo log",
        &format!("rm log; ln -s {} log", secret.display()),
    ] {
        let version = format!("[ \"$1\" = --version ] && exec {binaries}/postgres --version");
        programs.program(
            "postgres",
            &format!("{version}\n{in_the_way}\necho the last word\nsleep 0.2\nexit 1"),
        );
        let story = start_fails(test, &[("PG_BIN_DIR", &programs.0)]);
        assert!(story.starts_with("ServerFailed"), "{story}");
        assert!(story.contains("the last word"), "{story}");
        assert!(!story.contains("secret"), "{story}");
    }
}
