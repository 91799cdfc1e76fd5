//! What is left of a migration that runs outside a transaction, when it is interrupted or fails.

use diesel::connection::SimpleConnection;
use diesel_locks::{LeftoverIndex, MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, applied, exists, has_note, is_valid, kinds, leave_note, run};
use crate::support::{backend_pid, connect, eventually, terminate, two_sessions};

const INDEX: &str = "CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)";

fn index(sql: &str) -> All {
    All(vec![
        Sql::new(
            "1",
            "CREATE TABLE accounts (id int PRIMARY KEY, owner text)",
        ),
        Sql::new("2", sql).outside(),
    ])
}

/// Ends the session that builds the index of `migrations` while it waits for a transaction.
fn interrupt(database: &TestDatabase, migrations: &All) {
    let mut conn = connect(database);
    run(&mut conn, &All(migrations.0[..1].to_vec()));
    let mut writer = connect(database);
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    let pid = backend_pid(&mut conn);
    std::thread::scope(|scope| {
        let building = scope.spawn(move || MigrationLock::new().run_pending(&mut conn, migrations));
        let observer = &mut connect(database);
        eventually(|| exists(observer, "accounts_owner"));
        terminate(database, pid);
        building.join().unwrap().unwrap_err();
    });
    writer.batch_execute("COMMIT").unwrap();
    let conn = &mut connect(database);
    assert!(exists(conn, "accounts_owner") && !is_valid(conn, "accounts_owner"));
}

fn leftovers(error: MigrateError) -> Vec<LeftoverIndex> {
    match error {
        MigrateError::LeftoverIndex { indexes, .. } => indexes,
        error => panic!("{error:?}"),
    }
}

#[test]
fn the_next_run_names_the_invalid_index_and_what_to_do() {
    for sql in [
        INDEX,
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_owner ON accounts (owner)",
    ] {
        let database = TestDatabase::new().unwrap();
        interrupt(&database, &index(sql));
        let mut conn = connect(&database);
        let error = MigrationLock::new()
            .run_pending(&mut conn, &index(sql))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.starts_with(
                "migration 2 has left the invalid index public.accounts_owner on public.accounts: \
                 have it dropped"
            ),
            "{text}"
        );
        assert_eq!(leftovers(error)[0].index, "public.accounts_owner");
        assert_eq!(applied(&mut conn), ["1"]);
        // By hand, as it says.
        conn.batch_execute("DROP INDEX CONCURRENTLY accounts_owner")
            .unwrap();
        assert_eq!(run(&mut conn, &index(sql)), ["2"]);
        assert!(is_valid(&mut conn, "accounts_owner"));
        assert!(!has_note(&mut conn));
    }
}

#[test]
fn the_next_run_drops_it_where_it_may() {
    for sql in [
        INDEX,
        "CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_owner ON accounts (owner)",
    ] {
        let database = TestDatabase::new().unwrap();
        interrupt(&database, &index(sql));
        let mut conn = connect(&database);
        let mut events = Vec::new();
        MigrationLock::new()
            .drop_invalid_indexes(true)
            .on_progress(|event| events.push(event.clone()))
            .run_pending(&mut conn, &index(sql))
            .unwrap();
        assert_eq!(kinds(&events), ["locked", "began", "dropped", "done"]);
        assert!(is_valid(&mut conn, "accounts_owner"));
        assert_eq!(applied(&mut conn), ["1", "2"]);
    }
}

#[test]
fn an_index_that_was_finished_but_not_recorded_is_recorded() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    run(&mut here, &All(index(INDEX).0[..1].to_vec()));
    // The session ends between the index and its record.
    leave_note(&mut here, "2", &[]);
    here.batch_execute(INDEX).unwrap();
    drop(here);
    let mut events = Vec::new();
    MigrationLock::new()
        .on_progress(|event| events.push(event.clone()))
        .run_pending(&mut there, &index(INDEX))
        .unwrap();
    assert_eq!(kinds(&events), ["locked", "began", "recovered", "done"]);
    assert_eq!(applied(&mut there), ["1", "2"]);
    assert!(!has_note(&mut there));
}

#[test]
fn an_index_that_was_dropped_but_not_recorded_is_recorded() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("CREATE TABLE accounts (id int, owner text); CREATE INDEX accounts_owner ON accounts (owner)")
        .unwrap();
    let drops = All(vec![
        Sql::new("1", "DROP INDEX CONCURRENTLY accounts_owner").outside(),
    ]);
    run(&mut conn, &All(vec![]));
    leave_note(&mut conn, "1", &["accounts_owner"]);
    conn.batch_execute("DROP INDEX CONCURRENTLY accounts_owner")
        .unwrap();
    assert_eq!(run(&mut conn, &drops), ["1"]);
}

#[test]
fn an_index_that_somebody_else_has_made_is_not_taken_for_the_migrations() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    conn.batch_execute("CREATE INDEX accounts_owner ON accounts (id)")
        .unwrap();
    for _ in 0..2 {
        let lock = MigrationLock::new().drop_invalid_indexes(true);
        let error = lock.run_pending(&mut conn, &index(INDEX)).unwrap_err();
        assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
        assert_eq!(applied(&mut conn), ["1"]);
        assert!(is_valid(&mut conn, "accounts_owner"));
    }
}

#[test]
fn neither_is_one_that_was_there_when_the_interrupted_run_began() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    conn.batch_execute("CREATE INDEX accounts_owner ON accounts (id)")
        .unwrap();
    leave_note(&mut conn, "2", &["accounts_owner"]);
    let error = MigrationLock::new()
        .run_pending(&mut conn, &index(INDEX))
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
}

#[test]
fn nor_one_that_was_made_after_a_run_that_failed_and_changed_nothing() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    conn.batch_execute("ALTER TABLE accounts RENAME owner TO holder")
        .unwrap();
    MigrationLock::new()
        .run_pending(&mut conn, &index(INDEX))
        .unwrap_err();
    conn.batch_execute(
        "ALTER TABLE accounts RENAME holder TO owner; CREATE INDEX accounts_owner ON accounts (id)",
    )
    .unwrap();
    let error = MigrationLock::new()
        .run_pending(&mut conn, &index(INDEX))
        .unwrap_err();
    assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
}

#[test]
fn an_index_that_cannot_be_unique_is_named_with_the_reason() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let sql = "CREATE UNIQUE INDEX CONCURRENTLY accounts_owner ON accounts (owner)";
    run(&mut conn, &All(index(sql).0[..1].to_vec()));
    conn.batch_execute("INSERT INTO accounts VALUES (1, 'ada'), (2, 'ada')")
        .unwrap();
    let error = MigrationLock::new()
        .run_pending(&mut conn, &index(sql))
        .unwrap_err();
    let source = std::error::Error::source(&error).unwrap().to_string();
    assert!(source.contains("could not create unique index"), "{source}");
    assert_eq!(leftovers(error).len(), 1);

    // Where it may be dropped it is, and the reason stays.
    // The first one is dropped, and that of one more attempt, after which there is no other.
    let mut events = Vec::new();
    let error = MigrationLock::new()
        .drop_invalid_indexes(true)
        .on_progress(|event| events.push(event.clone()))
        .run_pending(&mut conn, &index(sql))
        .unwrap_err();
    assert_eq!(kinds(&events), ["locked", "began", "dropped", "dropped"]);
    assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
    assert!(!exists(&mut conn, "accounts_owner"));
    conn.batch_execute("DELETE FROM accounts WHERE id = 2")
        .unwrap();
    assert_eq!(run(&mut conn, &index(sql)), ["2"]);
}

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
fn an_index_that_is_being_built_by_somebody_else_is_left_alone() {
    let (database, mut builder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    run(&mut conn, &All(index(INDEX).0[..1].to_vec()));
    let mut writer = connect(&database);
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    std::thread::scope(|scope| {
        let building = scope.spawn(move || builder.batch_execute(INDEX));
        eventually(|| exists(&mut conn, "accounts_owner"));
        // Whoever waits for its table gives up first.
        conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
        let lock = MigrationLock::new()
            .drop_invalid_indexes(true)
            .attempts(diesel_locks::Retry::new().attempts(1));
        let error = lock.run_pending(&mut conn, &index(INDEX)).unwrap_err();
        assert!(matches!(error, MigrateError::Failed { .. }), "{error}");
        writer.batch_execute("COMMIT").unwrap();
        building.join().unwrap().unwrap();
        assert!(is_valid(&mut conn, "accounts_owner"));
    });
}
