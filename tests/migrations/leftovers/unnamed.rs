//! An index that was left under a name that the migration does not say.

use std::{panic, thread};

use diesel::connection::SimpleConnection;
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;

use super::fixture::{invalid, kept_from_being_finished, thrice};
use crate::fixture::{All, exists, is_valid, outside, run};
use crate::support::{backend_pid, connect, eventually, terminate, two_sessions};

#[test]
fn what_was_half_built_under_a_name_that_the_server_gave_is_found_and_not_built_again() {
    for (sql, left) in [
        (
            "CREATE INDEX CONCURRENTLY ON accounts (owner)",
            "accounts_owner_idx",
        ),
        (
            "REINDEX INDEX CONCURRENTLY accounts_owner",
            "accounts_owner_ccnew",
        ),
    ] {
        let (_database, mut writer, mut conn) = kept_from_being_finished();
        conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
        let error = thrice().run_pending(&mut conn, &outside(sql)).unwrap_err();
        assert!(
            matches!(error, MigrateError::LeftoverIndex { .. }),
            "{sql}: {error:?}"
        );
        assert_eq!(invalid(&mut conn), [left]);
        writer.batch_execute("ROLLBACK").unwrap();
        thrice()
            .drop_invalid_indexes(true)
            .run_pending(&mut conn, &outside(sql))
            .unwrap();
        assert!(invalid(&mut conn).is_empty(), "{sql}");
    }
}

#[test]
fn what_an_interrupted_run_half_built_under_such_a_name_is_found() {
    let sql = "CREATE INDEX CONCURRENTLY ON accounts (owner)";
    let (database, mut writer, mut conn) = kept_from_being_finished();
    let pid = backend_pid(&mut conn);
    thread::scope(|scope| {
        let building = scope.spawn(move || thrice().run_pending(&mut conn, &outside(sql)));
        let observer = &mut connect(&database);
        eventually(|| exists(observer, "accounts_owner_idx"));
        terminate(&database, pid);
        building.join().unwrap().unwrap_err();
    });
    writer.batch_execute("COMMIT").unwrap();
    let error = thrice()
        .run_pending(&mut writer, &outside(sql))
        .unwrap_err();
    assert!(
        matches!(error, MigrateError::LeftoverIndex { .. }),
        "{error:?}"
    );
    thrice()
        .drop_invalid_indexes(true)
        .run_pending(&mut writer, &outside(sql))
        .unwrap();
    assert!(invalid(&mut writer).is_empty());
}

#[test]
fn what_a_reindex_of_a_whole_schema_has_left_is_found() {
    let (_database, mut other, mut conn) = two_sessions(TestDatabase::new().unwrap());
    conn.batch_execute("CREATE TABLE accounts (id int); CREATE INDEX accounts_id ON accounts (id)")
        .unwrap();
    run(&mut conn, &All(vec![]));
    // The reindex waits for this one, once the new index is there.
    other
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1)")
        .unwrap();
    conn.batch_execute("SET statement_timeout = '300ms'")
        .unwrap();
    let reindex = outside("REINDEX SCHEMA CONCURRENTLY public");
    let error = MigrationLock::new()
        .run_pending(&mut conn, &reindex)
        .unwrap_err();
    let MigrateError::LeftoverIndex { indexes, .. } = error else {
        panic!("{error:?}");
    };
    assert_eq!(indexes[0].index, "public.accounts_id_ccnew");
    other.batch_execute("COMMIT").unwrap();
    conn.batch_execute("RESET statement_timeout").unwrap();
    MigrationLock::new()
        .drop_invalid_indexes(true)
        .run_pending(&mut conn, &reindex)
        .unwrap();
    assert!(is_valid(&mut conn, "accounts_id") && !exists(&mut conn, "accounts_id_ccnew"));
}
