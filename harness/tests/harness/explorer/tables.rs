//! Databases with tables of a test's own, and explorers that fill these before each schedule.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks_harness::{Explorer, TestDatabase};

use crate::support::connect;

pub(super) fn with_tables(schema: &str) -> TestDatabase {
    let database = TestDatabase::new().unwrap();
    connect(&database).batch_execute(schema).unwrap();
    database
}

pub(super) fn filled<'e>(
    database: &'e TestDatabase,
    fill: &'static str,
) -> Explorer<'e, PgConnection> {
    Explorer::new(|| PgConnection::establish(database.url()))
        .setup(|conn| Ok(conn.batch_execute(fill)?))
}
