//! Tables that a library brings along.

use std::thread;

use diesel::connection::SimpleConnection;
use diesel_locks::LibraryMigrations;
use diesel_locks_harness::TestDatabase;
use diesel_migrations::{MigrationHarness, embed_migrations};

use crate::fixture::{All, applied, exists, run};
use crate::support::connect;

const BANK: LibraryMigrations = LibraryMigrations::new("bank", embed_migrations!("migrations"));

#[test]
fn the_versions_of_a_library_and_of_the_application_never_meet() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    // The same version as one of the library's.
    let application = All::of([("20261121000000", "CREATE TABLE a (id int)")]);
    assert_eq!(run(&mut conn, &application).len(), 1);
    assert_eq!(BANK.run_pending(&mut conn).unwrap().len(), 1);
    assert!(exists(&mut conn, "accounts"));
    assert_eq!(applied(&mut conn), ["20261121000000"]);
    // Diesel's own reverts find what they know.
    conn.batch_execute("DROP TABLE a").unwrap();
    assert_eq!(conn.revert_all_migrations(&application).unwrap().len(), 1);
    assert!(BANK.run_pending(&mut conn).unwrap().is_empty());
    assert_eq!(BANK.revert_all(&mut conn).unwrap().len(), 1);
    assert!(!exists(&mut conn, "accounts"));
}

#[test]
fn each_of_many_may_bring_them() {
    let database = TestDatabase::new().unwrap();
    let applied: usize = thread::scope(|scope| {
        let runs: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| BANK.run_pending(&mut connect(&database)).unwrap().len()))
            .collect();
        runs.into_iter().map(|run| run.join().unwrap()).sum()
    });
    assert_eq!(applied, 1);
}
