//! What a role without rights can do, and is told.

use std::fs;
use std::process::Output;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use diesel_locks::prelude::*;
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use crate::support::{diesel_locks, directory, stderr, stdout};
use crate::terminal::Terminal;

#[test]
#[parallel]
fn a_role_without_rights_is_told_what_it_may_not_see_and_may_not_do() {
    let server = TempPostgres::start().unwrap();
    let connect = |role: &str| {
        let url = server.url().replace("postgres@", &format!("{role}@"));
        PgConnection::establish(&url).unwrap()
    };
    connect("postgres")
        .batch_execute(
            "CREATE ROLE app LOGIN; CREATE ROLE guest LOGIN; \
             REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        )
        .unwrap();
    let mut holder = connect("app");
    let pid: i32 = sql::<Integer>("SELECT pg_backend_pid()")
        .get_result(&mut holder)
        .unwrap();
    let mut guard = holder.advisory_lock("invoices").unwrap();
    let url = server.url().replace("postgres@", "guest@");
    let command = |arguments: &[&str]| -> Output {
        let mut command = diesel_locks();
        command.args(arguments).env("DATABASE_URL", &url);
        command.output().unwrap()
    };

    let list = command(&["ls", "--name", "invoices"]);
    assert!(
        stdout(&list).contains("(this role may not see it)"),
        "{list:?}"
    );
    let mut top = Terminal::run(diesel_locks().args(["top", "--database-url", &url]));
    top.press("\t");
    top.shows(&pid.to_string());
    top.press("q");
    assert!(top.ends().success());

    for arguments in [
        &["cancel", "--yes", &pid.to_string()][..],
        &["terminate", "--yes", "invoices"],
    ] {
        let spared = command(arguments);
        assert_eq!(spared.status.code(), Some(1), "{spared:?}");
        let told = stdout(&spared);
        assert!(told.starts_with(&format!("spared pid {pid} ")), "{told}");
        assert!(told.contains("this role may not"), "{told}");
    }
    assert!(guard.is_held().unwrap());

    // An advisory lock takes no right.
    let refused = command(&["run", "--nowait", "invoices", "--", "true"]);
    assert_eq!(refused.status.code(), Some(75), "{refused:?}");
    assert!(
        stderr(&refused).contains(&format!("held by pid {pid} ")),
        "{refused:?}"
    );
    assert!(command(&["run", "mine", "--", "true"]).status.success());

    let migrations = directory("rights");
    let one = migrations.join("2026-01-01-000000_one");
    fs::create_dir(&one).unwrap();
    fs::write(one.join("up.sql"), "CREATE TABLE things ()").unwrap();
    let directory = ["--migration-dir", migrations.to_str().unwrap()];
    for options in [&["migrate"][..], &["migrate", "--dry-run"]] {
        let migrated = command(&[options, &directory].concat());
        assert_eq!(migrated.status.code(), Some(1), "{migrated:?}");
        let told = [stdout(&migrated), stderr(&migrated)].concat();
        assert!(
            told.contains("permission denied for schema public"),
            "{migrated:?}"
        );
    }
    let spec = migrations.join("any.spec");
    fs::write(&spec, "session s1  step one { SELECT 1; }").unwrap();
    let isolation = command(&["isolation", spec.to_str().unwrap()]);
    assert_eq!(isolation.status.code(), Some(1), "{isolation:?}");
    assert!(
        stderr(&isolation).contains("permission denied to create database"),
        "{isolation:?}"
    );
}
