//! Threads that a call starts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};
use std::thread;
use std::time::Duration;

use diesel::prelude::*;
use diesel_locks_harness::{CallThread, Exploration, ExplorerError, SeenConnections, TestDatabase};
use serial_test::serial;

use super::fixture::{balance, explorer};
use crate::support::schema::accounts;
use crate::support::{PgPool, database, pool};

fn increment(pool: &PgPool) -> QueryResult<i64> {
    let mut conn = pool.get().unwrap();
    conn.transaction(|conn| {
        let read = balance(conn, 1)?;
        diesel::update(accounts::table.find(1))
            .set(accounts::balance.eq(read + 1))
            .execute(conn)?;
        Ok(read + 1)
    })
}

fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let thread = CallThread::new();
    thread::scope(|scope| scope.spawn(|| thread.run(work)).join()).unwrap()
}

fn twice(
    call: impl Fn() -> QueryResult<i64> + Send + Sync,
    database: &TestDatabase,
) -> Exploration {
    let explorer = explorer(database)
        .timeout(Duration::from_secs(10))
        .call("ada", &call)
        .call("bob", &call)
        .serializable();
    explorer.explore().unwrap()
}

#[test]
#[serial]
fn what_a_thread_of_a_call_sends_is_in_the_same_orders_as_if_the_call_had_sent_it() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let exploration = twice(|| beside(|| increment(&pool)), &database);
    assert!(exploration.is_complete(), "{exploration}");
    assert_eq!(exploration.failures().len(), 2, "{exploration}");
    let alone = twice(|| increment(&pool), &database);
    assert_eq!(exploration.list(), alone.list());
}

#[test]
#[serial]
fn a_thread_that_sends_for_a_call_and_answers_it_takes_turns_with_it() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let call = || {
        let (work, jobs) = mpsc::channel::<()>();
        let (answer, answers) = mpsc::channel();
        let thread = CallThread::new();
        thread::scope(|scope| {
            let pool = &pool;
            scope.spawn(move || {
                thread.run(|| {
                    for () in jobs {
                        answer.send(increment(pool)).unwrap();
                    }
                });
            });
            work.send(()).unwrap();
            let first = answers.recv().unwrap()?;
            let seen = balance(&mut pool.get().unwrap(), 2)?;
            work.send(()).unwrap();
            drop(work);
            QueryResult::Ok(first + seen + answers.recv().unwrap()?)
        })
    };
    let exploration = explorer(&database).call("ada", call).explore().unwrap();
    assert!(exploration.is_complete());
    assert_eq!(
        exploration.list(),
        [
            "ada.start ada.begin ada.select:accounts ada.update:accounts ada.commit \
          ada.select:accounts#2 ada.begin#2 ada.select:accounts#3 ada.update:accounts#2 ada.commit#2"
        ]
    );
}

#[test]
#[serial]
fn two_threads_of_a_session_that_send_at_the_same_time_are_refused() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let barrier = Barrier::new(2);
    let both = || {
        let threads = [CallThread::new(), CallThread::new()];
        thread::scope(|scope| {
            let threads = threads.map(|thread| {
                scope.spawn(|| {
                    thread.run(|| {
                        barrier.wait();
                        increment(&pool)
                    })
                })
            });
            threads.into_iter().all(|thread| thread.join().is_ok())
        });
        QueryResult::Ok(())
    };
    let error = explorer(&database).call("ada", both).explore().unwrap_err();
    assert!(
        matches!(&error, ExplorerError::Overlap { session } if session == "ada"),
        "{error:?}"
    );
}

#[test]
#[serial]
fn a_session_has_not_ended_before_the_threads_that_it_has_left_behind() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let call = || {
        let (thread, pool) = (CallThread::new(), pool.clone());
        thread::spawn(move || thread.run(|| increment(&pool)));
        Ok(0)
    };
    let exploration = twice(call, &database);
    assert!(exploration.is_complete(), "{exploration}");
    assert_eq!(
        (exploration.schedules(), exploration.failures().len()),
        (4, 2)
    );
}

#[test]
#[serial]
fn a_call_whose_thread_is_ended_has_ended_whatever_it_makes_of_that() {
    let database = database();
    let _seen = SeenConnections::new();
    let pool = pool(&database, 2);
    let endings = AtomicUsize::new(0);
    let call = || {
        let thread = CallThread::new();
        let done = thread::scope(|scope| scope.spawn(|| thread.run(|| increment(&pool))).join());
        let done = done.unwrap_or_else(|_| {
            endings.fetch_add(1, Ordering::Relaxed);
            Ok(0)
        });
        done.map(|_| 0)
    };
    let exploration = explorer(&database)
        .call("ada", call)
        .crashes()
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert!(exploration.is_complete());
    // Before each of four statements, and once after COMMIT.
    assert_eq!(
        endings.load(Ordering::Relaxed),
        5,
        "{:?}",
        exploration.list()
    );
}

#[test]
#[serial]
fn a_call_thread_outside_of_a_call_does_nothing() {
    assert_eq!(beside(|| 7), 7);
}
