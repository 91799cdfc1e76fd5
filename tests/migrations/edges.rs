//! What migrations run into that several applications, schemas and statements share.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Mutex;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::{MigrateError, MigrationLock, Retry};
use diesel_locks_harness::TestDatabase;

use crate::code::Code;
use crate::fixture::{All, applied, exists, is_valid, leave_note, outside, run};
use crate::support::{advisory_locks, connect, two_sessions};

const TABLE: &str = "CREATE TABLE accounts (id int PRIMARY KEY, owner text)";

fn count(conn: &mut PgConnection, from: &str) -> i64 {
    sql::<BigInt>(&format!("SELECT count(*) FROM {from}"))
        .get_result(conn)
        .unwrap()
}

/// Leaves an invalid index, as a failed `CREATE INDEX CONCURRENTLY` does.
fn leave_invalid(conn: &mut PgConnection, index: &str, table: &str) {
    conn.batch_execute(&format!("INSERT INTO {table} VALUES (-1, 'x'), (-2, 'x')"))
        .unwrap();
    conn.batch_execute(&format!(
        "CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} (owner)"
    ))
    .unwrap_err();
    conn.batch_execute(&format!("DELETE FROM {table}")).unwrap();
}

#[test]
fn what_has_committed_a_part_of_its_work_is_not_repeated_when_a_later_lock_is_refused() {
    for repeats in [
        "INSERT INTO log VALUES (1); COMMIT; ALTER TABLE accounts ADD COLUMN a int",
        "DO $$ BEGIN INSERT INTO log VALUES (1); COMMIT; \
         ALTER TABLE accounts ADD COLUMN a int; END $$",
        "CALL fill_in()",
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
        let error = MigrationLock::new()
            .attempts(
                Retry::new()
                    .attempts(3)
                    .backoff(Duration::ZERO, Duration::ZERO),
            )
            .run_pending(&mut conn, &outside(repeats))
            .unwrap_err();
        assert!(
            matches!(error, MigrateError::Failed { attempts: 1, .. }),
            "{error:?}"
        );
        assert_eq!(count(&mut conn, "log"), 1, "{repeats}");
    }
}

#[test]
fn a_migration_of_which_an_interrupted_run_did_a_part_is_not_recorded_for_it() {
    let half =
        "CREATE INDEX first ON accounts (id); COMMIT; CREATE INDEX second ON accounts (owner)";
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(vec![]));
    conn.batch_execute(TABLE).unwrap();
    leave_note(&mut conn, "2", &[]);
    conn.batch_execute("CREATE INDEX first ON accounts (id)")
        .unwrap();
    MigrationLock::new()
        .run_pending(&mut conn, &outside(half))
        .unwrap_err();
    assert!(applied(&mut conn).is_empty());
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
fn an_invalid_index_in_the_schema_that_the_sql_names_is_found() {
    for sql in [
        "CREATE INDEX CONCURRENTLY accounts_owner ON there.accounts (owner)",
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_owner ON \"there\".accounts (owner)",
    ] {
        let database = TestDatabase::new().unwrap();
        let mut conn = connect(&database);
        conn.batch_execute("CREATE SCHEMA there; CREATE TABLE there.accounts (id int, owner text)")
            .unwrap();
        leave_invalid(&mut conn, "accounts_owner", "there.accounts");
        let error = MigrationLock::new()
            .run_pending(&mut conn, &outside(sql))
            .unwrap_err();
        assert!(
            matches!(error, MigrateError::LeftoverIndex { .. }),
            "{error:?}"
        );
    }
}

#[test]
fn an_invalid_index_is_found_whatever_stands_around_its_name() {
    let long = "accounts_owner_".repeat(5);
    let comment = "-- the 3.5\" one\nCREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_owner \
                   ON accounts (owner)";
    let truncated = format!("CREATE INDEX CONCURRENTLY IF NOT EXISTS {long} ON accounts (owner)");
    let spaced = "CREATE INDEX CONCURRENTLY IF NOT EXISTS \"an Index\" ON accounts (owner)";
    for (name, sql) in [
        ("accounts_owner", comment),
        (&*long, &*truncated),
        ("\"an Index\"", spaced),
    ] {
        let database = TestDatabase::new().unwrap();
        let mut conn = connect(&database);
        conn.batch_execute(TABLE).unwrap();
        leave_invalid(&mut conn, name, "accounts");
        let done = MigrationLock::new().run_pending(&mut conn, &outside(sql));
        assert!(
            matches!(done, Err(MigrateError::LeftoverIndex { .. })),
            "{sql}: {done:?}"
        );
    }
}

#[test]
fn an_invalid_index_is_found_although_its_table_is_being_vacuumed() {
    let (_database, other, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute(TABLE).unwrap();
    leave_invalid(&mut conn, "accounts_owner", "accounts");
    // VACUUM and ANALYZE have such a lock, and take it as soon as it is free.
    let other = Mutex::new(other);
    let index = Code::new(move |conn| {
        conn.batch_execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_owner ON accounts (owner)",
        )?;
        let mut other = other.lock().unwrap();
        Ok(other.batch_execute("BEGIN; LOCK TABLE accounts IN SHARE UPDATE EXCLUSIVE MODE")?)
    });
    let done = MigrationLock::new().run_pending(&mut conn, &index);
    assert!(
        matches!(done, Err(MigrateError::LeftoverIndex { .. })),
        "{done:?}"
    );
}

#[test]
fn a_concurrent_drop_that_left_its_index_is_done_once_that_is_cleared_away() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute(TABLE).unwrap();
    conn.batch_execute("CREATE INDEX accounts_owner ON accounts (owner)")
        .unwrap();
    holder
        .batch_execute("BEGIN; SELECT * FROM accounts")
        .unwrap();
    conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
    let holder = Mutex::new(holder);
    // Whoever was in the way is gone by the time that the index is cleared away.
    let drops = Code::new(move |conn| {
        let done = conn.batch_execute("DROP INDEX CONCURRENTLY accounts_owner");
        holder.lock().unwrap().batch_execute("ROLLBACK").unwrap();
        Ok(done?)
    });
    let done = MigrationLock::new()
        .drop_invalid_indexes(true)
        .run_pending(&mut conn, &drops);
    assert!(!exists(&mut conn, "accounts_owner"));
    assert_eq!(done.unwrap().len(), 1);
}

#[test]
fn a_lock_that_goes_with_the_callers_transaction_ends_the_run_before_the_next_migration() {
    let (_database, mut conn, mut other) = two_sessions(TestDatabase::new().unwrap());
    conn.begin_test_transaction().unwrap();
    let migrations = All::of([
        ("1", "CREATE TABLE a (id int); COMMIT"),
        ("2", "CREATE TABLE b (id int)"),
        ("3", "CREATE TABLE c (id int)"),
    ]);
    MigrationLock::new()
        .run_pending(&mut conn, &migrations)
        .unwrap_err();
    assert!(!exists(&mut other, "b") && !exists(&mut other, "c"));
}

#[test]
fn who_is_in_the_way_is_asked_without_harm_to_the_callers_transaction() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute(TABLE).unwrap();
    conn.batch_execute(
        "CREATE SCHEMA secret; CREATE TABLE secret.a (); CREATE ROLE nobody_at_all; \
         GRANT ALL ON accounts TO nobody_at_all; GRANT ALL ON SCHEMA public TO nobody_at_all",
    )
    .unwrap();
    run(&mut conn, &All(vec![]));
    conn.batch_execute("GRANT ALL ON __diesel_schema_migrations TO nobody_at_all")
        .unwrap();
    holder
        .batch_execute("BEGIN; LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE")
        .unwrap();
    for up in [
        "/* not secret.a */ LOCK TABLE accounts",
        "LOCK TABLE accounts NOWAIT",
    ] {
        for lock_timeout in [Duration::from_millis(10), Duration::MAX] {
            if lock_timeout == Duration::MAX && !up.contains("NOWAIT") {
                continue;
            }
            conn.transaction::<_, diesel::result::Error, _>(|conn| {
                conn.batch_execute("SET LOCAL ROLE nobody_at_all")?;
                let error = MigrationLock::new()
                    .lock_timeout(lock_timeout)
                    .attempts(
                        Retry::new()
                            .attempts(2)
                            .backoff(Duration::ZERO, Duration::ZERO),
                    )
                    .run_pending(conn, &All::of([("1", up)]))
                    .unwrap_err();
                assert!(
                    matches!(error, MigrateError::Failed { attempts: 2, .. }),
                    "{error:?}"
                );
                // It is still usable.
                conn.batch_execute("SELECT 1")
            })
            .unwrap();
        }
    }
    conn.batch_execute("DROP OWNED BY nobody_at_all; DROP ROLE nobody_at_all")
        .unwrap();
}

#[test]
fn a_panic_outside_a_transaction_lets_the_lock_go_and_the_next_run_go_on() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let panics = Code::new(|conn| {
        conn.batch_execute("CREATE TABLE a (id int)")?;
        panic!("half way");
    });
    let run_it = || {
        MigrationLock::new()
            .run_pending(&mut here, &panics)
            .map(drop)
    };
    panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(run(&mut there, &outside("SELECT 1")), ["2"]);
    assert!(run(&mut here, &outside("SELECT 1")).is_empty());
}
