//! An index that was left invalid is found, named, and dropped where it may be.

use diesel::prelude::*;
use std::error::Error as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::{InstrumentationEvent, SimpleConnection};
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::{TempPostgres, TestDatabase};

use super::fixture::{INDEX, index, interrupt, invalid, leave_invalid, leftovers, thrice};
use crate::code::Code;
use crate::fixture::{
    ACCOUNTS, All, Sql, applied, exists, has_note, is_valid, kinds, leave_note, outside, run,
    two_tables,
};
use crate::support::{connect, two_sessions};

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
fn a_concurrent_drop_that_left_its_index_is_done_once_that_is_cleared_away() {
    let (_database, mut holder, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute(ACCOUNTS).unwrap();
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
    let source = error.source().unwrap().to_string();
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
        conn.batch_execute(ACCOUNTS).unwrap();
        leave_invalid(&mut conn, name, "accounts");
        let done = MigrationLock::new().run_pending(&mut conn, &outside(sql));
        assert!(
            matches!(done, Err(MigrateError::LeftoverIndex { .. })),
            "{sql}: {done:?}"
        );
    }
}

#[test]
fn a_name_that_the_server_has_cut_within_a_letter_is_found() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(ACCOUNTS).unwrap();
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

/// Leaves an invalid index, on the table of which the other session has the lock of a VACUUM.
fn is_found_beside_a_vacuum(other: PgConnection, conn: &mut PgConnection) {
    conn.batch_execute(ACCOUNTS).unwrap();
    leave_invalid(conn, "accounts_owner", "accounts");
    // VACUUM and ANALYZE have such a lock, and take it as soon as it is free.
    let other = Mutex::new(other);
    let index = Code::new(move |conn| {
        conn.batch_execute(
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS accounts_owner ON accounts (owner)",
        )?;
        let mut other = other.lock().unwrap();
        Ok(other.batch_execute("BEGIN; LOCK TABLE accounts IN SHARE UPDATE EXCLUSIVE MODE")?)
    });
    let done = MigrationLock::new().run_pending(conn, &index);
    assert!(
        matches!(done, Err(MigrateError::LeftoverIndex { .. })),
        "{done:?}"
    );
}

#[test]
fn an_invalid_index_is_found_although_its_table_is_being_vacuumed() {
    let (_database, other, mut conn) = two_sessions(TestDatabase::new().unwrap());
    is_found_beside_a_vacuum(other, &mut conn);
}

#[test]
fn an_invalid_index_is_found_beside_statements_in_a_database_of_another_encoding() {
    let server = TempPostgres::start().unwrap();
    let connect_to = |name: &str| {
        let url = server
            .url()
            .replace("dbname=postgres", &format!("dbname={name}"));
        PgConnection::establish(&url).unwrap()
    };
    connect_to("postgres")
        .batch_execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0")
        .unwrap();
    // Where lower case is not that of ASCII alone.
    connect_to("postgres")
        .batch_execute("CREATE DATABASE here LOCALE 'C.UTF-8' TEMPLATE template0")
        .unwrap();
    let mut latin = connect_to("latin");
    latin.batch_execute("SELECT 'é'").unwrap();
    is_found_beside_a_vacuum(connect_to("here"), &mut connect_to("here"));
}

#[test]
fn an_application_with_instrumentation_of_its_own_is_told_of_an_invalid_index_too() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    there.set_instrumentation(|_: InstrumentationEvent<'_>| {});
    run(&mut there, &two_tables());
    here.batch_execute("INSERT INTO a VALUES (1), (1)").unwrap();
    // Interrupted, with a note.
    leave_note(&mut here, "3", &[]);
    here.batch_execute("CREATE UNIQUE INDEX CONCURRENTLY a_id ON a (id)")
        .unwrap_err();
    let index = "CREATE INDEX CONCURRENTLY IF NOT EXISTS a_id ON a (id)";
    let index = All(vec![Sql::new("3", index).outside()]);
    let error = MigrationLock::new()
        .run_pending(&mut there, &index)
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::LeftoverIndex { .. }),
        "{error}"
    );
    let lock = MigrationLock::new().drop_invalid_indexes(true);
    lock.run_pending(&mut there, &index).unwrap();
    assert!(is_valid(&mut here, "a_id"));
}

#[test]
fn one_index_after_the_other_is_dropped_three_times_at_most() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    for n in 1..=4 {
        conn.batch_execute(&format!("CREATE TABLE t{n} (id int, owner text)"))
            .unwrap();
        leave_invalid(&mut conn, &format!("i{n}"), &format!("t{n}"));
    }
    let attempts = AtomicUsize::new(0);
    // Each attempt comes upon the next one.
    let stumbles = Code::new(move |conn| {
        let n = attempts.fetch_add(1, Ordering::Relaxed) + 1;
        Ok(conn.batch_execute(&format!("CREATE INDEX CONCURRENTLY i{n} ON t{n} (owner)"))?)
    });
    let done = MigrationLock::new()
        .drop_invalid_indexes(true)
        .run_pending(&mut conn, &stumbles);
    assert!(matches!(done, Err(MigrateError::Failed { .. })), "{done:?}");
    assert_eq!(invalid(&mut conn), ["i4"]);
}
