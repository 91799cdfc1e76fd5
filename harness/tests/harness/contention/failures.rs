//! What goes wrong beside the lock: told apart from a refusal, and nothing is left behind.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_locks::LockError;
use diesel_locks_harness::{
    Contention, ContentionError, Outcome, attempt_acquiring_lock_in_separate_transactions,
};
use serial_test::parallel;

use super::outcomes::{AT_ONCE, lock_account, wait_for_account};
use crate::support::schema::accounts;
use crate::support::{advisory_locks, connect, connections, database, eventually};

#[test]
#[parallel]
fn a_contender_that_hangs_elsewhere_is_told_to_be_idle_on_the_server() {
    let database = database();
    let short = Duration::from_millis(300);
    let (sender, receiver) = mpsc::channel::<()>();
    let receiver = Mutex::new(receiver);
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .timeout(short)
        .run_scoped(|_, hold| {
            if receiver.lock().unwrap().recv_timeout(3 * short).is_err() {
                hold.until_settled();
            }
            Ok::<_, LockError>(())
        })
        .unwrap();
    assert_eq!(
        outcome.to_string(),
        "0 granted, 2 not settled in time (2 idle on the server)"
    );
    assert_eq!(outcome.idle(), 2);
    drop(sender);
}

#[test]
#[parallel]
fn what_a_waiter_runs_into_is_told() {
    let database = database();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run_scoped(|conn, hold| {
            conn.build_transaction().repeatable_read().run(|conn| {
                accounts::table.count().get_result::<i64>(conn)?;
                wait_for_account(conn)?;
                diesel::update(accounts::table.find(1))
                    .set(accounts::balance.eq(0))
                    .execute(conn)?;
                hold.until_settled();
                Ok::<_, LockError>(())
            })
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");
    assert!(matches!(
        outcome.afterwards(),
        [Err(LockError::SerializationFailure { .. })]
    ));
    assert_eq!(outcome.into_errors().len(), 1);
}

#[test]
#[parallel]
fn a_commit_that_fails_is_an_ending_and_not_a_refusal() {
    let database = database();
    connect(&database)
        .batch_execute(
            "ALTER TABLE jobs ALTER CONSTRAINT jobs_account_id_fkey \
             DEFERRABLE INITIALLY DEFERRED",
        )
        .unwrap();
    let outcome: Outcome<LockError> = Contention::new(|| PgConnection::establish(database.url()))
        .run(|conn| {
            let job = "INSERT INTO jobs (account_id, payload) VALUES (7, 'for nobody')";
            Ok(conn.batch_execute(job)?)
        })
        .unwrap();
    assert_eq!(outcome.granted(), 2);
    assert!(matches!(
        outcome.endings(),
        [Err(LockError::Database(_)), Err(LockError::Database(_))]
    ));
}

#[test]
#[parallel]
fn a_panic_comes_out_and_hangs_nobody() {
    let database = database();
    let begun = Instant::now();
    let contention = Contention::new(|| PgConnection::establish(database.url())).contenders(3);
    let turn = AtomicUsize::new(0);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        contention.run(|conn| {
            wait_for_account(conn)?;
            match turn.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("with the lock"),
                _ => Ok::<_, LockError>(()),
            }
        })
    }));
    let payload = panicked.unwrap_err();
    assert_eq!(payload.downcast_ref(), Some(&"with the lock"));
    // The other two were granted it, one after the other.
    assert_eq!(turn.into_inner(), 3);
    assert!(begun.elapsed() < AT_ONCE);
    contention.run(lock_account).unwrap().granted();
}

#[test]
#[parallel]
fn a_contender_that_waits_for_an_outsider_runs_into_the_timeout_and_is_ended() {
    let database = database();
    let mut outsider = connect(&database);
    outsider.begin_test_transaction().unwrap();
    lock_account(&mut outsider).unwrap();
    let connect = || PgConnection::establish(database.url());
    let short = Duration::from_millis(100);
    let outcome = Contention::new(connect)
        .timeout(short)
        .run(wait_for_account)
        .unwrap();
    assert_eq!(outcome.to_string(), "0 granted, 2 not settled in time");
    assert!(matches!(
        outcome.unsettled(),
        [
            Err(LockError::ConnectionLost { .. }),
            Err(LockError::ConnectionLost { .. })
        ]
    ));
    let error = attempt_acquiring_lock_in_separate_transactions(connect, wait_for_account, short)
        .unwrap_err();
    assert!(matches!(
        error,
        ContentionError::Timeout { unsettled: 2, timeout, .. } if timeout == short
    ));
}

#[test]
#[parallel]
fn connections_that_cannot_be_had_are_errors_and_not_hangs() {
    let url = "postgres://nobody@127.0.0.1:1/none";
    let error = Contention::new(|| PgConnection::establish(url))
        .run(lock_account)
        .unwrap_err();
    assert!(matches!(
        error,
        ContentionError::Connect { contender: 0, .. }
    ));

    // A pool of two is enough for two that fail, and too small to see one of them wait.
    let database = database();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder()
        .max_size(2)
        .connection_timeout(Duration::from_millis(200))
        .build(manager)
        .unwrap();
    let attempt = |conn: &mut diesel::r2d2::PooledConnection<_>| lock_account(conn);
    let outcome = Contention::new(|| pool.get()).run(attempt).unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 failed");
    let attempt = |conn: &mut diesel::r2d2::PooledConnection<_>| wait_for_account(conn);
    let error = Contention::new(|| pool.get()).run(attempt).unwrap_err();
    assert!(matches!(error, ContentionError::Observe(_)));
    // Nobody begins when one cannot.
    let attempts = AtomicUsize::new(0);
    let error = Contention::new(|| pool.get()).contenders(3).run(|_| {
        attempts.fetch_add(1, Ordering::Relaxed);
        Ok::<_, LockError>(())
    });
    assert!(matches!(error, Err(ContentionError::Connect { .. })));
    assert_eq!(attempts.into_inner(), 0);
    assert_eq!(pool.state().idle_connections, 2);
}

#[test]
#[parallel]
fn no_connection_is_left_when_run_returns() {
    let database = database();
    let contention = Contention::new(|| PgConnection::establish(database.url())).contenders(6);
    contention.run(wait_for_account).unwrap().granted();
    eventually(|| connections(&database) == 0);
    assert_eq!(advisory_locks(&database), 0);
}
