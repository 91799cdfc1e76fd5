//! The lock itself: who waits for whom, and for how long.

use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{BigInt, Text};
use diesel_locks::prelude::*;
use diesel_locks::{Condition, MigrateError, MigrationEvent, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, applied, exists, kinds, run, two_tables};
use crate::support::{advisory_locks, backend_pid, connect, eventually, is_blocked, two_sessions};

#[test]
fn pending_migrations_are_applied_once_and_the_lock_is_let_go() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut events = Vec::new();
    let lock = MigrationLock::new().on_progress(|event| events.push(event.clone()));
    let done = lock.run_pending(&mut here, &two_tables()).unwrap();
    assert_eq!(done, ["1".into(), "2".into()]);
    drop(lock);
    assert_eq!(kinds(&events), ["locked", "began", "done", "began", "done"]);
    assert_eq!(events[3].to_string(), "running migration 2 of 2: 2");
    assert_eq!(advisory_locks(&database), 0);
    assert!(run(&mut there, &two_tables()).is_empty());
    assert_eq!(applied(&mut there), ["1", "2"]);
}

#[test]
fn who_finds_nothing_to_do_says_so() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &two_tables());
    let mut lines = Vec::new();
    MigrationLock::new()
        .on_progress(|event| lines.push(event.to_string()))
        .run_pending(&mut conn, &two_tables())
        .unwrap();
    assert_eq!(lines[1..], ["no migration is pending"]);
}

#[test]
fn the_key_is_the_one_that_sql_derives_from_the_database_and_the_name() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    for (name, text) in [("", ""), ("billing", ": billing")] {
        let key: i64 = sql::<BigInt>(&format!(
            "SELECT ('x' || encode(substr(sha256(convert_to(\
             'migrations of ' || current_database() || '{text}', 'UTF8')), 1, 8), 'hex'))\
             ::bit(64)::bigint"
        ))
        .get_result(&mut here)
        .unwrap();
        let guard = here.advisory_lock(key).unwrap();
        let lock = MigrationLock::new().name(name).timeout(Duration::ZERO);
        let refused = lock.run_pending(&mut there, &two_tables()).unwrap_err();
        assert!(
            matches!(&refused, MigrateError::Timeout { .. }),
            "{refused}"
        );
        guard.release().unwrap();
    }
    // Two applications wait for each other only where they want to.
    let other: String = sql::<Text>("SELECT current_database()::text")
        .get_result(&mut here)
        .unwrap();
    let guard = here
        .advisory_lock(format!("migrations of {other}: billing"))
        .unwrap();
    assert_eq!(run(&mut there, &two_tables()).len(), 2);
    drop(guard);
    drop(database);
}

#[test]
fn a_wait_has_a_limit_whose_error_names_the_holder() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    here.batch_execute("SET application_name = 'billing'")
        .unwrap();
    let pid = backend_pid(&mut here);
    let name: String = sql::<Text>("SELECT 'migrations of ' || current_database()")
        .get_result(&mut here)
        .unwrap();
    let mut holder = here.advisory_lock(&*name).unwrap();
    holder.batch_execute("SELECT 'what it runs'").unwrap();
    let mut waits = 0;
    let begun = Instant::now();
    let error = MigrationLock::new()
        .timeout(Duration::from_millis(200))
        .on_progress(|event| {
            waits += i32::from(
                matches!(event, MigrationEvent::Waiting { holders, .. } if holders[0].pid == pid),
            );
        })
        .run_pending(&mut there, &two_tables())
        .unwrap_err();
    assert!(begun.elapsed() >= Duration::from_millis(200));
    assert_eq!(waits, 1);
    assert_eq!(error.condition(), Some(Condition::Timeout));
    assert!(diesel_locks::is_contention(&error));
    let text = error.to_string();
    for part in [
        format!(
            "advisory lock \"{name}\" was not granted within 200ms: held by pid {pid} (billing"
        ),
        "what it runs".to_owned(),
    ] {
        assert!(text.contains(&part), "{text}");
    }
    assert!(!exists(&mut there, "__diesel_schema_migrations"));
    drop(holder);
    drop(database);
}

#[test]
fn the_next_holder_is_told_of_as_soon_as_it_has_the_lock() {
    let (database, mut first, mut second) = two_sessions(TestDatabase::new().unwrap());
    let mut conn = connect(&database);
    let pids = [backend_pid(&mut first), backend_pid(&mut second)];
    let name: &str = &sql::<Text>("SELECT 'migrations of ' || current_database()")
        .get_result::<String>(&mut first)
        .unwrap();
    let holder = first.advisory_lock(name).unwrap();
    let (told, is_told) = channel::unbounded();
    let (let_go, may_let_go) = channel::bounded::<()>(0);
    thread::scope(|scope| {
        // The server grants it the lock with the release of the one before.
        scope.spawn(move || {
            let guard = second.advisory_lock(name).unwrap();
            let _ = may_let_go.recv();
            guard.release().unwrap();
        });
        let observer = &mut connect(&database);
        eventually(|| is_blocked(observer, pids[1]));
        let run = scope.spawn(move || {
            let lock = MigrationLock::new().on_progress(|event| {
                if let MigrationEvent::Waiting { holders, .. } = event {
                    told.send(holders[0].pid).unwrap();
                }
            });
            lock.run_pending(&mut conn, &two_tables())
                .map(|done| done.len())
        });
        assert_eq!(is_told.recv(), Ok(pids[0]));
        holder.release().unwrap();
        // One who stays is told of again after five seconds.
        let next = is_told.recv_timeout(Duration::from_secs(4));
        assert_eq!(next, Ok(pids[1]));
        drop(let_go);
        assert_eq!(run.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn without_a_limit_it_waits_until_the_holder_lets_go_and_never_in_the_server() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let pid = backend_pid(&mut there);
    let name: String = sql::<Text>("SELECT 'migrations of ' || current_database()")
        .get_result(&mut here)
        .unwrap();
    let holder = here.advisory_lock(name).unwrap();
    let (waiting, is_waiting) = channel::unbounded();
    thread::scope(|scope| {
        let waiter = scope.spawn(move || {
            let lock = MigrationLock::new().timeout(None).on_progress(|event| {
                if let MigrationEvent::Waiting { .. } = event {
                    waiting.send(()).unwrap();
                }
            });
            lock.run_pending(&mut there, &two_tables())
                .map(|done| done.len())
        });
        is_waiting.recv().unwrap();
        let observer = &mut connect(&database);
        assert!((0..100).all(|_| !is_blocked(observer, pid)));
        holder.release().unwrap();
        assert_eq!(waiter.join().unwrap().unwrap(), 2);
    });
}

#[test]
fn migrations_run_on_a_pooled_connection_and_on_one_inside_a_guard() {
    let database = TestDatabase::new().unwrap();
    let pool = Pool::builder()
        .max_size(1)
        .build(ConnectionManager::<PgConnection>::new(database.url()))
        .unwrap();
    let mut conn = pool.get().unwrap();
    let lock = MigrationLock::new();
    let first = All::of([("1", "CREATE TABLE a (id int)")]);
    assert_eq!(lock.run_pending(&mut conn, &first).unwrap().len(), 1);
    drop(conn);
    let mut guard = pool.advisory_lock("something else").unwrap();
    assert_eq!(
        lock.run_pending(&mut *guard, &two_tables()).unwrap().len(),
        1
    );
    assert!(guard.is_held().unwrap());
}

#[test]
fn migrations_are_reverted_under_the_lock_too() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All(vec![
        Sql::new("1", "CREATE TABLE a (id int)").down("DROP TABLE a"),
        Sql::new("2", "CREATE TABLE b (id int)").down("DROP TABLE b"),
        Sql::new("3", "CREATE TABLE c (id int)").down("DROP TABLE c"),
    ]);
    let lock = MigrationLock::new();
    lock.run_pending(&mut conn, &migrations).unwrap();
    assert_eq!(
        lock.revert_last(&mut conn, &migrations).unwrap(),
        "3".into()
    );
    assert!(!exists(&mut conn, "c"));
    let reverted = lock.revert_all(&mut conn, &migrations).unwrap();
    assert_eq!(reverted, ["2".into(), "1".into()]);
    assert!(applied(&mut conn).is_empty() && !exists(&mut conn, "a"));
    let error = lock.revert_last(&mut conn, &migrations).unwrap_err();
    assert!(matches!(error, MigrateError::NoMigration));

    lock.run_pending(&mut conn, &migrations).unwrap();
    let unknown = lock
        .revert_all(&mut conn, &All::of([("1", "")]))
        .unwrap_err();
    assert!(
        matches!(unknown, MigrateError::UnknownVersion { version, .. } if version == "3".into())
    );
    assert_eq!(applied(&mut conn).len(), 3);
}

#[test]
fn serializable_by_default_is_no_obstacle() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    for conn in [&mut here, &mut there] {
        conn.batch_execute("SET default_transaction_isolation = 'serializable'")
            .unwrap();
        assert_eq!(
            MigrationLock::new()
                .dry_run(conn, &two_tables())
                .unwrap()
                .migrations
                .len(),
            2
        );
    }
    assert_eq!(run(&mut here, &two_tables()).len(), 2);
    assert!(run(&mut there, &two_tables()).is_empty());
}

#[test]
fn eight_threads_migrate_an_empty_database_once() {
    let database = TestDatabase::new().unwrap();
    let done: usize = thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| run(&mut connect(&database), &two_tables()).len()))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(done, 2);
    eventually(|| advisory_locks(&database) == 0);
}
