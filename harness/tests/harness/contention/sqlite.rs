//! A backend that does not say who waits.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_locks_harness::Contention;
use serial_test::parallel;

use crate::support::directory::Directory;

struct File(Directory);

impl File {
    fn new(name: &str) -> Self {
        let file = Self(Directory::new(name));
        file.connect()
            .unwrap()
            .batch_execute("CREATE TABLE accounts (id integer); INSERT INTO accounts VALUES (1)")
            .unwrap();
        file
    }

    fn connect(&self) -> ConnectionResult<SqliteConnection> {
        SqliteConnection::establish(self.0.0.join("accounts.sqlite").to_str().unwrap())
    }
}

#[test]
#[parallel]
fn begin_immediate_is_granted_to_one() {
    let file = File::new("immediate");
    let outcome = Contention::new(|| file.connect())
        .contenders(3)
        .run_scoped(|conn, hold| {
            conn.immediate_transaction(|_| {
                hold.until_settled();
                Ok::<_, Error>(())
            })
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 2 failed");
    for error in outcome.errors() {
        assert_eq!(error.to_string(), "database is locked");
    }
}

#[test]
#[parallel]
fn a_write_is_granted_to_one_and_reads_to_all() {
    let file = File::new("write");
    let contention = Contention::new(|| file.connect());
    let write = |conn: &mut SqliteConnection| conn.batch_execute("UPDATE accounts SET id = 2");
    let outcome = contention.run(write).unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 failed");
    let read = |conn: &mut SqliteConnection| conn.batch_execute("SELECT * FROM accounts");
    assert_eq!(contention.run(read).unwrap().to_string(), "2 granted");
}

#[test]
#[parallel]
fn a_wait_cannot_be_seen_and_runs_into_the_timeout() {
    let file = File::new("wait");
    let outcome = Contention::new(|| {
        let mut conn = file.connect()?;
        conn.batch_execute("PRAGMA busy_timeout = 20000")
            .map_err(diesel::ConnectionError::CouldntSetupConfiguration)?;
        Ok::<_, diesel::ConnectionError>(conn)
    })
    .timeout(Duration::from_millis(300))
    .run(|conn| conn.batch_execute("UPDATE accounts SET id = 2"))
    .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 not settled in time");
    assert_eq!(outcome.unsettled().len(), 1);
}
