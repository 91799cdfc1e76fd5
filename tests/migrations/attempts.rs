//! Migrations that wait for a lock, briefly and often.

use std::sync::mpsc;
use std::time::Duration;
use std::{fs, panic, thread};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::{Condition, MigrateError, MigrationEvent, MigrationLock};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::FileBasedMigrations;

use crate::fixture::{
    ACCOUNTS, All, BRIEFLY, Sql, accounts_and_jobs, add_a_column, applied, exists, has_note,
    is_valid, kinds, outside, soon,
};
use crate::support::directory::Directory;
use crate::support::{connect, two_sessions};

#[test]
fn a_migration_is_tried_again_until_it_gets_through() {
    let (_database, mut holder, mut conn) = accounts_and_jobs();
    holder
        .batch_execute("BEGIN; SELECT * FROM accounts")
        .unwrap();
    let (refused, is_refused) = mpsc::channel();
    let run = thread::spawn(move || {
        let mut events = Vec::new();
        let done = MigrationLock::new()
            .lock_timeout(BRIEFLY)
            .attempts(soon(10_000))
            .on_progress(|event| {
                if let MigrationEvent::Refused { attempt, .. } = event {
                    refused.send(*attempt).unwrap();
                }
                events.push(event.clone());
            })
            .run_pending(&mut conn, &add_a_column());
        done.map(|done| (done.len(), events))
    });
    // Three attempts have failed, and the next one may.
    assert!(is_refused.iter().any(|attempt| attempt == 3));
    holder.batch_execute("COMMIT").unwrap();
    let (done, events) = run.join().unwrap().unwrap();
    assert_eq!(done, 1);
    let kinds = kinds(&events);
    assert_eq!(
        kinds[..5],
        ["locked", "began", "refused", "refused", "refused"]
    );
    assert_eq!(kinds.last(), Some(&"done"));
}

#[test]
fn between_two_attempts_nothing_is_locked() {
    let (database, mut holder, mut conn) = accounts_and_jobs();
    holder.batch_execute("BEGIN; LOCK TABLE jobs").unwrap();
    let migration = All::of([(
        "1",
        "ALTER TABLE accounts ADD COLUMN email text; ALTER TABLE jobs ADD COLUMN kind text",
    )]);
    let mut other = connect(&database);
    other.batch_execute("SET lock_timeout = '1ms'").unwrap();
    let error = MigrationLock::new()
        .lock_timeout(BRIEFLY)
        .attempts(soon(4))
        .on_progress(|event| {
            if let MigrationEvent::Refused { .. } = event {
                other.batch_execute("SELECT * FROM accounts").unwrap();
            }
        })
        .run_pending(&mut conn, &migration)
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::Failed { attempts: 4, .. }),
        "{error}"
    );
    let email: i64 = sql::<BigInt>("SELECT count(*) FROM pg_attribute WHERE attname = 'email'")
        .get_result(&mut conn)
        .unwrap();
    assert_eq!(email, 0);
}

#[test]
fn migrations_in_files_whose_errors_have_no_source_are_tried_again_too() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    let directory = Directory::new("migrations");
    let migration = directory.0.join("1_alter");
    fs::create_dir(&migration).unwrap();
    fs::write(migration.join("up.sql"), "ALTER TABLE a ADD COLUMN b int").unwrap();
    holder.batch_execute("CREATE TABLE a (id int)").unwrap();
    holder.batch_execute("BEGIN; SELECT * FROM a").unwrap();
    let mut refused = 0;
    let error = MigrationLock::new()
        .lock_timeout(Duration::from_millis(10))
        .attempts(soon(3))
        .on_progress(|event| refused += i32::from(matches!(event, MigrationEvent::Refused { .. })))
        .run_pending(
            &mut conn,
            FileBasedMigrations::from_path(&directory.0).unwrap(),
        )
        .unwrap_err();
    assert_eq!(refused, 2);
    assert_eq!(error.condition(), Some(Condition::Timeout));
    assert_eq!(diesel_locks::condition(&error), Some(Condition::Timeout));
    let boxed: Box<dyn std::error::Error + Send + Sync> = error.into();
    assert!(diesel_locks::is_contention(&*boxed));
}

#[test]
fn a_statement_that_takes_too_long_is_not_tried_again() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let error = MigrationLock::new()
        .statement_timeout(BRIEFLY)
        .run_pending(&mut conn, &All::of([("1", "SELECT pg_sleep(60)")]))
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { attempts: 1, .. }));
    assert_eq!(error.condition(), Some(Condition::StatementTimeout));
}

#[test]
fn a_failure_for_another_reason_is_not_tried_again() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let lock = MigrationLock::new().lock_timeout(BRIEFLY);
    let error = lock
        .run_pending(&mut conn, &All::of([("1", "SELECT 1 / 0")]))
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { attempts: 1, .. }));
    assert_eq!(error.condition(), None);
}

#[test]
fn inside_a_transaction_only_what_a_savepoint_takes_back_is_tried_again() {
    let (_database, mut holder, mut conn) = accounts_and_jobs();
    holder
        .batch_execute("BEGIN; SELECT * FROM accounts")
        .unwrap();
    let mut attempts = 0;
    conn.transaction::<_, MigrateError, _>(|conn| {
        conn.batch_execute("CREATE TABLE mine (id int)")?;
        let lock = MigrationLock::new()
            .lock_timeout(BRIEFLY)
            .attempts(soon(9))
            .on_progress(|event| {
                if let MigrationEvent::Refused { attempt, .. } = event {
                    attempts = *attempt;
                    if *attempt == 2 {
                        holder.batch_execute("COMMIT").unwrap();
                    }
                }
            });
        lock.run_pending(conn, &add_a_column())?;
        Ok(())
    })
    .unwrap();
    assert_eq!(attempts, 2);
    assert!(exists(&mut conn, "mine"));
    assert_eq!(applied(&mut conn), ["1"]);
}

#[test]
fn what_ends_a_whole_transaction_is_tried_again_only_with_it() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let fails = "DO $$ BEGIN RAISE 'not this time' USING ERRCODE = '40001'; END $$";
    let fails = All::of([("1", fails)]);
    let lock = MigrationLock::new().attempts(soon(3));
    let attempts = |error| match error {
        MigrateError::Failed { attempts, .. } => attempts,
        error => panic!("{error}"),
    };
    let error = lock.run_pending(&mut conn, &fails).unwrap_err();
    assert_eq!(attempts(error), 3);
    conn.transaction::<_, MigrateError, _>(|conn| {
        let error = lock.run_pending(conn, &fails).unwrap_err();
        assert_eq!(attempts(error), 1);
        Ok(())
    })
    .unwrap();
}

#[test]
fn outside_a_transaction_it_is_tried_again_if_the_first_lock_was_refused() {
    let (_database, mut holder, mut conn) = accounts_and_jobs();
    holder
        .batch_execute("BEGIN; LOCK TABLE accounts IN SHARE MODE")
        .unwrap();
    // The session's own limit: none is set for what runs outside a transaction.
    conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
    let index = All(vec![
        Sql::new(
            "1",
            "CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)",
        )
        .outside(),
    ]);
    let mut refused = 0;
    MigrationLock::new()
        .attempts(soon(1_000))
        .on_progress(|event| {
            if let MigrationEvent::Refused { attempt, .. } = event {
                refused = *attempt;
                // The next attempt may be interrupted.
                assert!(has_note(&mut holder));
                if refused == 2 {
                    holder.batch_execute("COMMIT").unwrap();
                }
            }
        })
        .run_pending(&mut conn, &index)
        .unwrap();
    assert_eq!(refused, 2);
    assert!(is_valid(&mut conn, "accounts_owner"));
}

#[test]
fn a_concurrent_index_below_a_comment_is_tried_again() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    holder.batch_execute(ACCOUNTS).unwrap();
    holder
        .batch_execute("BEGIN; LOCK TABLE accounts IN SHARE MODE")
        .unwrap();
    conn.batch_execute("SET lock_timeout = '10ms'").unwrap();
    let index = outside("-- Your SQL goes here\nCREATE INDEX CONCURRENTLY i ON accounts (id);\n");
    let error = MigrationLock::new()
        .attempts(soon(3))
        .run_pending(&mut conn, &index)
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::Failed { attempts: 3, .. }),
        "{error:?}"
    );
}

#[test]
fn what_has_committed_a_part_of_its_work_is_not_repeated_when_a_later_lock_is_refused() {
    for repeats in [
        "INSERT INTO log VALUES (1); COMMIT; ALTER TABLE accounts ADD COLUMN a int",
        "DO $$ BEGIN INSERT INTO log VALUES (1); COMMIT; \
         ALTER TABLE accounts ADD COLUMN a int; END $$",
        "CALL fill_in()",
        "-- Your SQL goes here\nCALL fill_in();\n",
        "/* fill in */ CALL fill_in();\n",
    ] {
        let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
        holder.batch_execute(ACCOUNTS).unwrap();
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
            .attempts(soon(3))
            .run_pending(&mut conn, &outside(repeats))
            .unwrap_err();
        assert!(
            matches!(error, MigrateError::Failed { attempts: 1, .. }),
            "{error:?}"
        );
        let done: i64 = sql::<BigInt>("SELECT count(*) FROM log")
            .get_result(&mut conn)
            .unwrap();
        assert_eq!(done, 1, "{repeats}");
    }
}
