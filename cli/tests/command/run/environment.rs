//! Where the database's name comes from, and what the command finds in its environment.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::parallel;

use crate::support::{diesel_locks, directory, stderr, stdout};

#[test]
#[parallel]
fn the_command_knows_the_lock_and_the_session_that_has_it() {
    let database = TestDatabase::new().unwrap();
    let script = "echo $DIESEL_LOCKS_NAME; psql_pid=$DIESEL_LOCKS_BACKEND_PID; echo $psql_pid; cat";
    let mut command = diesel_locks();
    command.args(["run", "my lock", "--database-url", database.url(), "--"]);
    let mut process = command
        .args(["sh", "-c", script])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines =
        std::io::BufRead::lines(std::io::BufReader::new(process.stdout.take().unwrap()));
    assert_eq!(lines.next().unwrap().unwrap(), "my lock");
    let pid: i32 = lines.next().unwrap().unwrap().parse().unwrap();
    let mut conn = PgConnection::establish(database.url()).unwrap();
    let application: String = diesel::dsl::sql::<Text>(&format!(
        "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid) \
         WHERE locktype = 'advisory' AND granted AND pid = {pid}"
    ))
    .get_result(&mut conn)
    .unwrap();
    assert_eq!(application, "diesel_locks run my lock");
    drop(process.stdin.take());
    assert!(process.wait().unwrap().success());
}

#[test]
#[parallel]
fn the_database_is_that_of_the_environment_and_else_of_a_file_above_which_the_command_does_not_see()
{
    let database = TestDatabase::new().unwrap();
    let above = directory("env");
    let below = above.join("below");
    fs::create_dir(&below).unwrap();
    fs::write(
        above.join(".env"),
        format!("DATABASE_URL='{}'\nAPP_SECRET=x\n", database.url()),
    )
    .unwrap();
    let run = |url: Option<&str>| {
        let mut command = diesel_locks();
        command
            .current_dir(&below)
            .envs(url.map(|url| ("DATABASE_URL", url)));
        command
            .args([
                "run",
                "lock",
                "--",
                "sh",
                "-c",
                "echo ${DATABASE_URL-none} ${APP_SECRET-none}",
            ])
            .output()
            .unwrap()
    };
    let output = run(None);
    assert_eq!(stdout(&output), "none none\n", "{output:?}");
    // What is there is not overruled, not even where it is wrong.
    assert_eq!(run(Some("host=/nowhere")).status.code(), Some(69));
}

#[test]
#[parallel]
fn a_file_that_cannot_be_read_is_told_of() {
    let directory = directory("unreadable");
    fs::write(directory.join(".env"), b"DATABASE_URL=\xe9\n").unwrap();
    let output = diesel_locks()
        .current_dir(&directory)
        .env("PGHOST", "/nowhere")
        .args(["run", "lock", "--", "echo", "run"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    let told = "the file .env cannot be read";
    assert!(stderr(&output).contains(told), "{output:?}");
}

fn told_by_libpqs_variables(server: &TempPostgres) -> Command {
    let mut command = diesel_locks();
    command
        .current_dir("/")
        .env("PGHOST", server.directory())
        .env("PGUSER", "postgres")
        .env("PGDATABASE", "postgres")
        .env("PGPORT", "5432");
    command
}

#[test]
#[parallel]
fn without_a_url_libpqs_own_variables_say_where_the_database_is() {
    let server = TempPostgres::start().unwrap();
    let output = told_by_libpqs_variables(&server)
        .args(["run", "lock", "--", "echo", "run"])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "run\n", "{output:?}");
}

#[test]
#[parallel]
fn a_url_that_is_no_text_is_an_error_and_no_other_database_takes_its_place() {
    let server = TempPostgres::start().unwrap();
    let output = told_by_libpqs_variables(&server)
        .env(
            "DATABASE_URL",
            OsStr::from_bytes(b"postgres://me:\xe9@h/app"),
        )
        .args(["run", "lock", "--", "echo", "run"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(69), "{output:?}");
    assert!(
        stderr(&output).contains("DATABASE_URL is not in UTF-8"),
        "{output:?}"
    );
}

#[test]
#[parallel]
fn a_name_may_have_letters_that_the_database_does_not_have() {
    let server = TempPostgres::start().unwrap();
    let create = "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0";
    let mut conn = PgConnection::establish(server.url()).unwrap();
    conn.batch_execute(create).unwrap();
    let url = server.url().replace("dbname=postgres", "dbname=latin");
    let output = diesel_locks()
        .args(["run", "夜間報告", "--database-url", &url])
        .args(["--", "sh", "-c", "echo $DIESEL_LOCKS_NAME"])
        .output()
        .unwrap();
    assert_eq!(stdout(&output), "夜間報告\n", "{output:?}");
}
