//! Transactions that are run again.

use std::error::Error as StdError;
use std::fmt::Debug;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::Error;
use diesel_locks::prelude::*;
use diesel_locks::{Condition, LockError, Retry, TableLockMode, TransactionError, is_contention};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{backend_pid, connect, database, eventually, waits_for_a_table};

/// Fails on the server, as a serialization failure.
fn fail(conn: &mut PgConnection) -> Result<(), Error> {
    conn.batch_execute("DO $$ BEGIN RAISE 'again' USING ERRCODE = '40001'; END $$")
}

fn quick() -> Retry {
    Retry::new().backoff(Duration::from_millis(1), Duration::from_millis(2))
}

#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("the database failed")]
    Database(#[from] Error),
    #[error("a lock failed")]
    Lock(#[from] LockError),
    #[error("{0}")]
    Other(&'static str),
}

#[test]
#[parallel]
fn a_transaction_is_run_again_until_it_succeeds_and_every_failure_is_reported() {
    let database = database();
    let conn = &mut connect(&database);
    let mut reports = Vec::new();
    let mut runs = 0;
    let done = conn
        .retrying(quick())
        .on_failure(|attempt, error| reports.push((attempt, error.to_string())))
        .transaction::<_, AppError, _>(|conn| {
            runs += 1;
            diesel::update(accounts::table)
                .set(accounts::balance.eq(accounts::balance + 1))
                .execute(conn)?;
            match runs {
                1 => Ok(fail(conn)?),
                2 => Err(LockError::from(fail(conn).unwrap_err()).into()),
                _ => Ok(()),
            }
        });
    assert!(done.is_ok());
    assert_eq!(runs, 3);
    let texts = [
        (1, "the database failed".to_owned()),
        (2, "a lock failed".to_owned()),
    ];
    assert_eq!(reports, texts);
    // What failed was rolled back.
    let balances: Vec<i64> = accounts::table
        .select(accounts::balance)
        .load(conn)
        .unwrap();
    assert_eq!(balances, [101, 101]);
}

#[test]
#[parallel]
fn retrying_gives_up_after_its_attempts_and_before_its_deadline() {
    let database = TestDatabase::new().unwrap();
    let conn = &mut connect(&database);
    let attempts = |conn: &mut PgConnection, retry| {
        let (mut runs, mut reports) = (0, 0);
        let error = conn
            .retrying(retry)
            .on_failure(|_, _| reports += 1)
            .transaction::<(), LockError, _>(|conn| {
                runs += 1;
                Ok(fail(conn)?)
            })
            .unwrap_err();
        assert!(matches!(error, LockError::SerializationFailure { .. }));
        assert_eq!(runs, reports);
        runs
    };
    assert_eq!(attempts(conn, quick().attempts(4)), 4);
    assert_eq!(attempts(conn, quick().attempts(0)), 1);
    let hour = Duration::from_secs(3600);
    let patient = Retry::new()
        .backoff(hour, hour)
        .deadline(Duration::from_secs(60));
    assert_eq!(attempts(conn, patient), 1);
}

#[test]
#[parallel]
fn what_would_fail_again_is_not_run_again() {
    let database = TestDatabase::new().unwrap();
    let conn = &mut connect(&database);
    let mut runs = 0;
    let error = conn
        .retrying(quick())
        .transaction::<(), AppError, _>(|conn| {
            runs += 1;
            conn.batch_execute("SELECT 1 / 0")?;
            Ok(())
        });
    assert!(matches!(error, Err(AppError::Database(_))));
    let error = conn.retrying(quick()).transaction::<(), AppError, _>(|_| {
        runs += 1;
        Err(AppError::Other("no"))
    });
    assert!(error.unwrap_err().source().is_none());
    assert_eq!(runs, 2);
}

/// Has `conn` be the victim of a deadlock with another session.
fn deadlock(conn: &mut PgConnection, database: &TestDatabase) -> Result<(), Error> {
    let there = &mut connect(database);
    let pid = backend_pid(there);
    // Whoever looks for a deadlock first is the one that is ended.
    there.batch_execute("SET deadlock_timeout = '1h'; BEGIN; LOCK TABLE jobs")?;
    conn.batch_execute("SET LOCAL deadlock_timeout = '10ms'; LOCK TABLE accounts")?;
    thread::scope(|scope| {
        let ended = scope.spawn(|| there.batch_execute("LOCK TABLE accounts; COMMIT"));
        eventually(|| waits_for_a_table(database, pid));
        let failed = conn.batch_execute("LOCK TABLE jobs");
        ended.join().unwrap()?;
        failed
    })
}

/// Has another session write what `conn` is about to.
fn serialization_failure(conn: &mut PgConnection, database: &TestDatabase) -> Result<(), Error> {
    const WRITE: &str = "UPDATE accounts SET balance = balance + 1";
    conn.batch_execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ; SELECT FROM accounts")?;
    connect(database).batch_execute(WRITE)?;
    conn.batch_execute(WRITE)
}

fn is_run_again_where_it_is_due<E, How>(wrap: fn(Error) -> E)
where
    E: TransactionError<How> + Debug,
{
    let database = database();
    let conn = &mut connect(&database);
    for (fail, condition) in [
        (deadlock as fn(&mut _, &_) -> _, Condition::Deadlock),
        (serialization_failure, Condition::SerializationFailure),
    ] {
        let (mut runs, mut seen) = (0, Vec::new());
        conn.retrying(quick())
            .on_failure(|_, error| seen.push(diesel_locks::condition(error)))
            .transaction(|conn| {
                runs += 1;
                match runs {
                    1 => fail(conn, &database).map_err(wrap),
                    _ => Ok(()),
                }
            })
            .unwrap();
        assert_eq!((runs, seen), (2, vec![Some(condition)]));
    }
    let mut runs = 0;
    conn.retrying(quick())
        .transaction(|_| {
            runs += 1;
            Err::<(), _>(wrap(Error::NotFound))
        })
        .unwrap_err();
    assert_eq!(runs, 1);
}

#[test]
#[parallel]
fn an_error_may_be_of_any_type_that_diesels_transaction_takes() {
    is_run_again_where_it_is_due(|error| error);
    is_run_again_where_it_is_due(LockError::from);
    is_run_again_where_it_is_due(AppError::from);
    is_run_again_where_it_is_due(Box::<dyn StdError>::from);
    is_run_again_where_it_is_due(Box::<dyn StdError + Send + Sync>::from);
    is_run_again_where_it_is_due(anyhow::Error::from);
}

#[test]
#[parallel]
fn an_error_is_found_in_a_box_and_under_a_context() {
    is_run_again_where_it_is_due(|error| Box::<dyn StdError>::from(LockError::from(error)));
    is_run_again_where_it_is_due(|error| anyhow::Error::new(error).context("no transfer"));
    is_run_again_where_it_is_due(|error| {
        anyhow::Error::new(AppError::Lock(error.into())).context("no transfer")
    });
}

#[test]
#[parallel]
fn what_is_retryable_besides_is_for_the_caller_to_say() {
    let database = database();
    let (conn, there) = (&mut connect(&database), &mut connect(&database));
    let (mode, short) = (TableLockMode::Exclusive, Duration::from_millis(20));

    there.batch_execute("BEGIN; LOCK TABLE accounts").unwrap();
    let mut seen = Vec::new();
    conn.retrying(quick())
        .retry_if(LockError::is_contention)
        .on_failure(|attempt, error| {
            let timeout = error.downcast_ref::<LockError>();
            seen.push((attempt, matches!(timeout, Some(LockError::Timeout { .. }))));
            there.batch_execute("ROLLBACK").unwrap();
        })
        .transaction(|conn| conn.lock_table_timeout(accounts::table, mode, short))
        .unwrap();
    assert_eq!(seen, [(1, true)]);

    there.batch_execute("BEGIN; LOCK TABLE accounts").unwrap();
    let mut runs = 0;
    let refused = conn
        .retrying(quick().attempts(3))
        .retry_if(|error: &anyhow::Error| is_contention(error.as_ref()))
        .transaction(|conn| {
            runs += 1;
            Ok(conn.lock_table_nowait(accounts::table, mode)?)
        });
    assert!(refused.unwrap_err().is::<LockError>());
    assert_eq!(runs, 3);

    // What this crate finds is retryable still, and all else is not.
    let mut runs = 0;
    let failed = conn
        .retrying(quick())
        .retry_if(|error| matches!(error, AppError::Other("again")))
        .transaction::<(), _, _>(|conn| {
            runs += 1;
            match runs {
                1 => Err(AppError::Other("again")),
                2 => Ok(fail(conn)?),
                _ => Err(AppError::Other("no")),
            }
        });
    assert!(matches!(failed, Err(AppError::Other("no"))));
    assert_eq!(runs, 3);
}

#[test]
#[parallel]
fn inside_an_outer_transaction_it_is_run_once() {
    let database = TestDatabase::new().unwrap();
    let conn = &mut connect(&database);
    let (mut outer, mut inner) = (0, 0);
    conn.retrying(quick())
        .transaction::<_, LockError, _>(|conn| {
            outer += 1;
            conn.retrying(quick())
                .transaction::<_, LockError, _>(|conn| {
                    inner += 1;
                    if inner < 3 { Ok(fail(conn)?) } else { Ok(()) }
                })
        })
        .unwrap();
    assert_eq!((outer, inner), (3, 3));
}

/// 16 threads, 10 accounts, random directions.
fn transfers(transfer: impl Fn(&mut PgConnection, i32, i32) -> Result<(), LockError> + Sync) {
    let database = database();
    let conn = &mut connect(&database);
    conn.batch_execute(
        "DELETE FROM accounts; INSERT INTO accounts SELECT id, 'x', 1000 FROM generate_series(0, 9) AS id",
    )
    .unwrap();
    let done = AtomicU32::new(0);
    thread::scope(|scope| {
        for thread in 0..16_i32 {
            let (database, transfer, done) = (&database, &transfer, &done);
            scope.spawn(move || {
                let conn = &mut connect(database);
                for turn in 0..20 {
                    let from = (thread * 7 + turn * 3) % 10;
                    let to = (from + 1 + (thread + turn) % 9) % 10;
                    transfer(conn, from, to).unwrap();
                    done.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(done.into_inner(), 320);
    let balances: Vec<i64> = accounts::table
        .select(accounts::balance)
        .load(conn)
        .unwrap();
    assert_eq!(balances.iter().sum::<i64>(), 10_000);
}

fn add(conn: &mut PgConnection, id: i32, amount: i64) -> Result<(), LockError> {
    // Read, then write: without a lock or SERIALIZABLE an update would be lost.
    let balance: i64 = accounts::table
        .find(id)
        .select(accounts::balance)
        .first(conn)?;
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(balance + amount))
        .execute(conn)?;
    Ok(())
}

fn persistent() -> Retry {
    Retry::new()
        .attempts(1_000)
        .backoff(Duration::from_millis(1), Duration::from_millis(100))
}

#[test]
#[parallel]
fn transfers_under_serializable_all_end_and_the_sum_is_right() {
    transfers(|conn, from, to| {
        conn.retrying(persistent()).run(|conn| {
            conn.build_transaction().serializable().run(|conn| {
                add(conn, from, -1)?;
                add(conn, to, 1)
            })
        })
    });
}

#[test]
#[parallel]
fn transfers_under_row_locks_that_deadlock_all_end_and_the_sum_is_right() {
    transfers(|conn, from, to| {
        conn.batch_execute("SET deadlock_timeout = '2ms'")?;
        conn.retrying(persistent()).transaction(|conn| {
            conn.execute_for_update(accounts::table.find(from))?;
            conn.execute_for_update(accounts::table.find(to))?;
            add(conn, from, -1)?;
            add(conn, to, 1)
        })
    });
}
