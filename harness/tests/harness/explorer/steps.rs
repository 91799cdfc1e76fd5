//! Sessions of `Steps`: each begins anew, is called by its labels, and may fail, panic or hang.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{ExplorerError, IsolationLevel, Problem, StepProblem, Steps};
use serial_test::parallel;

use super::fixture::{balance, deposit, explorer, locks, set_balance};
use crate::support::{advisory_locks, database};

#[test]
#[parallel]
fn a_session_begins_each_schedule_with_no_lock_and_no_transaction() {
    let database = database();
    let forget = Steps::new()
        .step("forget", |conn: &mut PgConnection, ()| {
            std::mem::forget(conn.advisory_lock_nowait("forgotten")?);
            diesel_locks_harness::begin(conn)?;
            set_balance(conn, 1, 7)
        })
        .step("rest", |_, ()| Ok(()));
    let exploration = explorer(&database)
        .session("first", forget)
        .session("second", Steps::new().step("read", |_, ()| Ok(())))
        .invariant("rolled back", |conn, _| Ok(balance(conn, 1)? == 100))
        .teardown(|_| match advisory_locks(&database) {
            0 => Ok(()),
            _ => Err("a lock is left".into()),
        })
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert_eq!(exploration.schedules(), 3);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_schedule_that_does_not_fit_is_refused() {
    let database = database();
    let explorer = explorer(&database).session("first", deposit());
    for (schedule, step) in [
        ("first.write", "first.write"),
        ("first.read second.read", "second.read"),
        ("first.read first.write first.read", "first.read"),
    ] {
        let error = explorer.replay(schedule).unwrap_err();
        assert!(matches!(error, ExplorerError::Schedule { step: wrong } if wrong == step));
    }
    for name in ["my session", "", "my.session"] {
        let named = self::explorer(&database).session(name, deposit());
        let error = named.explore().unwrap_err();
        assert!(matches!(error, ExplorerError::Label { label } if label == name));
    }
}

#[test]
#[parallel]
fn a_step_of_a_replay_whose_session_waits_comes_as_soon_as_it_can() {
    let database = database();
    let explorer = explorer(&database)
        .session("first", locks(1, 2))
        .session("second", locks(1, 2));
    let run = explorer
        .replay("first.one second.one second.two first.two first.commit second.commit")
        .unwrap();
    assert!(run.problems().is_empty(), "{run}");
    assert_eq!(
        run.schedule(),
        "first.one second.one first.two first.commit second.two second.commit"
    );
}

#[test]
#[parallel]
fn an_error_that_is_not_allowed_ends_its_session_and_is_a_problem() {
    let database = database();
    let explorer = explorer(&database)
        .session(
            "first",
            Steps::transaction(IsolationLevel::ReadCommitted)
                .step("fill", |conn, ()| set_balance(conn, 1, 500))
                .step("overdraw", |conn, ()| set_balance(conn, 1, -1))
                .step("never", |_, ()| panic!("after an error")),
        )
        .invariant("nothing was written", |conn, sessions| {
            Ok(balance(conn, 1)? == 100 && sessions[0].failed)
        });
    let run = explorer.replay("").unwrap();
    assert_eq!(run.schedule(), "first.fill first.overdraw");
    assert!(matches!(run.problems(), [Problem::Failed { step, .. }] if step == "first.overdraw"));
    assert!(
        run.to_string().contains("violates check constraint"),
        "{run}"
    );
}

#[test]
#[parallel]
fn a_session_that_fails_is_in_nobodys_way() {
    let database = database();
    let fails = Steps::transaction(IsolationLevel::ReadCommitted)
        .step("write", |conn, ()| set_balance(conn, 1, 7))
        .step("fail", |_, ()| Err(LockError::NotInTransaction.into()));
    let exploration = explorer(&database)
        .timeout(Duration::from_secs(2))
        .session("first", fails)
        .session(
            "second",
            Steps::new().step("write", |conn, ()| set_balance(conn, 1, 8)),
        )
        .invariant("the second one's is left", |conn, _| {
            Ok(balance(conn, 1)? == 8)
        })
        .allow_errors(|error| matches!(error, LockError::NotInTransaction))
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert_eq!(exploration.schedules(), 3);
}

#[test]
#[parallel]
fn a_step_that_panics_and_an_invariant_that_does_are_problems() {
    let database = database();
    let explorer = explorer(&database)
        .session(
            "first",
            Steps::new().step("panic", |_, ()| panic!("in the step")),
        )
        .invariant("looked at", |_, _| panic!("in the invariant"));
    let run = explorer.replay("").unwrap();
    assert!(
        matches!(run.problems(), [
            Problem::Broken { problem: StepProblem::Panicked { message }, .. },
            Problem::Invariant { reason: Some(reason), .. },
        ] if message == "in the step" && reason == "in the invariant"),
        "{run}"
    );
    let exploration = explorer.explore().unwrap();
    let text = catch_unwind(AssertUnwindSafe(|| exploration.assert_passed())).unwrap_err();
    let text = text.downcast_ref::<String>().unwrap();
    assert!(text.contains("replay(\"first.panic\")"), "{text}");
}

/// A step that sends this in the first schedule only.
fn once(label: &str, sql: &'static str) -> Steps<PgConnection, ()> {
    let schedules = AtomicUsize::new(0);
    Steps::new().step(label, move |conn, ()| {
        if schedules.fetch_add(1, Ordering::Relaxed) == 0 {
            diesel::sql_query(sql).execute(conn)?;
        }
        Ok(())
    })
}

#[test]
#[parallel]
fn a_step_that_hangs_is_a_problem_and_the_next_schedule_goes_well() {
    let database = database();
    let exploration = explorer(&database)
        .timeout(Duration::from_secs(2))
        .session("first", once("sleep", "SELECT pg_sleep(3600)"))
        .session("second", Steps::new().step("read", |_, ()| Ok(())))
        .explore()
        .unwrap();
    assert_eq!(exploration.schedules(), 2);
    let [run] = exploration.failures() else {
        panic!("{exploration}");
    };
    assert!(
        matches!(
            run.problems(),
            [Problem::Broken {
                problem: StepProblem::TimedOut { .. },
                ..
            }]
        ),
        "{run}"
    );
}

#[test]
#[parallel]
fn a_connection_that_is_killed_is_a_problem_and_the_next_schedule_goes_well() {
    let database = database();
    let exploration = explorer(&database)
        .session(
            "first",
            once("kill", "SELECT pg_terminate_backend(pg_backend_pid())"),
        )
        .session("second", Steps::new().step("read", |_, ()| Ok(())))
        .explore()
        .unwrap();
    assert_eq!(exploration.schedules(), 2);
    let [run] = exploration.failures() else {
        panic!("{exploration}");
    };
    assert!(matches!(run.problems(), [Problem::Failed { step, .. }] if step == "first.kill"));
}

#[test]
#[parallel]
fn an_error_that_panics_when_it_is_shown_is_a_problem_and_no_hang() {
    #[derive(Debug)]
    struct Bad;
    impl std::fmt::Display for Bad {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            panic!("can't be shown")
        }
    }
    impl std::error::Error for Bad {}
    let database = database();
    let run = explorer(&database)
        .session("first", Steps::new().step("fail", |_, ()| Err(Bad.into())))
        .replay("")
        .unwrap();
    assert!(
        matches!(run.problems(), [Problem::Broken { problem: StepProblem::Panicked { message }, .. }]
            if message == "can't be shown"),
        "{run}"
    );
}
