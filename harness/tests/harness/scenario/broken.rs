//! Steps that hang or panic, and sessions that are stopped or lost.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{Scenario, SessionError, StepError, StepProblem, begin, commit};
use serial_test::parallel;

use super::fixture::{add, connecting, lock_account, lock_account_in_transaction, problem};
use crate::support;
use crate::support::{
    advisory_locks, backend_pid, connect, connections, database, eventually, terminate,
};

fn sleep(conn: &mut PgConnection) -> QueryResult<usize> {
    diesel::sql_query("SELECT pg_sleep(3600)").execute(conn)
}

#[test]
#[parallel]
fn a_step_that_hangs_elsewhere_ends_in_time_and_is_told_to_be_idle_on_the_server() {
    let database = database();
    let mut outsider = support::connect(&database);
    begin(&mut outsider).unwrap();
    outsider.advisory_xact_lock(1).unwrap();
    let limit = Duration::from_millis(300);
    let scenario = Scenario::new(connecting(&database)).timeout(limit);
    let first = scenario.session("first").unwrap();
    let mut own = support::connect(&database);
    let begun = Instant::now();
    let ended = first.run("lock on its own", move |_| {
        own.transaction(|conn| conn.advisory_xact_lock(1))
    });
    assert!(begun.elapsed() < 4 * limit, "{:?}", begun.elapsed());
    let text = ended.as_ref().unwrap_err().to_string();
    assert!(
        text.contains("while its session was idle on the server"),
        "{text}"
    );
    let (problem, _) = problem(ended);
    assert!(matches!(problem, StepProblem::TimedOut { idle: true, .. }));
    commit(&mut outsider).unwrap();
}

#[test]
#[parallel]
fn a_step_that_hangs_is_cancelled_and_the_error_shows_the_transcript() {
    let database = database();
    let scenario = Scenario::new(connecting(&database)).timeout(Duration::from_millis(300));
    let first = scenario.session("first").unwrap();
    first.run("add", add(1)).unwrap();
    let begun = Instant::now();
    let (problem, transcript) = problem(first.run("sleep", sleep));
    assert!(matches!(problem, StepProblem::TimedOut { .. }));
    assert!(
        transcript.contains("add") && transcript.contains("sleep"),
        "{transcript}"
    );
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert_eq!(
        self::problem(first.run("add", add(1))).0,
        StepProblem::TooLate
    );
}

#[test]
#[parallel]
fn a_step_that_panics_says_so_and_its_session_goes_on() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let first = scenario.session("first").unwrap();
    first.begin().unwrap();
    let (problem, transcript) = problem(first.run("panic", |conn| -> Result<(), LockError> {
        lock_account(conn)?;
        panic!("as {}", "planned")
    }));
    assert_eq!(
        problem,
        StepProblem::Panicked {
            message: "as planned".into()
        }
    );
    assert!(transcript.contains("as planned"), "{transcript}");
    first.rollback().unwrap();
    first.run("add", add(1)).unwrap();
}

#[test]
#[parallel]
fn a_session_that_is_dropped_while_it_waits_leaves_nothing() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
    first.begin().unwrap();
    first
        .run("lock", |conn| conn.advisory_xact_lock(1))
        .unwrap();
    let mut waits = second.start("lock", |conn| {
        // Held for the session, and not given back by anybody.
        std::mem::forget(conn.advisory_lock(2)?);
        conn.batch_execute("BEGIN; SELECT pg_advisory_xact_lock(1)")?;
        Ok::<_, LockError>(())
    });
    waits.wait_blocked().unwrap();
    drop(second);
    assert_eq!(advisory_locks(&database), 1);
    assert!(matches!(
        waits.join(),
        Err(StepError::Failed(LockError::Canceled { .. }))
    ));
    drop(first);
    assert_eq!(advisory_locks(&database), 0);
    drop(scenario);
    eventually(|| connections(&database) == 0);
}

#[test]
#[parallel]
fn a_step_between_two_statements_is_stopped_with_its_session() {
    let database = database();
    let scenario = Scenario::new(connecting(&database)).timeout(Duration::from_millis(300));
    let first = scenario.session("first").unwrap();
    let stubborn = first.start("sleep", |conn| {
        loop {
            if let Err(error @ LockError::ConnectionLost { .. }) =
                sleep(conn).map_err(LockError::from)
            {
                return Err::<(), _>(error);
            }
        }
    });
    assert!(matches!(
        problem(stubborn.join()).0,
        StepProblem::TimedOut { .. }
    ));
    drop(first);
    drop(scenario);
    eventually(|| connections(&database) == 0);
}

#[test]
#[parallel]
fn a_connection_that_is_killed_fails_its_step_and_no_other() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
    let pid = second
        .run("pid", |conn| Ok::<_, LockError>(backend_pid(conn)))
        .unwrap();
    first.begin().unwrap();
    first.run("lock", lock_account).unwrap();
    let mut waits = second.start("lock", lock_account_in_transaction);
    waits.wait_blocked().unwrap();
    terminate(&database, pid);
    assert!(matches!(
        waits.join(),
        Err(StepError::Failed(LockError::ConnectionLost { .. }))
    ));
    first.run("add", add(1)).unwrap();
    first.commit().unwrap();
}

#[test]
#[parallel]
fn an_observer_that_is_killed_is_an_error_and_not_a_hang() {
    let database = database();
    // Whoever has made the database is gone, so that all but ours are the observer's.
    eventually(|| connections(&database) == 0);
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
    let mut pids = Vec::new();
    for session in [&first, &second] {
        let pid = session.run("pid", |conn| Ok::<_, LockError>(backend_pid(conn)));
        pids.push(pid.unwrap());
    }
    let mut conn = connect(&database);
    pids.push(backend_pid(&mut conn));
    let others = diesel::dsl::sql::<diesel::sql_types::Integer>(
        "SELECT pid FROM pg_catalog.pg_stat_activity \
         WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
    );
    let others: Vec<i32> = others.load(&mut conn).unwrap();
    for pid in others.into_iter().filter(|pid| !pids.contains(pid)) {
        terminate(&database, pid);
    }
    first.begin().unwrap();
    first.run("lock", lock_account).unwrap();
    let mut waits = second.start("lock", add(1));
    assert!(matches!(
        waits.wait_blocked(),
        Err(SessionError::Observe(_))
    ));
    first.rollback().unwrap();
    waits.join().unwrap();
}

#[test]
#[parallel]
fn a_step_that_was_stopped_for_another_one_says_so_when_it_is_joined() {
    let database = database();
    let scenario = Scenario::new(connecting(&database)).timeout(Duration::from_millis(300));
    let first = scenario.session("first").unwrap();
    let sleeps = first.start("sleep", sleep);
    assert_eq!(problem(first.run("add", add(1))).0, StepProblem::TooLate);
    assert!(matches!(
        problem(sleeps.join()).0,
        StepProblem::TimedOut { .. }
    ));
}
