//! Every statement that Diesel's instrumentation sees says which function, operator, view or type
//! it means.

use std::collections::BTreeSet;
use std::mem;
use std::sync::Mutex;

use crate::scanner::assert_qualified;
use crate::tour::{self, Tour};
use diesel::connection::{InstrumentationEvent, set_default_instrumentation};
use diesel::migration::{Migration, MigrationSource, Result};
use diesel::pg::Pg;
use diesel_locks_harness::TestDatabase;
use serial_test::serial;

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn see(event: InstrumentationEvent<'_>) {
    if let InstrumentationEvent::StartQuery { query, .. } = event {
        // What it is bound to is a comment.
        SEEN.lock().unwrap().insert(query.to_string());
    }
}

struct NoMigrations;

impl MigrationSource<Pg> for NoMigrations {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        Ok(Vec::new())
    }
}

/// It sees all connections of its process.
#[test]
#[serial]
fn whatever_diesel_is_given_says_whose_function_operator_view_or_type_it_means() {
    let server = tour::server();
    set_default_instrumentation(|| Some(Box::new(see))).unwrap();
    let tour = Tour {
        url: server.url(),
        prepare: |_| (),
    };
    tour.go();
    drop(TestDatabase::new().unwrap().migrated(NoMigrations).unwrap());
    set_default_instrumentation(|| None).unwrap();
    let mut seen = mem::take(&mut *SEEN.lock().unwrap());
    // Diesel's own.
    seen.retain(|sql| !sql.contains("__diesel_schema_migrations"));
    assert!(seen.len() > 100, "{seen:#?}");
    assert_qualified(&seen);
}
