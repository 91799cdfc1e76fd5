//! The harness, on a real server.

#[path = "../../../tests/support/mod.rs"]
mod support;

mod contention {
    mod failures;
    mod outcomes;
    mod sqlite;
}
mod database;
mod errors;
mod explorer {
    mod anomalies;
    mod applications;
    mod calls;
    mod code;
    mod crashes;
    mod endless;
    mod failures;
    mod fixture;
    mod hermitage;
    mod hidden;
    mod leaving;
    mod library;
    mod pairs;
    mod random;
    mod registry;
    mod report;
    mod same_ends;
    mod schedules;
    mod steps;
    mod tables;
    mod threads;
}
mod isolation;
mod scenario {
    mod assert_deadlock;
    mod assertion_lines;
    mod assertions;
    mod broken;
    mod conflict_failures;
    mod conflict_matrix;
    mod deadlocks;
    mod fixture;
    mod steps;
    mod waits;
}
mod server {
    mod ends;
    mod neighbours;
    mod private;
    mod templates;
}
