//! What only a second process can show: refusals, kills, and what is left behind.
//!
//! A test here plays both parts: it starts itself again, with the URL or the directory that the
//! second process needs in `SECOND_PROCESS`.

#[path = "../../tests/support/mod.rs"]
mod support;

use std::env;
use std::error::Error;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::{DatabaseError, ServerError, TempPostgres, TestDatabase};

/// What the first process gave to this one, if this is the second.
fn second_process() -> Option<String> {
    env::var("SECOND_PROCESS").ok()
}

/// This test again, as another process.
struct SecondProcess {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl SecondProcess {
    fn start(test: &str, given: &str, environment: &[(&str, &Path)]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .env("SECOND_PROCESS", given)
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// The next word that it says.
    fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let length = self.stdout.read_line(&mut line).unwrap();
            assert_ne!(length, 0, "the second process has ended");
            if let Some((_, word)) = line.split_once("second process: ") {
                return word.trim_end().to_owned();
            }
        }
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits for its end.
    fn succeeds(mut self) {
        // What it prints at its end has to go somewhere.
        io::copy(&mut self.stdout, &mut io::sink()).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

/// Tells the first process.
fn say(word: &str) {
    println!("second process: {word}");
}

/// Holds still until the first process ends this one.
fn hold_still() -> ! {
    loop {
        thread::park();
    }
}

#[test]
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
    let test = "another_process_is_refused_and_gets_the_lock_afterwards";
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
fn killing_the_process_that_holds_the_lock_frees_it() {
    if let Some(url) = second_process() {
        let _leader = OwnedAdvisoryLockGuard::connect(&url, "gold_leader", Wait::NoWait).unwrap();
        say("held");
        hold_still();
    }
    let test = "killing_the_process_that_holds_the_lock_frees_it";
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
fn psql_and_this_crate_exclude_each_other_by_name() {
    const KEY: &str = "('x' || encode(substr(sha256(convert_to('gold_leader', 'UTF8')), 1, 8), \
         'hex'))::bit(64)::bigint";
    let database = TestDatabase::new().unwrap();
    let mut conn = support::connect(&database);
    let psql = bindir(&mut conn).join("psql");
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

/// Where the server's programs are.
fn bindir(conn: &mut PgConnection) -> PathBuf {
    let bindir: String = sql::<Text>("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
        .get_result(conn)
        .unwrap();
    bindir.into()
}

/// Polls until the process and the directory of a server are gone.
fn assert_gone(directory: &Path, postmaster: &str) {
    let begun = Instant::now();
    let process = Path::new("/proc").join(postmaster);
    while directory.exists() || process.exists() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{directory:?} is still there"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

fn postmaster(server: &TempPostgres) -> String {
    let lock_file = fs::read_to_string(server.directory().join("data/postmaster.pid")).unwrap();
    lock_file.lines().next().unwrap().to_owned()
}

#[test]
fn a_killed_process_leaves_no_server_and_no_directory() {
    if second_process().is_some() {
        let server = TempPostgres::start().unwrap();
        // One that is in use is ended all the same.
        let _conn = PgConnection::establish(server.url()).unwrap();
        say(&postmaster(&server));
        say(server.directory().to_str().unwrap());
        hold_still();
    }
    let test = "a_killed_process_leaves_no_server_and_no_directory";
    let mut child = SecondProcess::start(test, "", &[]);
    let postmaster = child.hear();
    let directory = PathBuf::from(child.hear());
    assert!(directory.exists());
    child.kill();
    assert_gone(&directory, &postmaster);
}

#[test]
fn a_process_that_exits_leaves_no_server_and_no_directory() {
    if second_process().is_some() {
        let database = TestDatabase::new().unwrap();
        say(database.url());
        std::process::exit(0);
    }
    let test = "a_process_that_exits_leaves_no_server_and_no_directory";
    // On a server that outlives the process, its database would be left behind.
    let mut child = SecondProcess::start(test, "", &[("DATABASE_URL", "".as_ref())]);
    let url = child.hear();
    child.succeeds();
    let (_, directory) = url.split_once("host=").unwrap();
    let (directory, _) = directory.split_once('&').unwrap();
    assert_gone(Path::new(directory), "none");
}

#[test]
fn a_server_that_is_dropped_is_gone_and_servers_do_not_meet() {
    let first = TempPostgres::start().unwrap();
    let second = TempPostgres::start().unwrap();
    let mut conn = PgConnection::establish(first.url()).unwrap();
    let mut other = PgConnection::establish(second.url()).unwrap();
    let _here = conn.advisory_lock_nowait("x").unwrap();
    let _there = other.advisory_lock_nowait("x").unwrap();
    let (directory, pid) = (first.directory().to_owned(), postmaster(&first));
    assert!(directory.exists() && Path::new("/proc").join(&pid).exists());
    drop(first);
    // No poll: it is so when drop returns.
    assert!(!directory.exists() && !Path::new("/proc").join(&pid).exists());
}

/// A directory for one test, empty, that everybody may enter.
struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let name = format!("diesel_locks-test-{}-{name}", std::process::id());
        let directory = Self(env::temp_dir().join(name));
        fs::create_dir(&directory.0).unwrap();
        directory.allow(0o755);
        directory
    }

    fn allow(&self, mode: u32) {
        fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.0.join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        self.allow(0o755);
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// The whole story of the error that a start ends with in a process with that environment.
fn start_fails(test: &str, environment: &[(&str, &Path)]) -> String {
    let mut child = SecondProcess::start(test, "", environment);
    let mut story = String::new();
    loop {
        match child.hear().as_str() {
            "the end" => break,
            line => story += &format!("{line}\n"),
        }
    }
    child.succeeds();
    story
}

fn tell_story(error: &ServerError) {
    say(match error {
        ServerError::NoServerBinaries { .. } => "NoServerBinaries",
        ServerError::PermissionDenied { .. } => "PermissionDenied",
        ServerError::ServerFailed { .. } => "ServerFailed",
        _ => "another error",
    });
    // Which is what a test shows that returns it.
    assert!(format!("{error:?}").starts_with(&error.to_string()));
    let mut cause: Option<&dyn Error> = Some(error);
    while let Some(error) = cause {
        error.to_string().lines().for_each(say);
        cause = error.source();
    }
    say("the end");
}

#[test]
fn without_server_binaries_the_error_says_what_to_install() {
    if second_process().is_some() {
        return tell_story(&TempPostgres::start().unwrap_err());
    }
    let test = "without_server_binaries_the_error_says_what_to_install";
    let empty = Directory::new("binaries");
    let story = start_fails(test, &[("PG_BIN_DIR", &empty.0)]);
    assert!(story.starts_with("NoServerBinaries"), "{story}");
    for word in ["apt-get install postgresql", "PG_BIN_DIR", "DATABASE_URL"] {
        assert!(story.contains(word), "{story}");
    }
    assert!(story.contains(empty.0.to_str().unwrap()), "{story}");
}

#[test]
fn a_temporary_directory_without_permission_is_named() {
    if second_process().is_some() {
        return tell_story(&TempPostgres::start().unwrap_err());
    }
    let test = "a_temporary_directory_without_permission_is_named";
    let forbidden = Directory::new("forbidden");
    if fs::metadata(&forbidden.0).unwrap().uid() == 0 {
        // The user that root chooses cannot enter it.
        chown(&forbidden.0, Some(65_534), None).unwrap();
        forbidden.allow(0o700);
    } else {
        forbidden.allow(0o500);
    }
    let story = start_fails(test, &[("TMPDIR", &forbidden.0)]);
    assert!(story.starts_with("PermissionDenied"), "{story}");
    assert!(story.contains(forbidden.0.to_str().unwrap()), "{story}");
    assert_eq!(fs::read_dir(&forbidden.0).unwrap().count(), 0);
}

#[test]
fn what_the_environment_says_of_other_servers_is_overruled() {
    if second_process().is_some() {
        let database = TestDatabase::new().unwrap();
        support::connect(&database)
            .batch_execute("SELECT 1")
            .unwrap();
        return say(database.url());
    }
    let test = "what_the_environment_says_of_other_servers_is_overruled";
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
fn a_server_that_dies_at_its_start_has_the_last_word() {
    if second_process().is_some() {
        return tell_story(&TempPostgres::start().unwrap_err());
    }
    let test = "a_server_that_dies_at_its_start_has_the_last_word";
    let server = TempPostgres::start().unwrap();
    let binaries = bindir(&mut PgConnection::establish(server.url()).unwrap());
    let binaries = binaries.display();
    let programs = Directory::new("programs");
    let temporary = Directory::new("temporary");
    temporary.allow(0o777);
    let environment = [
        ("PG_BIN_DIR", &*programs.0),
        ("TMPDIR", &*temporary.0),
        ("XDG_CACHE_HOME", &*temporary.0),
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
    assert_eq!(fs::read_dir(&temporary.0).unwrap().count(), 0);

    programs.program("postgres", "echo postgres of another version");
    programs.program(
        "initdb",
        &format!("exec {binaries}/initdb --no-such-option"),
    );
    let story = start_fails(test, &environment);
    assert!(story.starts_with("ServerFailed"), "{story}");
    assert!(story.contains("initdb failed"), "{story}");
    assert!(story.contains("unrecognized option"), "{story}");
    assert_eq!(fs::read_dir(&temporary.0).unwrap().count(), 0);
}

#[test]
fn a_database_lives_as_long_as_its_value() {
    let database = TestDatabase::new().unwrap();
    let other = TestDatabase::new().unwrap();
    let url = database.url().to_owned();
    // One that is in use is dropped all the same.
    let mut conn = PgConnection::establish(&url).unwrap();
    conn.batch_execute("CREATE TABLE t ()").unwrap();
    drop(database);
    let error = LockError::from(conn.batch_execute("SELECT 1").unwrap_err());
    assert!(matches!(error, LockError::ConnectionLost { .. }));
    assert!(PgConnection::establish(&url).is_err());
    support::connect(&other)
        .batch_execute("CREATE TABLE t ()")
        .unwrap();
}

#[test]
fn a_database_url_names_the_server_to_use() {
    if let Some(url) = second_process() {
        let database = TestDatabase::new();
        if url == "nowhere" {
            assert!(matches!(database, Err(DatabaseError::Unreachable(_))));
            return say("unreachable");
        }
        say(database.unwrap().url());
        return;
    }
    let test = "a_database_url_names_the_server_to_use";
    let server = TempPostgres::start().unwrap();
    let mut child = SecondProcess::start(test, "", &[("DATABASE_URL", server.url().as_ref())]);
    let url = child.hear();
    child.succeeds();
    assert!(url.starts_with(server.url()), "{url}");
    assert_ne!(url, server.url());
    assert!(
        PgConnection::establish(&url).is_err(),
        "the database was dropped"
    );

    let nowhere = Path::new("postgres://nobody@127.0.0.1:1/none");
    let mut child = SecondProcess::start(test, "nowhere", &[("DATABASE_URL", nowhere)]);
    assert_eq!(child.hear(), "unreachable");
    child.succeeds();
}
