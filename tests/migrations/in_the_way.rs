//! Who was in the way of an attempt.

use std::panic;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{Condition, MigrateError, MigrationEvent, MigrationLock, Retry};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{ACCOUNTS, All, BRIEFLY, accounts_and_jobs, add_a_column, exists, run, soon};
use crate::support::{backend_pid, connect, two_sessions};

#[test]
fn each_refusal_says_who_was_in_the_way() {
    let (_database, mut holder, mut conn) = accounts_and_jobs();
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
fn a_refusal_at_once_says_who_was_in_the_way_whenever_the_lock_was_taken() {
    let (_database, mut holder, mut conn) = accounts_and_jobs();
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
fn a_refusal_does_not_name_who_uses_other_tables() {
    let (database, mut holder, mut conn) = accounts_and_jobs();
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
fn who_is_in_the_way_is_asked_without_harm_to_the_callers_transaction() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute(ACCOUNTS).unwrap();
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
                    .attempts(soon(2))
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
fn a_limit_that_was_not_reached_names_who_is_in_the_way_and_spares_the_callers_transaction() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    holder.batch_execute("CREATE TABLE a (id int)").unwrap();
    holder.batch_execute("BEGIN; SELECT * FROM a").unwrap();
    let migrations = All::of([("1", "SET LOCAL lock_timeout = '10ms'; LOCK TABLE a")]);
    for limit in [Duration::from_secs(3_600), Duration::MAX] {
        conn.batch_execute("DROP TABLE IF EXISTS kept").unwrap();
        conn.transaction::<_, diesel::result::Error, _>(|conn| {
            conn.batch_execute("CREATE TABLE kept (id int)")?;
            let error = MigrationLock::new()
                .lock_timeout(limit)
                .attempts(Retry::new().attempts(0))
                .run_pending(conn, &migrations)
                .unwrap_err();
            let MigrateError::Failed {
                in_the_way,
                attempts: 1,
                ..
            } = &error
            else {
                panic!("{error:?}");
            };
            assert_eq!(in_the_way.len(), 1, "{error}");
            conn.batch_execute("SELECT 1")
        })
        .unwrap();
        assert!(exists(&mut conn, "kept"));
    }
}
