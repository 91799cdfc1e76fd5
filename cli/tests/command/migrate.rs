//! Migrations by one process at a time.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Integer};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::parallel;

use crate::support::{diesel_locks, directory, soon, stderr, stdout};

/// A directory of migrations with this one.
fn migrations(up: &str) -> PathBuf {
    let directory = directory("migrations");
    let one = directory.join("2026-01-01-000000_one");
    fs::create_dir(&one).unwrap();
    fs::write(one.join("up.sql"), up).unwrap();
    fs::write(one.join("down.sql"), "").unwrap();
    directory
}

fn migrate(database: &TestDatabase, directory: &Path) -> Command {
    let mut command = diesel_locks();
    command
        .args(["migrate", "--database-url", database.url()])
        .arg("--migration-dir")
        .arg(directory);
    command
}

fn connect(database: &TestDatabase) -> PgConnection {
    PgConnection::establish(database.url()).unwrap()
}

fn is_there(database: &TestDatabase, table: &str) -> bool {
    let table = format!("TABLE {table}");
    diesel::sql_query(table)
        .execute(&mut connect(database))
        .is_ok()
}

#[test]
#[parallel]
fn of_several_at_once_one_runs_the_migrations() {
    let database = TestDatabase::new().unwrap();
    let directory = migrations("CREATE TABLE things (id integer);");
    let tried = migrate(&database, &directory)
        .arg("--dry-run")
        .output()
        .unwrap();
    assert!(tried.status.success(), "{tried:?}");
    assert!(!is_there(&database, "things"));

    let running = [(); 3].map(|()| {
        let mut command = migrate(&database, &directory);
        command
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    });
    let outputs = running.map(|process| process.wait_with_output().unwrap());
    assert!(outputs.iter().all(|output| output.status.success()));
    let versions: String = outputs.iter().map(stdout).collect();
    assert_eq!(versions, "20260101000000\n");
    assert!(is_there(&database, "things"));
}

#[test]
#[parallel]
fn a_dry_run_is_told_as_markdown_and_changes_nothing() {
    let database = TestDatabase::new().unwrap();
    let directory = migrations("CREATE TABLE things (id integer); TRUNCATE others;");
    connect(&database)
        .batch_execute("CREATE TABLE others ()")
        .unwrap();
    let tried = migrate(&database, &directory)
        .args(["--dry-run", "--markdown"])
        .output()
        .unwrap();
    assert!(tried.status.success(), "{tried:?}");
    let table = stdout(&tried);
    assert!(
        table.starts_with("| migration | lock | on | blocks | notes |\n|---|"),
        "{table}"
    );
    assert!(
        table.contains("| AccessExclusiveLock | table public.others | reads and writes |"),
        "{table}"
    );
    assert!(!is_there(&database, "things"));
}

#[test]
#[parallel]
fn a_dry_run_of_what_fails_says_so_by_its_status() {
    let database = TestDatabase::new().unwrap();
    let directory = migrations("CREATE TABLE things (id nonsense);");
    let tried = migrate(&database, &directory)
        .arg("--dry-run")
        .output()
        .unwrap();
    assert_eq!(tried.status.code(), Some(1), "{tried:?}");
    assert!(stdout(&tried).contains("nonsense"), "{tried:?}");
}

#[test]
#[parallel]
fn an_invalid_index_is_dropped_and_built_again_if_that_is_wanted() {
    let database = TestDatabase::new().unwrap();
    let directory = migrations("CREATE UNIQUE INDEX CONCURRENTLY things_id ON things (id);");
    let metadata = directory.join("2026-01-01-000000_one/metadata.toml");
    fs::write(metadata, "run_in_transaction = false\n").unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("CREATE TABLE things (id integer); INSERT INTO things VALUES (1), (1)")
        .unwrap();
    let failed = migrate(&database, &directory).output().unwrap();
    assert_eq!(failed.status.code(), Some(1), "{failed:?}");
    conn.batch_execute("TRUNCATE things").unwrap();

    let refused = migrate(&database, &directory).output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(stderr(&refused).contains("invalid index"), "{refused:?}");
    let dropped = migrate(&database, &directory)
        .arg("--drop-invalid-indexes")
        .output()
        .unwrap();
    assert_eq!(stdout(&dropped), "20260101000000\n", "{dropped:?}");
    let is_valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'things_id'::regclass";
    assert!(sql::<Bool>(is_valid).get_result::<bool>(&mut conn).unwrap());
}

#[test]
#[parallel]
fn who_waits_for_a_table_gives_up_and_names_who_is_in_the_way() {
    let database = TestDatabase::new().unwrap();
    let directory = migrations("ALTER TABLE things ADD name text;");
    let mut conn = connect(&database);
    conn.batch_execute("CREATE TABLE things ()").unwrap();
    conn.batch_execute("BEGIN; LOCK TABLE things").unwrap();
    let holder: i32 = sql::<Integer>("SELECT pg_backend_pid()")
        .get_result(&mut conn)
        .unwrap();
    let refused = migrate(&database, &directory)
        .args(["--lock-timeout", "50ms", "--attempts", "2"])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        stderr(&refused).contains(&format!("pid {holder}")),
        "{refused:?}"
    );
}

#[test]
#[parallel]
fn who_is_in_the_way_of_a_priority_is_terminated_and_told() {
    let server = TempPostgres::start().unwrap();
    let connect = |role: &str| {
        let url = server.url().replace("postgres@", &format!("{role}@"));
        PgConnection::establish(&url).unwrap()
    };
    connect("postgres")
        .batch_execute("CREATE ROLE app LOGIN; CREATE TABLE things (); GRANT ALL ON things TO app")
        .unwrap();
    let mut holder = connect("app");
    holder
        .batch_execute("SET application_name = 'report'; BEGIN; LOCK TABLE things")
        .unwrap();
    let directory = migrations("ALTER TABLE things ADD name text;");
    let done = diesel_locks()
        .args(["migrate", "--database-url", server.url()])
        .args(["--prioritize", "100ms", "--lock-timeout", "20s"])
        .args(["--attempts", "1", "--migration-dir"])
        .arg(&directory)
        .output()
        .unwrap();
    assert_eq!(stdout(&done), "20260101000000\n", "{done:?}");
    assert!(stderr(&done).contains("terminated pid "), "{done:?}");
    assert!(stderr(&done).contains("(report, as app)"), "{done:?}");
    holder.batch_execute("SELECT 1").unwrap_err();
}

#[test]
#[cfg(unix)]
#[parallel]
fn who_interrupts_it_leaves_nobody_behind_in_the_queue_for_a_table() {
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    let database = TestDatabase::new().unwrap();
    let mut holder = connect(&database);
    let version: i32 = sql::<Integer>("SELECT current_setting('server_version_num')::integer")
        .get_result(&mut holder)
        .unwrap();
    if version < 140_000 {
        // The server does not look for its clients.
        return;
    }
    for statements in ["CREATE TABLE things ()", "BEGIN; LOCK TABLE things"] {
        holder.batch_execute(statements).unwrap();
    }
    let directory = migrations("ALTER TABLE things ADD name text;");
    let mut process = migrate(&database, &directory).spawn().unwrap();
    let mut observer = connect(&database);
    let mut waiting = || -> bool {
        sql::<Bool>("SELECT count(*) > 0 FROM pg_locks WHERE NOT granted AND relation = ")
            .sql("'things'::regclass")
            .get_result(&mut observer)
            .unwrap()
    };
    soon("it waits", &mut waiting);
    let id = Pid::from_raw(i32::try_from(process.id()).unwrap());
    kill(id, Signal::SIGINT).unwrap();
    assert!(!process.wait().unwrap().success());
    soon("nobody waits", || !waiting());
    holder.batch_execute("COMMIT").unwrap();
}
