//! Code that is written against Diesel's `MigrationHarness`.

use std::time::Duration;

use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::MigrationHarness;

use crate::fixture::{All, Sql, applied, exists, run};
use crate::support::{connect, two_sessions};

fn migrations() -> All {
    All(vec![
        Sql::new("1", "CREATE TABLE a (id int)").down("DROP TABLE a"),
        Sql::new("2", "CREATE TABLE b (id int)").down("DROP TABLE b"),
        Sql::new("3", "CREATE TABLE c (id int)").down("DROP TABLE c"),
    ])
}

/// What an application has, whatever the harness is.
fn start(harness: &mut impl MigrationHarness<diesel::pg::Pg>) -> diesel::migration::Result<usize> {
    Ok(harness.run_pending_migrations(&migrations())?.len())
}

#[test]
fn it_does_all_that_diesels_does() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut harness = MigrationLock::new().harness(&mut conn);
    assert!(harness.has_pending_migration(&migrations()).unwrap());
    assert!(harness.applied_migrations().unwrap().is_empty());
    assert_eq!(
        harness.run_next_migration(&migrations()).unwrap(),
        "1".into()
    );
    assert_eq!(start(&mut harness).unwrap(), 2);
    assert_eq!(
        harness.revert_last_migration(&migrations()).unwrap(),
        "3".into()
    );
    let pending = harness.pending_migrations(&migrations()).unwrap();
    assert_eq!(harness.run_migrations(&pending).unwrap(), ["3".into()]);
    assert_eq!(
        harness.applied_migrations().unwrap(),
        ["3".into(), "2".into(), "1".into()]
    );
    assert_eq!(
        harness.revert_all_migrations(&migrations()).unwrap().len(),
        3
    );
    assert!(applied(&mut conn).is_empty());
}

#[test]
fn looking_changes_nothing() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut harness = MigrationLock::new().harness(&mut conn);
    assert_eq!(harness.pending_migrations(&migrations()).unwrap().len(), 3);
    assert!(!exists(&mut conn, "__diesel_schema_migrations"));
}

#[test]
fn what_another_process_has_done_meanwhile_is_not_done_again() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut harness = MigrationLock::new().harness(&mut here);
    let pending = harness.pending_migrations(&migrations()).unwrap();
    assert_eq!(run(&mut there, &migrations()).len(), 3);
    assert!(harness.run_migrations(&pending).unwrap().is_empty());
    for migration in &pending {
        harness.run_migration(migration).unwrap();
        MigrationLock::new()
            .revert_migration(&mut there, migration)
            .unwrap();
        harness.revert_migration(migration).unwrap();
    }
    assert!(applied(&mut there).is_empty());
}

#[test]
fn each_method_that_changes_something_takes_the_lock() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    run(&mut here, &All(vec![migrations().0.remove(0)]));
    let name: String =
        diesel::dsl::sql::<diesel::sql_types::Text>("SELECT current_database()::text")
            .get_result(&mut here)
            .unwrap();
    let _guard = here.advisory_lock(format!("migrations of {name}")).unwrap();
    let lock = || MigrationLock::new().timeout(Duration::ZERO);
    let mut harness = lock().harness(&mut there);
    let source = migrations();
    let source = &source;
    let all = source.migrations().unwrap();
    let refused = [
        harness
            .run_pending_migrations(source)
            .map(drop)
            .unwrap_err(),
        harness.run_next_migration(source).map(drop).unwrap_err(),
        harness.run_migrations(&all).map(drop).unwrap_err(),
        harness.run_migration(&all[0]).map(drop).unwrap_err(),
        harness.revert_migration(&all[0]).map(drop).unwrap_err(),
        harness.revert_last_migration(source).map(drop).unwrap_err(),
        harness.revert_all_migrations(source).map(drop).unwrap_err(),
        lock()
            .dry_run(&mut there, source)
            .map(drop)
            .unwrap_err()
            .into(),
    ];
    for error in refused {
        let error: &MigrateError = error.downcast_ref().unwrap();
        assert!(matches!(error, MigrateError::Timeout { .. }), "{error}");
    }
}
