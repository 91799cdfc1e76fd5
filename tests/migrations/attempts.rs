//! Migrations that wait for a lock, briefly and often.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::{Condition, MigrateError, MigrationEvent, MigrationLock, Retry};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, applied, exists, has_note, kinds, run};
use crate::support::{backend_pid, connect, lock_timeout, two_sessions};

const BRIEFLY: Duration = Duration::from_millis(20);

fn soon(attempts: u32) -> Retry {
    Retry::new()
        .attempts(attempts)
        .backoff(Duration::from_millis(1), Duration::from_millis(5))
}

/// A database with two tables, one of which references the other.
fn tables() -> (TestDatabase, PgConnection, PgConnection) {
    let (database, mut here, there) = two_sessions(TestDatabase::new().unwrap());
    here.batch_execute(
        "CREATE TABLE accounts (id int PRIMARY KEY, owner text); \
         CREATE TABLE jobs (id int PRIMARY KEY, account int REFERENCES accounts)",
    )
    .unwrap();
    (database, here, there)
}

fn add_a_column() -> All {
    All::of([("1", "ALTER TABLE accounts ADD COLUMN email text")])
}

#[test]
fn a_migration_is_tried_again_until_it_gets_through() {
    let (_database, mut holder, mut conn) = tables();
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
fn each_refusal_says_who_was_in_the_way() {
    let (_database, mut holder, mut conn) = tables();
    let pid = backend_pid(&mut holder);
    holder
        .batch_execute("SET application_name = 'reports'; BEGIN; SELECT * FROM accounts")
        .unwrap();
    let mut refusals = Vec::new();
    let error = MigrationLock::new()
        .lock_timeout(BRIEFLY)
        .attempts(soon(2))
        .on_progress(|event| {
            if let MigrationEvent::Refused { in_the_way, .. } = event {
                refusals.push((in_the_way.clone(), event.to_string()));
            }
        })
        .run_pending(&mut conn, &add_a_column())
        .unwrap_err();
    let [(sessions, line)] = &refusals[..] else {
        panic!("{refusals:?}");
    };
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0].pid, pid);
    assert!(sessions[0].age.unwrap() >= BRIEFLY);
    assert_eq!(
        sessions[0].query.as_deref(),
        Some("SET application_name = 'reports'; BEGIN; SELECT * FROM accounts")
    );
    assert!(
        line.contains(&format!("in the way: pid {pid} (reports")),
        "{line}"
    );

    // The last attempt's are in the error.
    assert_eq!(error.condition(), Some(Condition::Timeout));
    assert_eq!(diesel_locks::condition(&error), Some(Condition::Timeout));
    assert!(
        error
            .to_string()
            .starts_with("migration 1 failed 2 times; in the way: pid")
    );
    assert!(
        matches!(error, MigrateError::Failed { attempts: 2, in_the_way, .. } if in_the_way[0].pid == pid)
    );
}

#[test]
fn a_refusal_at_once_says_it_too_whenever_the_lock_was_taken() {
    let (_database, mut holder, mut conn) = tables();
    let pid = backend_pid(&mut holder);
    holder
        .batch_execute("BEGIN; SELECT * FROM accounts")
        .unwrap();
    let error = MigrationLock::new()
        .lock_timeout(Duration::from_secs(3_600))
        .attempts(soon(1))
        .run_pending(&mut conn, &All::of([("1", "LOCK TABLE accounts NOWAIT")]))
        .unwrap_err();
    assert_eq!(error.condition(), Some(Condition::NotAvailable));
    assert!(matches!(error, MigrateError::Failed { in_the_way, .. } if in_the_way[0].pid == pid));
}

#[test]
fn it_does_not_name_who_uses_other_tables() {
    let (database, mut holder, mut conn) = tables();
    holder.batch_execute("CREATE TABLE other (id int)").unwrap();
    let pid = backend_pid(&mut holder);
    let mut bystander = connect(&database);
    bystander
        .batch_execute("BEGIN; SELECT * FROM other")
        .unwrap();
    // Not named by the migration, but referenced by what it names.
    holder.batch_execute("BEGIN; LOCK TABLE accounts").unwrap();
    let migration = All::of([("1", "INSERT INTO jobs VALUES (1, 1)")]);
    let error = MigrationLock::new()
        .lock_timeout(BRIEFLY)
        .attempts(soon(1))
        .run_pending(&mut conn, &migration)
        .unwrap_err();
    let MigrateError::Failed { in_the_way, .. } = error else {
        panic!("{error}");
    };
    let pids: Vec<i32> = in_the_way.iter().map(|session| session.pid).collect();
    assert_eq!(pids, [pid]);
}

#[test]
fn between_two_attempts_nothing_is_locked() {
    let (database, mut holder, mut conn) = tables();
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
    assert!(!exists(&mut conn, "accounts_email"));
}

#[test]
fn both_limits_are_in_force_in_the_migration_and_put_back_after_it() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("SET lock_timeout = '7min'; SET statement_timeout = '9min'")
        .unwrap();
    let migration = All::of([(
        "1",
        "CREATE TABLE seen AS SELECT current_setting('lock_timeout') || ' ' || \
         current_setting('statement_timeout') AS limits",
    )]);
    let lock = MigrationLock::new()
        .lock_timeout(Duration::from_millis(1_234))
        .statement_timeout(Duration::from_secs(5));
    lock.run_pending(&mut conn, &migration).unwrap();
    let limits = |conn: &mut PgConnection| {
        sql::<Text>("SELECT limits FROM seen")
            .get_result::<String>(conn)
            .unwrap()
    };
    assert_eq!(limits(&mut conn), "1234ms 5s");
    assert_eq!(lock_timeout(&mut conn), "7min");

    // Inside the caller's transaction too, whose limits are its own.
    conn.transaction::<_, MigrateError, _>(|conn| {
        conn.batch_execute("SET LOCAL lock_timeout = '3min'")?;
        let again = All(vec![
            Sql::new("2", "DROP TABLE seen"),
            Sql::new("3", &migration.0[0].up),
        ]);
        lock.run_pending(conn, &again)?;
        assert_eq!(limits(conn), "1234ms 5s");
        assert_eq!(lock_timeout(conn), "3min");
        let fails = All::of([("4", "SELECT 1 / 0")]);
        lock.run_pending(conn, &fails).unwrap_err();
        assert_eq!(lock_timeout(conn), "3min");
        Ok(())
    })
    .unwrap();
    assert_eq!(lock_timeout(&mut conn), "7min");
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
    let (_database, mut holder, mut conn) = tables();
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
    let (_database, mut holder, mut conn) = tables();
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
    assert!(crate::fixture::is_valid(&mut conn, "accounts_owner"));
}

#[test]
fn the_lock_timeout_ends_no_concurrent_index_that_waits_for_a_transaction() {
    let (_database, mut writer, mut conn) = tables();
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    let index = All(vec![
        Sql::new(
            "1",
            "CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)",
        )
        .outside(),
    ]);
    let begun = Instant::now();
    let builder = thread::spawn(move || {
        MigrationLock::new()
            .lock_timeout(BRIEFLY)
            .run_pending(&mut conn, &index)
            .unwrap();
        conn
    });
    while begun.elapsed() < 10 * BRIEFLY {
        assert!(!builder.is_finished());
        thread::yield_now();
    }
    writer.batch_execute("COMMIT").unwrap();
    let mut conn = builder.join().unwrap();
    assert!(crate::fixture::is_valid(&mut conn, "accounts_owner"));
    assert!(run(&mut conn, &All(vec![])).is_empty());
}
