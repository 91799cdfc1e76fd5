//! Many threads, one lock, one pool, and every way in which a holder can end.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::Integer;
use diesel_locks::prelude::*;
use diesel_locks::{LockAwareManager, LockError};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::{advisory_locks, backend_pid, connect, eventually, terminate};

/// How many locks a soak takes: more by `DIESEL_LOCKS_SOAK`.
fn soak_length() -> usize {
    std::env::var("DIESEL_LOCKS_SOAK").map_or(4_000, |length| length.parse().unwrap())
}

/// Takes the lock, and ends in the way that `turn` says.
fn take(
    database: &TestDatabase,
    pool: &Pool<LockAwareManager<PgConnection>>,
    turn: usize,
) -> Result<(), LockError> {
    // Two holders inside would count to 2, or lose an update.
    const ENTER: &str = "UPDATE inside SET holders = holders + 1, entered = entered + 1";
    const LEAVE: &str = "UPDATE inside SET holders = holders - 1";
    let mut conn = pool.get()?;
    let mut guard = conn.advisory_lock("x")?;
    guard.batch_execute(ENTER)?;
    guard.batch_execute(LEAVE)?;
    match turn % 80 {
        19 => drop(catch_unwind(AssertUnwindSafe(|| {
            let _guard = guard;
            // Unwinds as a panic does, and spares the log a hundred messages.
            resume_unwind(Box::new("under the lock"));
        }))),
        39 => {
            let failed = guard.transaction(|conn| conn.batch_execute("SELECT 1 / 0"));
            assert!(failed.is_err());
        }
        59 => {
            let pid = backend_pid(&mut *guard);
            terminate(database, pid);
        }
        79 => mem::forget(guard),
        _ => guard.release()?,
    }
    Ok(())
}

#[test]
#[parallel]
fn many_threads_leave_no_lock_and_never_are_two_holders() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(
        "CREATE TABLE inside (holders integer CHECK (holders IN (0, 1)), entered integer); \
         INSERT INTO inside VALUES (0, 0)",
    )
    .unwrap();
    let manager = LockAwareManager::new(ConnectionManager::new(database.url()));
    let pool = Pool::builder().max_size(8).build(manager).unwrap();
    let length = soak_length();
    let turns = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                loop {
                    let turn = turns.fetch_add(1, Ordering::Relaxed);
                    if turn >= length {
                        break;
                    }
                    take(&database, &pool, turn).unwrap();
                }
            });
        }
    });
    eventually(|| advisory_locks(&database) == 0);
    let inside: (i32, i32) = sql::<(Integer, Integer)>("SELECT holders, entered FROM inside")
        .get_result(&mut pool.get().unwrap())
        .unwrap();
    assert_eq!(inside, (0, i32::try_from(length).unwrap()));
}
