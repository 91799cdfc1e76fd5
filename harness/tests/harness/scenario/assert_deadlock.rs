//! Of steps that are to end in a deadlock.

use std::fmt::Debug;
use std::time::Duration;

use diesel::prelude::*;
use diesel::result::Error;
use diesel_locks::LockError;
use diesel_locks_harness::{Pending, Scenario, Session, SessionError, StepProblem};
use serial_test::parallel;

use super::assertions::{fail, lock, nowait, problem, sessions};
use super::fixture::connecting;
use crate::support;
use crate::support::{advisory_locks, database};

/// The application's own error.
#[derive(Debug, thiserror::Error)]
enum AppError {
    #[error("a lock failed")]
    Lock(#[from] LockError),
    #[error("the database failed")]
    Database(#[from] Error),
}

/// Two steps that wait for each other, launched one by one as the iterator is asked for them.
fn crossed<'s, E: std::error::Error + Send + 'static>(
    sessions: &'s [Session<PgConnection>; 2],
    map: fn(LockError) -> E,
) -> impl Iterator<Item = Pending<(), E>> + 's {
    sessions[1].run("lock 43", lock(43)).unwrap();
    [(0, 43), (1, 42)].into_iter().map(move |(session, key)| {
        let step = move |conn: &mut PgConnection| lock(key)(conn).map_err(map);
        sessions[session].start("cross", step)
    })
}

fn one_of_two<T: Debug, E: Debug>(results: &[Result<T, E>]) -> &E {
    match results {
        [Ok(_), Err(error)] | [Err(error), Ok(_)] => error,
        other => panic!("{other:?}"),
    }
}

#[test]
#[parallel]
fn a_deadlock_is_found_in_this_crates_error() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let sessions = sessions(&scenario);
    let results = scenario.assert_deadlock(crossed(&sessions, |error| error));
    assert!(matches!(
        one_of_two(&results),
        LockError::Deadlock { processes, .. } if processes.len() == 2
    ));
}

fn diesels(error: LockError) -> Error {
    match error {
        LockError::Deadlock { source, .. } => source,
        other => panic!("{other}"),
    }
}

#[test]
#[parallel]
fn a_deadlock_is_found_in_diesels_error() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let results = scenario.assert_deadlock(crossed(&sessions(&scenario), diesels));
    assert_eq!(one_of_two(&results).to_string(), "deadlock detected");
}

#[test]
#[parallel]
fn a_deadlock_is_found_in_an_error_that_wraps_one() {
    let database = database();
    for wrap in [
        |error| AppError::from(error),
        |error| AppError::from(diesels(error)),
    ] {
        let scenario = Scenario::new(connecting(&database));
        let results = scenario.assert_deadlock(crossed(&sessions(&scenario), wrap));
        one_of_two(&results);
    }
}

#[test]
#[parallel]
fn results_are_in_the_order_of_the_steps() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let sessions = sessions(&scenario);
    let third = scenario.session("third").unwrap();
    let bystander = |session: &Session<PgConnection>, name: &'static str| {
        session.start(name, move |_| Ok::<_, LockError>(name))
    };
    sessions[1].run("lock 43", lock(43)).unwrap();
    let cross = |session: usize, key: i64| {
        sessions[session].start("cross", move |conn| lock(key)(conn).map(|()| "crossed"))
    };
    let results = scenario.assert_deadlock([cross(1, 42), bystander(&third, "by"), cross(0, 43)]);
    assert!(matches!(results[1], Ok("by")));
    assert!(results[0].is_ok() != results[2].is_ok());
}

#[test]
#[parallel]
fn steps_that_end_without_a_deadlock_are_shown() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    for found in [
        scenario.try_assert_deadlock([second.start("lock", nowait)]),
        scenario.try_assert_deadlock([second.start("lock 1", lock(1))]),
        scenario.try_assert_deadlock([]),
    ] {
        let error = found.map(drop).unwrap_err();
        assert!(error.to_string().contains("lock ✗"), "{error}");
        assert!(matches!(error, SessionError::NoDeadlock { .. }));
    }
    // Another error of Diesel's is none either.
    second.rollback().unwrap();
    let found = scenario.try_assert_deadlock([second.start("divide", fail)]);
    assert!(matches!(found, Err(SessionError::NoDeadlock { .. })));
}

#[test]
#[parallel]
fn all_steps_have_ended_when_one_of_them_is_broken() {
    let database = database();
    let scenario = Scenario::new(connecting(&database)).timeout(Duration::from_millis(400));
    let [first, second] = sessions(&scenario);
    let third = scenario.session("third").unwrap();
    third.begin().unwrap();
    let waits = [
        second.start("lock", lock(42)),
        third.start("lock", lock(42)),
    ];
    let found = problem(scenario.try_assert_deadlock(waits));
    assert!(matches!(found.0, StepProblem::TimedOut { .. }));
    // That of the first session, and none that is waited for.
    assert_eq!(advisory_locks(&database), 1);
    drop(first);
}

#[test]
#[parallel]
fn a_server_that_cannot_be_asked_is_an_error() {
    let database = database();
    let opened = std::cell::Cell::new(0);
    let pids = std::cell::RefCell::new(Vec::new());
    let scenario = Scenario::new(|| {
        opened.set(opened.get() + 1);
        let mut conn = PgConnection::establish(database.url())?;
        pids.borrow_mut().push(support::backend_pid(&mut conn));
        Ok::<_, ConnectionError>(conn)
    });
    let first: Session<PgConnection> = scenario.session("first").unwrap();
    let second: Session<PgConnection> = scenario.session("second").unwrap();
    // The first connection is the one that asks.
    support::terminate(&database, pids.borrow()[0]);
    let sleep = |conn: &mut PgConnection| diesel::sql_query("SELECT pg_sleep(0.2)").execute(conn);
    let found = first.try_assert_does_not_block("sleep", sleep);
    assert!(matches!(found, Err(SessionError::Observe(_))));
    let found = second.try_assert_blocks("sleep", sleep);
    assert!(matches!(found, Err(SessionError::Observe(_))));
}

#[test]
#[parallel]
#[should_panic(expected = "none of the steps has failed with a deadlock\n      ms │ first")]
fn assert_deadlock_panics_with_the_transcript() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    scenario.assert_deadlock([second.start("lock 1", lock(1))]);
}
