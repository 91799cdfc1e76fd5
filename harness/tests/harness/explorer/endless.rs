//! What comes to no end, in every order.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel_locks_harness::{Exploration, Problem, StepProblem};
use serial_test::parallel;

use super::fixture::{balance, explorer};
use crate::support::database;

/// How often the code was begun, and what was found.
fn explored(
    code: impl Fn(&mut PgConnection) -> QueryResult<i64> + Send + Sync,
) -> (usize, Exploration) {
    let database = database();
    let begun = AtomicUsize::new(0);
    let exploration = explorer(&database)
        .timeout(Duration::from_secs(1))
        .code("ada", |conn| {
            begun.fetch_add(1, Ordering::Relaxed);
            code(conn)
        })
        .code("bob", |conn| {
            diesel::sql_query("UPDATE accounts SET balance = balance + 1").execute(conn)
        })
        .serializable()
        .explore()
        .unwrap();
    (begun.into_inner(), exploration)
}

fn assert_is_tried_twice((begun, exploration): (usize, Exploration)) {
    // The second time it has a quarter of the time, and is the last.
    assert_eq!(begun, 2, "{:#?}", exploration.list());
    assert!(!exploration.is_complete());
    let [run] = exploration.failures() else {
        panic!("{exploration}");
    };
    let [Problem::Broken { problem, .. }] = run.problems() else {
        panic!("{run}");
    };
    assert!(
        matches!(problem, StepProblem::TimedOut { .. } | StepProblem::TooLate),
        "{run}"
    );
}

#[test]
#[parallel]
fn statements_without_end_cost_the_time_once() {
    assert_is_tried_twice(explored(|conn| {
        loop {
            balance(conn, 1)?;
        }
    }));
}

#[test]
#[parallel]
fn a_statement_that_sleeps_in_the_server_costs_the_time_once_even_if_it_is_sent_again() {
    assert_is_tried_twice(explored(|conn| {
        loop {
            // It is cancelled.
            let _ = diesel::sql_query("SELECT pg_sleep(3600)").execute(conn);
        }
    }));
}

#[test]
#[parallel]
fn a_thread_that_spins_outside_of_the_server_costs_the_time_once() {
    let explored = explored(|conn| {
        let read = balance(conn, 1)?;
        let begun = Instant::now();
        // Nothing can end a thread; the test has to.
        while begun.elapsed() < Duration::from_secs(2) {
            std::hint::spin_loop();
        }
        Ok(read)
    });
    assert_is_tried_twice(explored);
}

#[test]
#[parallel]
fn code_that_does_something_else_each_time_comes_to_an_end() {
    let database = database();
    let begun = AtomicUsize::new(0);
    let exploration = explorer(&database)
        .code("ada", |conn| {
            if begun.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) {
                return balance(conn, 1).map(drop);
            }
            let account = diesel::sql_query("UPDATE accounts SET balance = 7");
            account.execute(conn).map(drop)
        })
        .code("bob", |conn| {
            diesel::sql_query("UPDATE accounts SET balance = 8").execute(conn)
        })
        .explore()
        .unwrap();
    assert!(!exploration.is_complete());
}
