//! A wait is told while it lasts, from a second connection.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait, Waiting};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{backend_pid, connect, pool, two_sessions};

pub(super) const SHORT: Duration = Duration::from_millis(20);

#[test]
#[parallel]
fn a_long_wait_is_told_while_it_lasts_with_who_is_in_the_way() {
    let (database, mut here, mut there) = two_sessions(crate::support::database());
    let holder = backend_pid(&mut there);
    there.batch_execute("SELECT pg_advisory_lock(42)").unwrap();
    let mut told: Vec<Waiting> = Vec::new();
    let guard = here
        .on_wait(
            SHORT,
            || PgConnection::establish(database.url()).ok(),
            |wait| {
                told.push(wait.clone());
                if told.len() == 2 {
                    // It waits as long as nobody does this.
                    there
                        .batch_execute("SELECT pg_advisory_unlock(42)")
                        .unwrap();
                }
            },
            |conn| conn.advisory_lock(42),
        )
        .unwrap();
    guard.release().unwrap();
    assert_eq!(told.len(), 2);
    for wait in &told {
        assert_eq!(wait.blockers[0].pid, holder);
        assert!(wait.since >= SHORT);
        let line = wait.to_string();
        assert!(
            line.starts_with("waiting for ") && line.contains(&format!(", behind pid {holder} ("))
        );
    }
}

#[test]
#[parallel]
fn a_timeout_may_look_before_it_gives_up() {
    let (database, mut here, mut there) = two_sessions(crate::support::database());
    let holder = backend_pid(&mut there);
    there
        .batch_execute("BEGIN; SELECT FROM accounts WHERE id = 1 FOR UPDATE")
        .unwrap();
    let mut told = Vec::new();
    let late = here.transaction(|conn| {
        conn.on_wait(
            Duration::from_millis(100),
            || PgConnection::establish(database.url()).ok(),
            |wait| told.extend(wait.blockers.iter().map(|session| session.pid)),
            |conn| {
                let account = accounts::table.find(1);
                conn.execute_for_update_timeout(account, Duration::from_secs(1))
            },
        )
    });
    assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
    assert!(
        told.len() > 1 && told.iter().all(|pid| *pid == holder),
        "{told:?}"
    );
}

#[test]
#[parallel]
fn a_pool_tells_of_a_wait_from_a_second_connection_and_without_one_it_only_waits() {
    let (database, mut there, _) = two_sessions(crate::support::database());
    let holder = backend_pid(&mut there);
    for size in [2, 1] {
        let pool = pool(&database, size);
        there.batch_execute("SELECT pg_advisory_lock(42)").unwrap();
        let mut told = Vec::new();
        let done = pool.on_wait(
            SHORT,
            |wait: &Waiting| {
                told.extend(wait.blockers.iter().map(|session| session.pid));
                there
                    .batch_execute("SELECT pg_advisory_unlock(42)")
                    .unwrap();
            },
            |conn| {
                let wait =
                    Wait::Timeout(Duration::from_millis(if size == 1 { 300 } else { 20_000 }));
                Ok::<_, LockError>(OwnedAdvisoryLockGuard::acquire(conn, 42, wait)?)
            },
        );
        match size {
            1 => {
                assert!(matches!(done, Err(LockError::Timeout { .. })), "{done:?}");
                assert_eq!(told, []);
            }
            _ => {
                drop(done.unwrap().release().unwrap());
                assert_eq!(told, [holder]);
            }
        }
        assert_eq!(pool.state().idle_connections, pool.state().connections);
    }
}

#[test]
#[parallel]
fn work_that_waits_for_no_lock_or_fails_or_panics_tells_nothing() {
    let (database, mut here, _there) = two_sessions(crate::support::database());
    let second = || PgConnection::establish(database.url()).ok();
    let never = |wait: &Waiting| panic!("{wait}");
    here.on_wait(SHORT, second, never, |conn| {
        conn.batch_execute("SELECT pg_sleep(0.1)")
            .map_err(LockError::from)
    })
    .unwrap();
    here.on_wait(
        SHORT,
        || None::<PgConnection>,
        never,
        |conn| {
            conn.batch_execute("SELECT nothing")
                .map_err(LockError::from)
        },
    )
    .unwrap_err();
    let panics = AssertUnwindSafe(|| {
        here.on_wait(SHORT, second, never, |_| -> Result<(), LockError> {
            panic!("work")
        })
    });
    let panic = catch_unwind(panics).unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"work"));
    here.batch_execute("BEGIN").unwrap();
    here.batch_execute("SELECT nothing").unwrap_err();
    let aborted = here.on_wait(SHORT, second, never, |_| -> Result<(), LockError> {
        panic!("not to be done")
    });
    assert!(matches!(aborted, Err(LockError::TransactionAborted { .. })));
}

#[test]
#[parallel]
fn a_look_without_a_pause_has_one() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let looks = AtomicU32::new(0);
    let begun = Instant::now();
    let nobody = || -> Option<PgConnection> {
        looks.fetch_add(1, Ordering::Relaxed);
        None
    };
    conn.on_wait(
        Duration::ZERO,
        nobody,
        |_| (),
        |conn| {
            conn.batch_execute("SELECT pg_sleep(0.1)")
                .map_err(LockError::from)
        },
    )
    .unwrap();
    let most = begun.elapsed().as_millis() / 10;
    let looks = looks.into_inner();
    assert!((1..=most).contains(&looks.into()), "{looks} of {most}");
}
