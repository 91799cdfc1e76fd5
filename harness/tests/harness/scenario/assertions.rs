//! The assertions on named sessions.

use std::time::{Duration, Instant};

use diesel::prelude::*;
use diesel::result::Error;
use diesel_locks::LockError;
use diesel_locks::prelude::*;
use diesel_locks_harness::{Scenario, Session, SessionError, StepError, StepProblem};
use serial_test::parallel;

use super::fixture::connecting;
use crate::support::{advisory_locks, database};

/// Two sessions, of which the first one holds lock 42.
pub(super) fn sessions<F>(scenario: &Scenario<F>) -> [Session<PgConnection>; 2]
where
    F: Fn() -> ConnectionResult<PgConnection>,
{
    let sessions = ["first", "second"].map(|name| scenario.session(name).unwrap());
    for session in &sessions {
        session.begin().unwrap();
    }
    sessions[0].run("lock 42", lock(42)).unwrap();
    sessions
}

pub(super) fn lock(key: i64) -> impl FnOnce(&mut PgConnection) -> Result<(), LockError> + Send {
    move |conn| conn.advisory_xact_lock(key)
}

pub(super) fn nowait(conn: &mut PgConnection) -> Result<(), LockError> {
    conn.advisory_xact_lock_nowait(42)
}

pub(super) fn fail(conn: &mut PgConnection) -> Result<usize, Error> {
    diesel::sql_query("SELECT 1 / 0").execute(conn)
}

/// The only problem, and what is shown with it.
pub(super) fn problem<T>(result: Result<T, SessionError>) -> (StepProblem, String) {
    match result.map(drop) {
        Err(
            ref error @ SessionError::Step {
                ref session,
                ref problem,
                ref transcript,
                ..
            },
        ) => {
            assert_eq!(session, "second");
            assert!(error.to_string().ends_with(&transcript.to_string()));
            (problem.clone(), error.to_string())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
#[parallel]
fn a_step_that_blocks_is_returned_and_goes_on() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = sessions(&scenario);
    let mut pending = second.assert_blocks("lock", lock(42));
    assert!(!pending.is_finished());
    assert_eq!(pending.wait_blocked().unwrap().by(), ["first"]);
    first.commit().unwrap();
    pending.join().unwrap();
}

#[test]
#[parallel]
fn a_step_that_ends_does_not_block() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    let (found, text) = problem(second.try_assert_blocks("lock 1", lock(1)));
    assert_eq!(found, StepProblem::NotBlocked);
    assert!(text.contains("lock 1 ✓"), "{text}");
    let refused = problem(second.try_assert_blocks("lock", nowait));
    assert_eq!(refused.0, StepProblem::NotBlocked);
}

#[test]
#[parallel]
fn a_step_that_does_not_block_returns_what_it_returns() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    second.assert_does_not_block("lock 1", lock(1)).unwrap();
    let three = second.assert_does_not_block("count", |_| Ok::<_, LockError>(3));
    assert_eq!(three.unwrap(), 3);
    let refused = second.assert_does_not_block("lock", nowait);
    assert!(matches!(refused, Err(LockError::NotAvailable { .. })));
    // It takes its time, and waits for nobody of the test.
    let slow = second.assert_does_not_block("sleep", |conn| {
        diesel::sql_query("SELECT pg_sleep(0.05)").execute(conn)
    });
    slow.unwrap();
}

#[test]
#[parallel]
fn a_step_that_blocks_and_should_not_is_cancelled() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = sessions(&scenario);
    let begun = Instant::now();
    let (found, text) = problem(second.try_assert_does_not_block("lock", lock(42)));
    let StepProblem::Waited { blocked } = found else {
        panic!("{found:?}");
    };
    assert_eq!(blocked.by(), ["first"]);
    assert!(
        text.starts_with(
            "step \"lock\" of session \"second\" was not to wait, and waits for first: \
             ExclusiveLock on advisory lock 42\n"
        ),
        "{text}"
    );
    assert!(
        text.contains("┗ lock ✗") && text.contains("the statement was cancelled"),
        "{text}"
    );
    // Nothing waits any more, and the session can go on.
    assert_eq!(advisory_locks(&database), 1);
    second.rollback().unwrap();
    second.begin().unwrap();
    second.run("lock 1", lock(1)).unwrap();
    first.commit().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[test]
#[parallel]
fn a_step_that_fails_as_expected_returns_its_error() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    let error = second.assert_fails_with("lock", nowait, |error| error.is_contention());
    assert!(matches!(error, LockError::NotAvailable { .. }));
    // It may wait before it fails.
    let late = second.assert_fails_with(
        "lock",
        |conn| conn.advisory_xact_lock_timeout(42, Duration::from_millis(50)),
        LockError::is_contention,
    );
    assert!(matches!(late, LockError::Timeout { .. }));
}

#[test]
#[parallel]
fn a_step_that_fails_otherwise_or_not_at_all_is_told_apart() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    let (found, text) =
        problem(second.try_assert_fails_with("lock 1", lock(1), LockError::is_contention));
    assert_eq!(found, StepProblem::NotFailed);
    assert!(text.contains("lock 1 ✓"), "{text}");
    let (found, text) = problem(
        second.try_assert_fails_with("divide", fail, |error| matches!(error, Error::NotFound)),
    );
    let error = "division by zero".to_owned();
    assert_eq!(found, StepProblem::FailedOtherwise { error });
    assert!(
        text.starts_with(
            "step \"divide\" of session \"second\" failed otherwise than expected: division by zero\n"
        ),
        "{text}"
    );
}

#[test]
#[parallel]
fn a_step_that_panics_is_what_it_is_in_every_assertion() {
    fn explode(_: &mut PgConnection) -> Result<(), LockError> {
        panic!("bang")
    }
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    let message = "bang".to_owned();
    let panicked = StepProblem::Panicked { message };
    let step = second.try_assert_does_not_block("explode", explode);
    assert_eq!(problem(step).0, panicked);
    let step = second.try_assert_fails_with("explode", explode, |_| true);
    assert_eq!(problem(step).0, panicked);
    let step = scenario.try_assert_deadlock([second.start("explode", explode)]);
    assert_eq!(problem(step).0, panicked);
    let step = second.try_assert_blocks("explode", explode);
    assert_eq!(problem(step).0, StepProblem::NotBlocked);
}

#[test]
#[parallel]
fn a_step_that_cannot_begin_is_what_it_is_in_every_assertion() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    let _waits = second.assert_blocks("lock", lock(42));
    let with = "lock".to_owned();
    let busy = StepProblem::Busy { with };
    let step = second.try_assert_blocks("lock 1", lock(1));
    assert_eq!(problem(step).0, busy);
    let step = second.try_assert_does_not_block("lock 1", lock(1));
    assert_eq!(problem(step).0, busy);
    let step = second.try_assert_fails_with("lock 1", lock(1), |_| true);
    assert_eq!(problem(step).0, busy);
    let step = scenario.try_assert_deadlock([second.start("lock 1", lock(1))]);
    assert_eq!(problem(step).0, busy);
}

fn on_the_second_session(assert: impl FnOnce(&Session<PgConnection>)) {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [_first, second] = sessions(&scenario);
    assert(&second);
}

#[test]
#[parallel]
#[should_panic(expected = "\
step \"lock 1\" of session \"second\" has ended, and does not wait
      ms │")]
fn assert_blocks_panics_with_the_transcript() {
    on_the_second_session(|second| drop(second.assert_blocks("lock 1", lock(1))));
}

#[test]
#[parallel]
#[should_panic(expected = "waits for first: ExclusiveLock on advisory lock 42\n      ms │ first")]
fn assert_does_not_block_panics_with_the_transcript() {
    on_the_second_session(|second| {
        let _ = second.assert_does_not_block("lock 42", lock(42));
    });
}

#[test]
#[parallel]
#[should_panic(expected = "was to fail, and has ended well\n      ms │ first")]
fn assert_fails_with_panics_with_the_transcript() {
    on_the_second_session(|second| {
        second.assert_fails_with("lock 1", lock(1), LockError::is_contention);
    });
}

#[test]
#[parallel]
fn a_setup_that_fails_is_an_error_before_any_assertion() {
    let scenario = Scenario::new(|| Err::<PgConnection, _>("no"));
    let second = scenario.session("second").map(drop);
    assert!(matches!(second, Err(SessionError::Connect { .. })));
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let second = scenario.session("second").unwrap();
    let setup = second.run("divide", fail);
    assert!(matches!(setup, Err(StepError::Failed(_))));
    // Outside of a transaction, which is what the next step is told.
    let error = second.assert_fails_with("lock", lock(42), |_| true);
    assert!(matches!(error, LockError::NotInTransaction));
}
