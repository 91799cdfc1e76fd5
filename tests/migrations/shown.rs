//! What has settings shows them.

use std::time::Duration;

use diesel_locks::{LibraryMigrations, MigrationLock};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::embed_migrations;

use crate::support::connect;

const BANK: LibraryMigrations = LibraryMigrations::new("bank", embed_migrations!("migrations"));

#[test]
fn a_lock_shows_its_settings_and_telling_standard_error_keeps_them() {
    let lock = MigrationLock::new()
        .name("billing")
        .timeout(Duration::from_secs(60))
        .print_progress();
    let shown = format!("{lock:?}");
    assert!(shown.starts_with("MigrationLock { name: "), "{shown}");
    assert!(
        shown.contains("billing") && shown.contains("timeout: Some(60s)"),
        "{shown}"
    );
    let database = TestDatabase::new().unwrap();
    let harness = format!("{:?}", lock.harness(&mut connect(&database)));
    assert_eq!(harness, format!("LockedHarness {{ lock: {shown}, .. }}"));
    assert_eq!(
        format!("{BANK:?}"),
        "LibraryMigrations { library: \"bank\", .. }"
    );
}
