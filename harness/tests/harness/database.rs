//! A database for each test: how long it is there, and on which server.

use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::LockError;
use diesel_locks_harness::{DatabaseError, TempPostgres, TestDatabase};
use serial_test::parallel;

use crate::support;
use crate::support::second_process::{SecondProcess, say, second_process, this_test};

#[test]
#[parallel]
fn a_database_lives_as_long_as_its_value() {
    let database = TestDatabase::new().unwrap();
    let other = TestDatabase::new().unwrap();
    let url = database.url().to_owned();
    // One that is in use is dropped all the same.
    let mut conn = PgConnection::establish(&url).unwrap();
    conn.batch_execute("CREATE TABLE t ()").unwrap();
    drop(database);
    let error = LockError::from(conn.batch_execute("SELECT 1").unwrap_err());
    assert!(matches!(error, LockError::ConnectionLost { .. }));
    assert!(PgConnection::establish(&url).is_err());
    support::connect(&other)
        .batch_execute("CREATE TABLE t ()")
        .unwrap();
}

#[test]
#[parallel]
fn a_database_url_names_the_server_to_use() {
    if let Some(url) = second_process() {
        let database = TestDatabase::new();
        if url == "nowhere" {
            assert!(matches!(database, Err(DatabaseError::Unreachable(_))));
            return say("unreachable");
        }
        say(database.unwrap().url());
        return;
    }
    let test = &this_test!();
    let server = TempPostgres::start().unwrap();
    let mut child = SecondProcess::start(test, "", &[("DATABASE_URL", server.url().as_ref())]);
    let url = child.hear();
    child.succeeds();
    assert!(url.starts_with(server.url()), "{url}");
    assert_ne!(url, server.url());
    assert!(
        PgConnection::establish(&url).is_err(),
        "the database was dropped"
    );

    let nowhere = Path::new("postgres://nobody@127.0.0.1:1/none");
    let mut child = SecondProcess::start(test, "nowhere", &[("DATABASE_URL", nowhere)]);
    assert_eq!(child.hear(), "unreachable");
    child.succeeds();
}
