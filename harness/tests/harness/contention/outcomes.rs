//! Who is granted the lock, who is refused, who waits.

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError};
use diesel_locks_harness::{
    Contention, TestDatabase, attempt_acquiring_lock_in_separate_transactions,
};
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{connect, database};

/// Far below the time limit of 20 s, and far above what a contention takes.
pub(super) const AT_ONCE: Duration = Duration::from_secs(5);

pub(super) fn lock_account(conn: &mut PgConnection) -> Result<(), LockError> {
    conn.execute_for_update_nowait(accounts::table.find(1))
        .map(drop)
}

/// Waits for the account, unlike `lock_account`.
pub(super) fn wait_for_account(conn: &mut PgConnection) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT FROM accounts WHERE id = 1 FOR UPDATE")?)
}

#[test]
#[parallel]
fn two_hundred_runs_have_one_outcome() {
    let database = database();
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    for run in 0..200 {
        let outcome = contention.run(lock_account).unwrap();
        assert_eq!(outcome.to_string(), "1 granted, 1 failed", "run {run}");
        assert!(matches!(outcome.errors(), [LockError::NotAvailable { .. }]));
        assert!(matches!(outcome.endings(), [Ok(())]));
    }
}

#[test]
#[parallel]
fn locks_that_do_not_conflict_are_granted_to_all() {
    let database = TestDatabase::new().unwrap();
    let begun = Instant::now();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .contenders(5)
        .run_scoped(|conn, hold| {
            let reader = conn.advisory_lock(AdvisoryLock::shared("x"))?;
            hold.until_settled();
            hold.until_settled();
            reader.release()
        })
        .unwrap();
    assert!(begun.elapsed() < AT_ONCE);
    assert_eq!(outcome.to_string(), "5 granted");
    assert_eq!(outcome.endings().len(), 5);
}

#[test]
#[parallel]
fn one_of_many_is_granted() {
    let database = database();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .contenders(8)
        .run(lock_account)
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 7 failed");
}

#[test]
#[parallel]
fn contenders_that_wait_are_seen_and_go_on_afterwards() {
    let database = database();
    let begun = Instant::now();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .contenders(4)
        .run(wait_for_account)
        .unwrap();
    assert!(begun.elapsed() < AT_ONCE);
    assert_eq!(outcome.to_string(), "1 granted, 3 waited");
    assert!(matches!(outcome.afterwards(), [Ok(()), Ok(()), Ok(())]));
    assert!(outcome.errors().is_empty() && outcome.unsettled().is_empty());
}

#[test]
#[parallel]
fn some_wait_while_others_fail() {
    let database = database();
    let turn = AtomicUsize::new(0);
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .contenders(4)
        .run(|conn| match turn.fetch_add(1, Ordering::Relaxed) {
            // Whichever is first, the first two wait or are granted.
            0 | 1 => wait_for_account(conn),
            _ => lock_account(conn),
        })
        .unwrap();
    assert_eq!(outcome.granted(), 1, "{outcome}");
    assert_eq!(outcome.waited() + outcome.errors().len(), 3, "{outcome}");
    assert!(outcome.waited() >= 1, "{outcome}");
    assert!(outcome.afterwards().iter().all(Result::is_ok));
}

#[test]
#[parallel]
fn a_wait_for_a_safe_snapshot_is_seen() {
    let database = database();
    let begun = Instant::now();
    let (number, writes) = (AtomicUsize::new(0), Barrier::new(2));
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run_scoped(|conn, hold| {
            let count = accounts::table.count();
            if number.fetch_add(1, Ordering::Relaxed) == 0 {
                conn.build_transaction().serializable().run(|conn| {
                    diesel::update(accounts::table)
                        .set(accounts::balance.eq(0))
                        .execute(conn)?;
                    writes.wait();
                    hold.until_settled();
                    Ok::<_, LockError>(())
                })
            } else {
                writes.wait();
                let mut transaction = conn.build_transaction();
                transaction = transaction.serializable().read_only().deferrable();
                transaction.run(|conn| Ok(count.get_result::<i64>(conn).map(drop)?))
            }
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");
    assert!(matches!(outcome.afterwards(), [Ok(())]));
    assert!(begun.elapsed() < AT_ONCE);
}

#[test]
#[parallel]
fn contenders_that_use_connections_of_their_own_are_seen_to_wait() {
    let database = database();
    let begun = Instant::now();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .contenders(3)
        .run_scoped(|_, hold| {
            connect(&database).transaction(|own| {
                wait_for_account(own)?;
                hold.until_settled();
                Ok::<_, LockError>(())
            })
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 2 waited");
    assert!(matches!(outcome.afterwards(), [Ok(()), Ok(())]));
    assert!(begun.elapsed() < AT_ONCE);
}

#[test]
#[parallel]
fn all_fail_when_somebody_else_has_the_lock() {
    let database = database();
    let mut outsider = connect(&database);
    outsider.begin_test_transaction().unwrap();
    lock_account(&mut outsider).unwrap();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run(lock_account)
        .unwrap();
    assert_eq!(outcome.to_string(), "0 granted, 2 failed");
}

#[test]
#[parallel]
fn transactions_that_are_granted_the_lock_are_committed() {
    let database = database();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run(|conn| {
            lock_account(conn)?;
            diesel::update(accounts::table.find(1))
                .set(accounts::balance.eq(accounts::balance + 1))
                .execute(conn)?;
            Ok::<_, LockError>(())
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 failed");
    let balance = accounts::table.find(1).select(accounts::balance);
    assert_eq!(balance.first::<i64>(&mut connect(&database)), Ok(101));
}

#[test]
#[parallel]
fn the_short_form_returns_the_errors() {
    let database = database();
    let connect = || PgConnection::establish(database.url());
    let timeout = Duration::from_secs(20);
    let errors =
        attempt_acquiring_lock_in_separate_transactions(connect, lock_account, timeout).unwrap();
    assert!(matches!(errors[..], [LockError::NotAvailable { .. }]));
    let none =
        attempt_acquiring_lock_in_separate_transactions(connect, wait_for_account, Duration::MAX)
            .unwrap();
    assert!(none.is_empty());
}

#[test]
#[parallel]
fn any_error_type_that_diesel_accepts_will_do() {
    let database = TestDatabase::new().unwrap();
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    let outcome = contention.run(|_| Err(Error::NotFound)).unwrap();
    assert_eq!(outcome.errors(), [Error::NotFound, Error::NotFound]);
    let outcome = contention
        .run(|conn| {
            conn.batch_execute("SELECT 1")?;
            Err(Box::<dyn std::error::Error + Send + Sync>::from("no"))
        })
        .unwrap();
    assert_eq!(outcome.errors().len(), 2);
}

#[test]
#[parallel]
fn any_number_of_contenders_will_do() {
    let database = database();
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    let none = contention.clone().contenders(0).run(lock_account).unwrap();
    assert_eq!(none.to_string(), "0 granted");
    let one = contention.contenders(1).run(lock_account).unwrap();
    assert_eq!(one.to_string(), "1 granted");
}
