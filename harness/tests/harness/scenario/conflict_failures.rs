//! Attempts that fail, and what is left of them: what is no conflict is not taken for one.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError};
use diesel_locks_harness::{
    ConflictsError, LockAttempt, SessionError, StepProblem, TestDatabase, assert_conflicts, begin,
    conflict_matrix,
};
use serial_test::parallel;

use super::conflict_matrix::{Attempt, advisory, sql};
use super::fixture::connecting;
use crate::support;
use crate::support::schema::accounts;
use crate::support::{advisory_locks, database, eventually};

/// A lock of the session, which nobody gives back.
fn careless(name: &str, lock: AdvisoryLock) -> Attempt {
    LockAttempt::new(name, move |conn: &mut PgConnection| {
        conn.advisory_lock(lock).map(std::mem::forget)
    })
}

#[test]
#[parallel]
fn nothing_of_an_attempt_is_left_for_the_next_one() {
    let database = database();
    let attempts = [
        careless("session 7", AdvisoryLock::exclusive(7)),
        careless("session 8", AdvisoryLock::exclusive(8)),
        advisory("7", AdvisoryLock::exclusive(7)),
        advisory("8", AdvisoryLock::exclusive(8)),
        // Two savepoints that are left open, and a write.
        LockAttempt::new("savepoints", |conn: &mut PgConnection| {
            begin(conn)?;
            conn.advisory_xact_lock(7)?;
            begin(conn)?;
            diesel::delete(accounts::table).execute(conn)?;
            Ok::<_, LockError>(())
        }),
        // A transaction that has ended.
        LockAttempt::new("committed", |conn: &mut PgConnection| {
            conn.advisory_xact_lock(8)?;
            diesel_locks_harness::commit(conn)
        }),
    ];
    let begun = Instant::now();
    assert_conflicts(
        connecting(&database),
        attempts,
        r"
        | requested \ held | session 7 | session 8 | 7 | 8 | savepoints | committed |
        |------------------|-----------|-----------|---|---|------------|-----------|
        | session 7        | X         |           | X |   | X          |           |
        | session 8        |           | X         |   | X |            |           |
        | 7                | X         |           | X |   | X          |           |
        | 8                |           | X         |   | X |            |           |
        | savepoints       | X         |           | X |   | X          |           |
        | committed        |           | X         |   | X |            |           |
        ",
    );
    assert!(begun.elapsed() < Duration::from_secs(15));
    assert_eq!(advisory_locks(&database), 0);
    let accounts: i64 = accounts::table
        .count()
        .get_result(&mut support::connect(&database))
        .unwrap();
    assert_eq!(accounts, 2);
}

/// The session, step and problem, and all that is said.
fn problem<T: std::fmt::Debug>(
    result: Result<T, ConflictsError>,
) -> (String, String, StepProblem, String) {
    let error = result.unwrap_err();
    let text = error.to_string();
    match error {
        ConflictsError::Session(SessionError::Step {
            session,
            step,
            problem,
            ..
        }) => (session, step, problem, text),
        other => panic!("{other:?}"),
    }
}

#[test]
#[parallel]
fn an_attempt_that_fails_otherwise_is_an_error() {
    let database = database();
    let attempts = [advisory("7", 7.into()), sql("divide", "SELECT 1 / 0")];
    let (session, step, found, text) = problem(conflict_matrix(connecting(&database), attempts));
    assert_eq!((&*session, &*step), ("holder", "divide"));
    let error = "division by zero".to_owned();
    assert_eq!(found, StepProblem::FailedOtherwise { error });
    // The pair before is not shown.
    assert!(!text.contains("7 ✓"), "{text}");

    // Only when it is requested, and with what it wraps.
    let attempts = [
        sql(
            "first",
            "CREATE TEMPORARY TABLE mine (); LOCK jobs IN EXCLUSIVE MODE",
        ),
        LockAttempt::new("second", |conn: &mut PgConnection| {
            let jobs: i64 = diesel::dsl::sql::<BigInt>(
                "SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks \
                 WHERE mode OPERATOR(pg_catalog.=) 'ExclusiveLock' \
                 AND relation OPERATOR(pg_catalog.=) 'jobs'::pg_catalog.regclass",
            )
            .get_result(conn)?;
            match jobs {
                0 => Ok(()),
                _ => Ok(conn.batch_execute("SELECT 1 / 0")?),
            }
            .map_err(|error: LockError| error)
        }),
    ];
    let (session, step, found, text) = problem(conflict_matrix(connecting(&database), attempts));
    assert_eq!((&*session, &*step), ("requester", "second"));
    let error = "the database reported an error: division by zero".to_owned();
    assert_eq!(found, StepProblem::FailedOtherwise { error });
    assert!(text.contains("first ✓"), "{text}");
    drop_is_complete(&database);
}

/// Nothing goes on after an error.
fn drop_is_complete(database: &TestDatabase) {
    eventually(|| support::connections(database) == 0);
}

#[test]
#[parallel]
fn an_attempt_that_fails_after_a_wait_is_an_error() {
    let database = database();
    let attempt = LockAttempt::new("7", |conn: &mut PgConnection| {
        let nobody_has_it = conn.try_advisory_xact_lock(7)?;
        if !nobody_has_it {
            conn.advisory_xact_lock(7)?;
            conn.batch_execute("SELECT 1 / 0")?;
        }
        Ok::<_, LockError>(())
    });
    let (session, _, found, _) = problem(conflict_matrix(connecting(&database), [attempt]));
    assert_eq!(session, "requester");
    assert!(matches!(found, StepProblem::FailedOtherwise { .. }));
}

#[test]
#[parallel]
fn an_attempt_that_panics_is_an_error() {
    let database = database();
    let attempt = LockAttempt::new("7", |_: &mut PgConnection| -> Result<(), LockError> {
        panic!("bang")
    });
    let (session, step, found, _) = problem(conflict_matrix(connecting(&database), [attempt]));
    assert_eq!((&*session, &*step), ("holder", "7"));
    let message = "bang".to_owned();
    assert_eq!(found, StepProblem::Panicked { message });
}

#[test]
#[parallel]
fn a_holder_that_is_refused_is_an_error() {
    let database = database();
    let mut stranger = support::connect(&database);
    let _lock = stranger.advisory_lock(7).unwrap();
    let attempt = LockAttempt::new("7", |conn: &mut PgConnection| {
        conn.advisory_xact_lock_nowait(7)
    });
    let (session, _, found, _) = problem(conflict_matrix(connecting(&database), [attempt]));
    assert_eq!(session, "holder");
    let error = "advisory lock 7 is locked by another session".to_owned();
    assert_eq!(found, StepProblem::FailedOtherwise { error });
}

#[test]
#[parallel]
fn attempts_have_different_names() {
    let database = database();
    let attempts = ["7", "8", "7"].map(|name| advisory(name, 7.into()));
    let found = conflict_matrix(connecting(&database), attempts);
    assert!(matches!(
        found,
        Err(ConflictsError::Duplicate { attempt }) if attempt == "7"
    ));
}

#[test]
#[parallel]
fn a_connection_that_fails_is_an_error() {
    let found = conflict_matrix(|| Err("no"), [advisory("7", 7.into())]);
    assert!(matches!(
        found,
        Err(ConflictsError::Session(SessionError::Connect { .. }))
    ));
}
