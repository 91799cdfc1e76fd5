//! Advisory locks that end with their transaction.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use diesel::connection::{SimpleConnection, TransactionManager};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{Integer, Text};
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, LockTarget, Wait};
use diesel_locks_harness::{Contention, TestDatabase};
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{
    advisory_locks, backend_pid, connect, database, lock_timeout, pool, terminate, two_sessions,
};

const SHORT: Duration = Duration::from_millis(20);

#[test]
#[parallel]
fn outside_a_transaction_nothing_is_sent() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    for refused in [
        conn.advisory_xact_lock("x"),
        conn.advisory_xact_lock_nowait("x"),
        conn.advisory_xact_lock_timeout("x", SHORT),
        conn.try_advisory_xact_lock("x").map(drop),
    ] {
        assert!(matches!(refused, Err(LockError::NotInTransaction)));
    }
}

#[test]
#[parallel]
fn every_way_to_wait_is_told_apart() {
    let database = TestDatabase::new().unwrap();
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    for lock in [
        AdvisoryLock::exclusive(i64::MIN),
        AdvisoryLock::exclusive((i32::MIN, i32::MIN)),
    ] {
        let outcome = contention
            .run(|conn| conn.advisory_xact_lock(lock))
            .unwrap();
        assert_eq!(outcome.to_string(), "1 granted, 1 waited");
        let outcome = contention
            .run(|conn| conn.advisory_xact_lock_nowait(lock))
            .unwrap();
        assert!(matches!(
            outcome.errors(),
            [LockError::NotAvailable { target: LockTarget::Advisory(l), .. }] if *l == lock
        ));
        let outcome = contention
            .run(|conn| match conn.try_advisory_xact_lock(lock)? {
                true => Ok(()),
                // The transaction is still usable.
                false => Err(LockError::from(
                    conn.batch_execute("SELECT 1 / 0").unwrap_err(),
                )),
            })
            .unwrap();
        assert!(matches!(outcome.errors(), [LockError::Database(_)]));

        let shared = AdvisoryLock::shared(lock.key());
        let outcome = contention
            .run(|conn| conn.advisory_xact_lock(shared))
            .unwrap();
        assert_eq!(outcome.to_string(), "2 granted");
    }
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_timeout_is_measured_by_the_server_and_put_back() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _holder = here.advisory_lock("x").unwrap();
    there.batch_execute("SET lock_timeout = '1min'").unwrap();
    there
        .transaction::<_, LockError, _>(|conn| {
            let late = conn.transaction(|conn| conn.advisory_xact_lock_timeout("x", SHORT));
            let Err(LockError::Timeout { target, .. }) = late else {
                panic!("{late:?}");
            };
            assert_eq!(target, Some(LockTarget::Advisory("x".into())));
            conn.advisory_xact_lock_timeout("y", SHORT)?;
            assert_eq!(lock_timeout(conn), "1min");
            Ok(())
        })
        .unwrap();
}

#[test]
#[parallel]
fn a_rollback_to_a_savepoint_gives_it_back_and_a_commit_does() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.transaction::<_, LockError, _>(|conn| {
        conn.transaction::<(), LockError, _>(|conn| {
            conn.advisory_xact_lock("x")?;
            Err(Error::RollbackTransaction.into())
        })
        .unwrap_err();
        assert_eq!(advisory_locks(&database), 0);
        conn.transaction(|conn| conn.advisory_xact_lock("x"))?;
        assert_eq!(advisory_locks(&database), 1);
        Ok(())
    })
    .unwrap();
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_transaction_begins_with_the_lock() {
    let database = TestDatabase::new().unwrap();
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    for (wait, ends) in [
        (Wait::Block, "1 granted, 1 waited"),
        (Wait::Timeout(Duration::MAX), "1 granted, 1 waited"),
        (Wait::NoWait, "1 granted, 1 failed"),
    ] {
        for lock in [
            AdvisoryLock::exclusive(i64::MIN),
            AdvisoryLock::exclusive((i32::MIN, -1)),
        ] {
            let outcome = contention
                .run_scoped(|conn, hold| {
                    conn.transaction_with_advisory_lock_wait(lock, wait, |conn| {
                        conn.batch_execute("SELECT 1")?;
                        hold.until_settled();
                        Ok::<_, LockError>(())
                    })
                })
                .unwrap();
            assert_eq!(outcome.to_string(), ends, "{wait:?}");
        }
    }
    let outcome = contention
        .run_scoped(|conn, hold| {
            conn.transaction_with_advisory_lock(AdvisoryLock::shared("x"), |_| {
                hold.until_settled();
                Ok::<_, LockError>(())
            })
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "2 granted");
}

fn depth(conn: &mut PgConnection) -> Option<u32> {
    let status =
        <PgConnection as Connection>::TransactionManager::transaction_manager_status_mut(conn);
    status.transaction_depth().unwrap().map(u32::from)
}

#[test]
#[parallel]
fn diesel_knows_the_transaction_as_its_own() {
    let database = database();
    let mut conn = connect(&database);
    let balance = |conn: &mut PgConnection| {
        let account = accounts::table.find(1).select(accounts::balance);
        account.get_result::<i64>(conn).unwrap()
    };
    let pay = |conn: &mut PgConnection, amount: i64| {
        diesel::update(accounts::table.find(1))
            .set(accounts::balance.eq(accounts::balance + amount))
            .execute(conn)
            .unwrap()
    };
    for wait in [Wait::Block, Wait::NoWait, Wait::Timeout(SHORT)] {
        // Committed.
        conn.transaction_with_advisory_lock_wait("x", wait, |conn| {
            assert_eq!(depth(conn), Some(1));
            pay(conn, 1);
            Ok::<_, LockError>(())
        })
        .unwrap();
        // Rolled back.
        conn.transaction_with_advisory_lock_wait("x", wait, |conn| {
            pay(conn, 10);
            Err::<(), _>(LockError::from(Error::NotFound))
        })
        .unwrap_err();
        // A savepoint, released and rolled back.
        conn.transaction::<_, LockError, _>(|conn| {
            conn.transaction_with_advisory_lock_wait("x", wait, |conn| {
                assert_eq!(depth(conn), Some(2));
                pay(conn, 1);
                Ok::<_, LockError>(())
            })?;
            conn.transaction_with_advisory_lock_wait("x", wait, |conn| {
                pay(conn, 10);
                Err::<(), _>(LockError::from(Error::NotFound))
            })
            .unwrap_err();
            assert_eq!(depth(conn), Some(1));
            Ok(())
        })
        .unwrap();
        assert_eq!(depth(&mut conn), None);
        assert_eq!(advisory_locks(&database), 0);
    }
    assert_eq!(balance(&mut conn), 106);
}

#[test]
#[parallel]
fn a_lock_that_is_not_granted_leaves_no_transaction_open() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut observer = connect(&database);
    let pid = backend_pid(&mut there);
    let _holder = here.advisory_lock("x").unwrap();
    for wait in [Wait::NoWait, Wait::Timeout(SHORT)] {
        let refused =
            there.transaction_with_advisory_lock_wait("x", wait, |_| -> Result<(), LockError> {
                unreachable!("the lock is held")
            });
        assert!(refused.unwrap_err().is_contention());
        assert_eq!(depth(&mut there), None);
        let state = diesel::select(
            sql::<Text>("(SELECT state FROM pg_stat_activity WHERE pid = ")
                .bind::<Integer, _>(pid)
                .sql(")"),
        );
        let state: String = state.get_result(&mut observer).unwrap();
        assert_eq!(state, "idle");

        there
            .transaction::<_, LockError, _>(|conn| {
                let refused =
                    conn.transaction_with_advisory_lock_wait("x", wait, |_| Ok::<_, LockError>(()));
                assert!(refused.unwrap_err().is_contention());
                assert_eq!(depth(conn), Some(1));
                Ok(conn.batch_execute("SELECT 1")?)
            })
            .unwrap();
    }
}

#[test]
#[parallel]
fn an_aborted_outer_transaction_stays_aborted() {
    let database = database();
    let mut conn = connect(&database);
    let lost = conn.transaction::<(), LockError, _>(|conn| {
        diesel::delete(accounts::table).execute(conn)?;
        // A savepoint of the name that the next one will have is left behind by this.
        conn.transaction::<(), Error, _>(|_| Err(Error::RollbackTransaction))
            .unwrap_err();
        conn.batch_execute("SELECT 1 / 0").unwrap_err();
        let refused = conn
            .transaction_with_advisory_lock("x", |_| Ok::<_, LockError>(()))
            .unwrap_err();
        assert!(matches!(refused, LockError::TransactionAborted { .. }));
        Ok(conn.batch_execute("SELECT 1")?)
    });
    assert!(matches!(lost, Err(LockError::TransactionAborted { .. })));
    assert_eq!(accounts::table.count().get_result(&mut conn), Ok(2_i64));
}

#[test]
#[parallel]
fn a_failing_commit_is_told_and_ends_the_transaction() {
    let database = database();
    let mut conn = connect(&database);
    conn.batch_execute(
        "ALTER TABLE jobs ALTER CONSTRAINT jobs_account_id_fkey DEFERRABLE INITIALLY DEFERRED",
    )
    .unwrap();
    let failed = conn.transaction_with_advisory_lock("x", |conn| {
        let job = "INSERT INTO jobs (account_id, payload) VALUES (7, 'for nobody')";
        Ok::<_, LockError>(conn.batch_execute(job)?)
    });
    assert!(matches!(failed, Err(LockError::Database(_))));
    assert_eq!(depth(&mut conn), None);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_panic_or_a_kill_in_it_takes_the_connection_out_of_the_pool() {
    let database = TestDatabase::new().unwrap();
    let pool = pool(&database, 1);
    let mut conn = pool.get().unwrap();
    let first = backend_pid(&mut conn);
    catch_unwind(AssertUnwindSafe(|| {
        conn.transaction_with_advisory_lock("x", |_| -> Result<(), LockError> { panic!("in it") })
    }))
    .unwrap_err();
    drop(conn);
    let mut conn = pool.get().unwrap();
    let second = backend_pid(&mut conn);
    assert_ne!(first, second);
    let lost = conn.transaction_with_advisory_lock("x", |conn| {
        terminate(&database, second);
        Ok::<_, LockError>(conn.batch_execute("SELECT 1")?)
    });
    assert!(matches!(lost, Err(LockError::ConnectionLost { .. })));
    drop(conn);
    assert_ne!(backend_pid(&mut pool.get().unwrap()), second);
    assert_eq!(advisory_locks(&database), 0);
}
