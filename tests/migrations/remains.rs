//! What is left of statements that do not name it, that commit in between, or that others run.

use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_locks::{MigrateError, MigrationLock, Retry};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, exists, is_valid, outside, run};
use crate::support::{backend_pid, connect, eventually, terminate, two_sessions};

const TABLE: &str = "CREATE TABLE accounts (id int PRIMARY KEY, owner text)";

fn thrice() -> MigrationLock<'static> {
    let soon = Retry::new().backoff(Duration::ZERO, Duration::ZERO);
    MigrationLock::new().attempts(soon.attempts(3))
}

fn invalid(conn: &mut PgConnection) -> Vec<String> {
    sql::<Text>("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
        .load(conn)
        .unwrap()
}

/// Two sessions, and an index. The first one keeps a concurrent index from being finished.
fn kept_from_being_finished() -> (TestDatabase, PgConnection, PgConnection) {
    let (database, mut writer, conn) = two_sessions(TestDatabase::new().unwrap());
    writer.batch_execute(TABLE).unwrap();
    writer
        .batch_execute("CREATE INDEX accounts_owner ON accounts (owner)")
        .unwrap();
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    (database, writer, conn)
}

#[test]
fn what_was_half_built_under_a_name_that_the_server_gave_is_found_and_not_built_again() {
    for (sql, left) in [
        (
            "CREATE INDEX CONCURRENTLY ON accounts (owner)",
            "accounts_owner_idx",
        ),
        (
            "REINDEX INDEX CONCURRENTLY accounts_owner",
            "accounts_owner_ccnew",
        ),
    ] {
        let (_database, mut writer, mut conn) = kept_from_being_finished();
        conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
        let error = thrice().run_pending(&mut conn, &outside(sql)).unwrap_err();
        assert!(
            matches!(error, MigrateError::LeftoverIndex { .. }),
            "{sql}: {error:?}"
        );
        assert_eq!(invalid(&mut conn), [left]);
        writer.batch_execute("ROLLBACK").unwrap();
        thrice()
            .drop_invalid_indexes(true)
            .run_pending(&mut conn, &outside(sql))
            .unwrap();
        assert!(invalid(&mut conn).is_empty(), "{sql}");
    }
}

#[test]
fn it_is_found_after_a_run_that_was_interrupted_too() {
    let sql = "CREATE INDEX CONCURRENTLY ON accounts (owner)";
    let (database, mut writer, mut conn) = kept_from_being_finished();
    let pid = backend_pid(&mut conn);
    thread::scope(|scope| {
        let building = scope.spawn(move || thrice().run_pending(&mut conn, &outside(sql)));
        let observer = &mut connect(&database);
        eventually(|| exists(observer, "accounts_owner_idx"));
        terminate(&database, pid);
        building.join().unwrap().unwrap_err();
    });
    writer.batch_execute("COMMIT").unwrap();
    let error = thrice()
        .run_pending(&mut writer, &outside(sql))
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::LeftoverIndex { .. }),
        "{error:?}"
    );
    thrice()
        .drop_invalid_indexes(true)
        .run_pending(&mut writer, &outside(sql))
        .unwrap();
    assert!(invalid(&mut writer).is_empty());
}

#[test]
fn a_call_that_commits_is_not_repeated_below_a_comment_either() {
    for sql in [
        "-- Your SQL goes here\nCALL fill_in()",
        "/* fill in */ CALL fill_in();\n",
        "-- Your SQL goes here\nCALL fill_in();\n",
    ] {
        let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
        holder.batch_execute(TABLE).unwrap();
        holder
            .batch_execute(
                "CREATE TABLE log (n int); CREATE PROCEDURE fill_in() LANGUAGE plpgsql AS $$ \
                 BEGIN INSERT INTO log VALUES (1); COMMIT; \
                 ALTER TABLE accounts ADD COLUMN a int; END $$",
            )
            .unwrap();
        holder
            .batch_execute("BEGIN; SELECT * FROM accounts")
            .unwrap();
        conn.batch_execute("SET lock_timeout = '10ms'").unwrap();
        thrice().run_pending(&mut conn, &outside(sql)).unwrap_err();
        let done: i64 = diesel::dsl::sql::<BigInt>("SELECT count(*) FROM log")
            .get_result(&mut conn)
            .unwrap();
        assert_eq!(done, 1, "{sql}");
    }
}

#[test]
fn a_concurrent_index_below_a_comment_is_tried_again() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    holder.batch_execute(TABLE).unwrap();
    holder
        .batch_execute("BEGIN; LOCK TABLE accounts IN SHARE MODE")
        .unwrap();
    conn.batch_execute("SET lock_timeout = '10ms'").unwrap();
    let index = outside("-- Your SQL goes here\nCREATE INDEX CONCURRENTLY i ON accounts (id);\n");
    let error = thrice().run_pending(&mut conn, &index).unwrap_err();
    assert!(
        matches!(error, MigrateError::Failed { attempts: 3, .. }),
        "{error:?}"
    );
}

#[test]
fn an_index_of_another_schema_is_left_alone_when_the_first_lock_is_refused_too() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute(
        "CREATE SCHEMA here; CREATE TABLE here.accounts (id int, owner text); \
         INSERT INTO here.accounts VALUES (1, 'x'), (2, 'x'); \
         CREATE SCHEMA there; CREATE TABLE there.accounts (id int, owner text)",
    )
    .unwrap();
    conn.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY accounts_owner ON here.accounts (owner)")
        .unwrap_err();
    holder
        .batch_execute("BEGIN; LOCK TABLE there.accounts IN SHARE MODE")
        .unwrap();
    conn.batch_execute("SET search_path = there; SET lock_timeout = '10ms'")
        .unwrap();
    let index = outside("CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)");
    let error = thrice()
        .drop_invalid_indexes(true)
        .run_pending(&mut conn, &index)
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::Failed { attempts: 3, .. }),
        "{error:?}"
    );
    assert!(exists(&mut conn, "here.accounts_owner"));
}

#[test]
fn a_name_that_the_server_has_cut_within_a_letter_is_found() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(TABLE).unwrap();
    conn.batch_execute("INSERT INTO accounts VALUES (1, 'x'), (2, 'x')")
        .unwrap();
    for name in ["a€".repeat(20), "ä".repeat(40)] {
        let unique =
            format!("CREATE UNIQUE INDEX CONCURRENTLY IF NOT EXISTS {name} ON accounts (owner)");
        conn.batch_execute(&unique).unwrap_err();
        let error = thrice()
            .run_pending(&mut conn, &outside(&unique))
            .unwrap_err();
        assert!(
            matches!(error, MigrateError::LeftoverIndex { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn an_index_that_is_being_built_below_a_long_comment_is_left_alone() {
    let (database, mut builder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    run(&mut conn, &All(vec![]));
    conn.batch_execute(TABLE).unwrap();
    let mut writer = connect(&database);
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    let index = "CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)";
    // Longer than what the server shows of a statement.
    let commented = format!("/* {} */ {index}", "A long story. ".repeat(200));
    thread::scope(|scope| {
        let building = scope.spawn(move || builder.batch_execute(&commented));
        eventually(|| exists(&mut conn, "accounts_owner"));
        conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
        let error = thrice().run_pending(&mut conn, &outside(index));
        writer.batch_execute("COMMIT").unwrap();
        building.join().unwrap().unwrap();
        assert!(
            matches!(error, Err(MigrateError::Failed { attempts: 3, .. })),
            "{error:?}"
        );
        assert!(is_valid(&mut conn, "accounts_owner"));
    });
}

#[test]
fn what_a_reindex_of_a_whole_schema_has_left_is_found() {
    let (_database, mut other, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute("CREATE TABLE accounts (id int); CREATE INDEX accounts_id ON accounts (id)")
        .unwrap();
    run(&mut conn, &All(vec![]));
    // The reindex waits for this one, once the new index is there.
    other
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1)")
        .unwrap();
    conn.batch_execute("SET statement_timeout = '300ms'")
        .unwrap();
    let reindex = outside("REINDEX SCHEMA CONCURRENTLY public");
    let error = MigrationLock::new()
        .run_pending(&mut conn, &reindex)
        .unwrap_err();
    let MigrateError::LeftoverIndex { indexes, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(indexes[0].index, "public.accounts_id_ccnew");
    other.batch_execute("COMMIT").unwrap();
    conn.batch_execute("RESET statement_timeout").unwrap();
    MigrationLock::new()
        .drop_invalid_indexes(true)
        .run_pending(&mut conn, &reindex)
        .unwrap();
    assert!(is_valid(&mut conn, "accounts_id") && !exists(&mut conn, "accounts_id_ccnew"));
}
