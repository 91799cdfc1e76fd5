//! The lock itself: who waits for whom, and for how long.

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel;
use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{BigInt, Text};
use diesel_locks::prelude::*;
use diesel_locks::{Condition, LockError, MigrateError, MigrationEvent, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, applied, exists, has_note, kinds, run};
use crate::support::{advisory_locks, backend_pid, connect, eventually, is_blocked, two_sessions};

fn two_tables() -> All {
    All::of([
        ("1", "CREATE TABLE a (id int)"),
        ("2", "CREATE TABLE b (id int)"),
    ])
}

#[test]
fn pending_migrations_are_applied_once_and_the_lock_is_let_go() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut events = Vec::new();
    let lock = MigrationLock::new().on_progress(|event| events.push(event.clone()));
    let done = lock.run_pending(&mut here, &two_tables()).unwrap();
    assert_eq!(done, ["1".into(), "2".into()]);
    drop(lock);
    assert_eq!(kinds(&events), ["locked", "began", "done", "began", "done"]);
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
fn a_migration_that_fails_lets_the_lock_go_and_leaves_those_before_it() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let broken = All::of([
        ("1", "CREATE TABLE a (id int)"),
        ("2", "CREATE TABLE b (id int); SELECT 1 / 0"),
        ("3", "CREATE TABLE c (id int)"),
    ]);
    let error = MigrationLock::new()
        .run_pending(&mut here, &broken)
        .unwrap_err();
    assert_eq!(error.to_string(), "migration 2 failed");
    assert!(matches!(error, MigrateError::Failed { attempts: 1, .. }));
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(applied(&mut there), ["1"]);
    assert!(!exists(&mut there, "b"));
    assert_eq!(run(&mut there, &two_tables()), ["2"]);
}

struct Panics;

impl diesel::migration::MigrationSource<diesel::pg::Pg> for Panics {
    fn migrations(
        &self,
    ) -> diesel::migration::Result<Vec<Box<dyn diesel::migration::Migration<diesel::pg::Pg>>>> {
        Ok(vec![Box::new(PanicsHalfWay(Sql::new("1", "")))])
    }
}

struct PanicsHalfWay(Sql);

impl diesel::migration::Migration<diesel::pg::Pg> for PanicsHalfWay {
    fn run(
        &self,
        conn: &mut dyn diesel::connection::BoxableConnection<diesel::pg::Pg>,
    ) -> diesel::migration::Result<()> {
        conn.batch_execute("CREATE TABLE a (id int)")?;
        panic!("half way");
    }

    fn revert(
        &self,
        _: &mut dyn diesel::connection::BoxableConnection<diesel::pg::Pg>,
    ) -> diesel::migration::Result<()> {
        Ok(())
    }

    fn metadata(&self) -> &dyn diesel::migration::MigrationMetadata {
        self.0.metadata()
    }

    fn name(&self) -> &dyn diesel::migration::MigrationName {
        self.0.name()
    }
}

#[test]
fn a_migration_that_panics_lets_the_lock_go_and_leaves_nothing() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let run_it = || {
        MigrationLock::new()
            .run_pending(&mut here, Panics)
            .map(drop)
    };
    let payload = panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"half way"));
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(run(&mut there, &two_tables()).len(), 2);
    // The connection is as before too.
    assert!(run(&mut here, &two_tables()).is_empty());
}

#[test]
fn a_session_that_ends_in_a_migration_lets_the_next_one_go_on() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let suicide = All::of([("1", "SELECT pg_terminate_backend(pg_backend_pid())")]);
    let error = MigrationLock::new()
        .run_pending(&mut here, &suicide)
        .unwrap_err();
    assert_eq!(
        error.condition(),
        Some(Condition::ConnectionLost),
        "{error:?}"
    );
    assert_eq!(run(&mut there, &two_tables()).len(), 2);
}

#[test]
fn inside_a_transaction_the_lock_is_the_transactions() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    here.transaction::<_, MigrateError, _>(|conn| {
        assert_eq!(
            MigrationLock::new().run_pending(conn, &two_tables())?.len(),
            2
        );
        let lock = MigrationLock::new().timeout(Duration::ZERO);
        let refused = lock.run_pending(&mut there, &two_tables()).unwrap_err();
        assert!(matches!(refused, MigrateError::Timeout { .. }));
        Ok(())
    })
    .unwrap();
    assert_eq!(advisory_locks(&database), 0);
    assert!(run(&mut there, &two_tables()).is_empty());
}

#[test]
fn a_failure_inside_a_transaction_leaves_it_as_it_was() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.transaction::<_, diesel::result::Error, _>(|conn| {
        conn.batch_execute("CREATE TABLE mine (id int)")?;
        let broken = All::of([("1", "CREATE TABLE a (id int); SELECT 1 / 0")]);
        MigrationLock::new().run_pending(conn, &broken).unwrap_err();
        conn.batch_execute("INSERT INTO mine VALUES (1)")
    })
    .unwrap();
    assert!(exists(&mut conn, "mine") && !exists(&mut conn, "a"));
}

#[test]
fn what_must_run_outside_a_transaction_fails_inside_one_and_leaves_it_as_it_was() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.transaction::<_, diesel::result::Error, _>(|conn| {
        conn.batch_execute("CREATE TABLE mine (id int)")?;
        let concurrent = "CREATE INDEX CONCURRENTLY mine_id ON mine (id)";
        let migrations = All(vec![Sql::new("1", concurrent).outside()]);
        let error = MigrationLock::new()
            .run_pending(conn, &migrations)
            .unwrap_err();
        assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
        conn.batch_execute("INSERT INTO mine VALUES (1)")
    })
    .unwrap();
    assert!(exists(&mut conn, "mine"));
    assert!(!has_note(&mut conn));
}

#[test]
fn it_runs_on_a_pooled_connection_and_on_one_inside_a_guard() {
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
fn the_versions_are_those_that_diesel_knows() {
    use diesel_migrations::MigrationHarness;
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut migrations = two_tables();
    migrations.0[1] = Sql::new("2", "CREATE TABLE b (id int)").down("DROP TABLE b");
    run(&mut conn, &migrations);
    assert!(!conn.has_pending_migration(&migrations).unwrap());
    conn.revert_last_migration(&migrations).unwrap();
    assert_eq!(run(&mut conn, &migrations), ["2"]);
}

#[test]
fn a_migration_may_empty_the_search_path() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        (
            "1",
            "SELECT pg_catalog.set_config('search_path', '', false)",
        ),
        ("2", "CREATE TABLE public.b (id pg_catalog.int4)"),
    ]);
    assert_eq!(run(&mut conn, &migrations).len(), 2);
    assert_eq!(applied(&mut connect(&database)), ["1", "2"]);
}

#[test]
fn each_schema_of_the_search_path_has_its_own_versions_as_with_diesel() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &two_tables());
    conn.batch_execute("CREATE SCHEMA tenant; SET search_path = tenant, public")
        .unwrap();
    assert_eq!(run(&mut conn, &two_tables()).len(), 2);
    assert!(exists(&mut conn, "tenant.a"));
}

#[test]
fn a_lock_that_is_lost_between_two_migrations_ends_the_run_before_the_second() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        ("1", "SELECT pg_advisory_unlock_all()"),
        ("2", "CREATE TABLE b (id int)"),
    ]);
    let error = MigrationLock::new()
        .run_pending(&mut conn, &migrations)
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::Lock(LockError::NotHeld { .. })),
        "{error}"
    );
    assert!(!exists(&mut conn, "b"));
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
