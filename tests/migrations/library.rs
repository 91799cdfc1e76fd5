//! Tables that a library brings along.

use std::thread;

use diesel::connection::SimpleConnection;
use diesel_locks::LibraryMigrations;
use diesel_locks_harness::TestDatabase;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::fixture::{All, applied, exists, run};
use crate::support::connect;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
const BANK: LibraryMigrations = LibraryMigrations::new("bank", MIGRATIONS);

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
fn a_name_is_used_as_it_is_up_to_what_postgresql_keeps_of_one() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    for (length, is_used) in [(43, true), (44, false)] {
        let name = "l".repeat(length);
        let table = format!("__{name}_schema_migrations");
        let library = LibraryMigrations::new(name.leak(), MIGRATIONS);
        library.run_pending(&mut conn).unwrap();
        assert_eq!(exists(&mut conn, &table), is_used);
        library.revert_all(&mut conn).unwrap();
    }
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
