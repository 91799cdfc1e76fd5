//! A lock that PostgreSQL grants in the same instant in which it times out.
//!
//! The instant is made long: the server process that waits is stopped, is granted the lock, is
//! too late, and goes on.

use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer};
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError};
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use crate::support::server::signal;
use crate::support::{backend_pid, eventually, is_blocked};

const TIMEOUT: Duration = Duration::from_millis(100);

/// Whether the statement of a session began so long ago that its time is over.
fn is_late(conn: &mut PgConnection, pid: i32) -> bool {
    diesel::select(
        sql::<Bool>(
            "EXISTS (SELECT FROM pg_catalog.pg_stat_activity WHERE pg_catalog.now() \
             OPERATOR(pg_catalog.-) query_start OPERATOR(pg_catalog.>) '200ms' \
             AND pid OPERATOR(pg_catalog.=) ",
        )
        .bind::<Integer, _>(pid)
        .sql(")"),
    )
    .get_result(conn)
    .unwrap()
}

/// Has `attempt` wait for the lock `x`, and be granted it too late.
fn grant_too_late(attempt: impl FnOnce(&mut PgConnection, &TempPostgres) + Send) {
    // Its processes are on this machine.
    let server = TempPostgres::start().unwrap();
    let connect = || PgConnection::establish(server.url()).unwrap();
    let (mut holder, mut waiter, mut observer) = (connect(), connect(), connect());
    let pid = backend_pid(&mut waiter);
    let guard = holder.advisory_lock("x").unwrap();
    thread::scope(|scope| {
        scope.spawn(|| attempt(&mut waiter, &server));
        eventually(|| is_blocked(&mut observer, pid));
        signal("-STOP", &[pid]);
        guard.release().unwrap();
        eventually(|| is_late(&mut observer, pid));
        signal("-CONT", &[pid]);
    });
}

fn assert_nobody_has_it(server: &TempPostgres) {
    let locks: i64 = sql::<BigInt>(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks \
         WHERE locktype OPERATOR(pg_catalog.=) 'advisory'",
    )
    .get_result(&mut PgConnection::establish(server.url()).unwrap())
    .unwrap();
    assert_eq!(locks, 0);
}

#[test]
#[parallel]
fn a_lock_that_is_granted_and_timed_out_leaves_no_lock_behind() {
    grant_too_late(|conn, server| {
        let late = conn.advisory_lock_timeout("x", TIMEOUT).map(drop);
        assert!(matches!(late, Err(LockError::Timeout { .. })));
        assert_nobody_has_it(server);
        conn.batch_execute("SELECT 1").unwrap();
    });
}

#[test]
#[parallel]
fn a_lock_that_is_granted_and_timed_out_leaves_no_lock_behind_in_a_transaction_and_the_transaction_aborted()
 {
    grant_too_late(|conn, server| {
        let error = conn
            .transaction::<(), LockError, _>(|conn| {
                let late = conn.advisory_lock_timeout("x", TIMEOUT).map(drop);
                assert!(matches!(late, Err(LockError::Timeout { .. })));
                assert_nobody_has_it(server);
                Ok(conn.batch_execute("SELECT 1")?)
            })
            .unwrap_err();
        assert!(matches!(error, LockError::TransactionAborted { .. }));
    });
}

#[test]
#[parallel]
fn a_lock_that_is_granted_and_timed_out_leaves_no_lock_behind_in_a_savepoint_and_the_outer_transaction_usable()
 {
    grant_too_late(|conn, server| {
        conn.transaction::<(), LockError, _>(|conn| {
            let late = conn.transaction::<(), LockError, _>(|conn| {
                conn.advisory_lock_timeout(AdvisoryLock::shared("x"), TIMEOUT)?
                    .release()
            });
            assert!(matches!(late, Err(LockError::Timeout { .. })));
            assert_nobody_has_it(server);
            Ok(conn.batch_execute("SELECT 1")?)
        })
        .unwrap();
    });
}
