//! `lock_timeout` and `statement_timeout` of migrations, and the session's own.

use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, BRIEFLY, Sql, accounts_and_jobs, is_valid, run};
use crate::support::{advisory_locks, connect, lock_timeout};

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
fn what_a_limited_migration_sets_or_commits_leaves_the_sessions_limits() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("SET lock_timeout = '7s'").unwrap();
    for (version, sql) in [
        ("1", "COMMIT"),
        ("2", "COMMIT; BEGIN"),
        ("3", "ROLLBACK"),
        ("4", ""),
        ("5", "SELECT 1; -- nothing"),
        ("6", "SELECT 1 / 0"),
        ("7", "COMMIT; SELECT 1 / 0"),
    ] {
        let _ = MigrationLock::new()
            .lock_timeout(Duration::from_millis(20))
            .statement_timeout(Duration::from_secs(9))
            .run_pending(&mut conn, &All::of([(version, sql)]));
        assert_eq!(lock_timeout(&mut conn), "7s", "{sql}");
        assert_eq!(advisory_locks(&database), 0, "{sql}");
    }
}

#[test]
fn the_lock_timeout_ends_no_concurrent_index_that_waits_for_a_transaction() {
    let (_database, mut writer, mut conn) = accounts_and_jobs();
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
    assert!(is_valid(&mut conn, "accounts_owner"));
    assert!(run(&mut conn, &All(vec![])).is_empty());
}
