//! An index that is not what the migration has left is not touched.

use std::sync::Mutex;
use std::thread;

use diesel::connection::SimpleConnection;
use diesel_locks::{MigrateError, MigrationLock, Retry};
use diesel_locks_harness::TestDatabase;

use super::fixture::{INDEX, index, interrupt, invalid, leave_invalid, thrice};
use crate::code::Code;
use crate::fixture::{ACCOUNTS, All, Sql, exists, is_valid, leave_note, outside, run};
use crate::support::{connect, eventually, two_sessions};

#[test]
fn an_invalid_index_of_another_table_is_left_alone() {
    let database = TestDatabase::new().unwrap();
    interrupt(&database, &index(INDEX));
    let mut conn = connect(&database);
    let other = All(vec![
        Sql::new("1", ""),
        Sql::new("3", "CREATE TABLE jobs (id int)"),
        Sql::new("4", "CREATE INDEX CONCURRENTLY jobs_id ON jobs (id)").outside(),
    ]);
    let lock = MigrationLock::new().drop_invalid_indexes(true);
    assert_eq!(lock.run_pending(&mut conn, &other).unwrap().len(), 2);
    assert!(exists(&mut conn, "accounts_owner") && !is_valid(&mut conn, "accounts_owner"));
}

#[test]
fn an_invalid_index_of_the_same_name_in_another_schema_is_left_alone() {
    for search_path in ["there", "public"] {
        let database = TestDatabase::new().unwrap();
        let mut conn = connect(&database);
        conn.batch_execute(
            "CREATE SCHEMA here; CREATE TABLE here.accounts (id int, owner text); \
             CREATE SCHEMA there; CREATE TABLE there.accounts (id int, owner text)",
        )
        .unwrap();
        leave_invalid(&mut conn, "accounts_owner", "here.accounts");
        conn.batch_execute(&format!("SET search_path = {search_path}"))
            .unwrap();
        let index = outside("CREATE INDEX CONCURRENTLY accounts_owner ON there.accounts (owner)");
        let lock = MigrationLock::new().drop_invalid_indexes(true);
        lock.run_pending(&mut conn, &index).unwrap();
        assert!(exists(&mut conn, "here.accounts_owner"));
        assert!(is_valid(&mut conn, "there.accounts_owner"));
    }
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
fn an_index_that_is_being_built_by_somebody_else_is_left_alone() {
    let (database, mut builder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    let mut writer = connect(&database);
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    thread::scope(|scope| {
        let building = scope.spawn(move || builder.batch_execute(INDEX));
        eventually(|| exists(&mut conn, "accounts_owner"));
        // Whoever waits for its table gives up first.
        conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
        let lock = MigrationLock::new()
            .drop_invalid_indexes(true)
            .attempts(Retry::new().attempts(1));
        let error = lock.run_pending(&mut conn, &index(INDEX)).unwrap_err();
        assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
        writer.batch_execute("COMMIT").unwrap();
        building.join().unwrap().unwrap();
        assert!(is_valid(&mut conn, "accounts_owner"));
    });
}

#[test]
fn an_index_that_is_being_built_below_a_long_comment_is_left_alone() {
    let (database, mut builder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    run(&mut conn, &All(vec![]));
    conn.batch_execute(ACCOUNTS).unwrap();
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
fn an_invalid_index_that_somebody_else_leaves_meanwhile_is_left_alone() {
    for (sql, left) in [
        ("REINDEX INDEX CONCURRENTLY jobs_id", "accounts_owner"),
        (
            "CREATE INDEX CONCURRENTLY jobs_id_2 ON jobs (id)",
            "accounts_owner_ccnew",
        ),
    ] {
        let (_database, other, mut conn) = two_sessions(TestDatabase::new().unwrap());
        conn.batch_execute(ACCOUNTS).unwrap();
        conn.batch_execute("CREATE TABLE jobs (id int); CREATE INDEX jobs_id ON jobs (id)")
            .unwrap();
        let other = Mutex::new(other);
        let index = Code::new(move |conn| {
            conn.batch_execute(sql)?;
            leave_invalid(&mut other.lock().unwrap(), left, "accounts");
            Ok(())
        });
        MigrationLock::new()
            .drop_invalid_indexes(true)
            .run_pending(&mut conn, &index)
            .unwrap();
        assert_eq!(invalid(&mut conn), [left]);
    }
}

#[test]
fn a_valid_index_from_before_an_interrupted_run_or_of_another_schema_is_left_alone() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(vec![]));
    conn.batch_execute(ACCOUNTS).unwrap();
    conn.batch_execute(
        "CREATE INDEX first ON accounts (id); CREATE SCHEMA there; CREATE TABLE there.a (id int)",
    )
    .unwrap();
    leave_note(&mut conn, "2", &["first"]);
    conn.batch_execute("CREATE INDEX first ON there.a (id)")
        .unwrap();
    let error = MigrationLock::new()
        .drop_invalid_indexes(true)
        .run_pending(
            &mut conn,
            &outside("CREATE INDEX first ON accounts (id); SELECT 1"),
        )
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error:?}");
    assert!(exists(&mut conn, "first") && exists(&mut conn, "there.first"));
}
