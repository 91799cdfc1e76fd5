//! What is found in some order, and what a lock leaves of it.

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{Explorer, IsolationLevel, Problem, StepResult, Steps, TestDatabase};
use serial_test::parallel;

use super::fixture::{
    balance, both_count, deposit, explorer, locks, schedules, set_balance, write_skew,
};
use crate::support::database;
use crate::support::schema::accounts;

fn locked_deposit() -> Steps<PgConnection, i64> {
    Steps::transaction(IsolationLevel::ReadCommitted)
        .step("read", |conn: &mut PgConnection, seen: &mut i64| {
            let account = accounts::table.find(1).select(accounts::balance);
            *seen = conn.get_for_update(account)?;
            Ok(())
        })
        .step("write", |conn, seen| set_balance(conn, 1, *seen + 10))
}

/// A deposit to one account, a withdrawal from the other that costs a fee if there is too little
/// on both, and a report of both.
fn report(database: &TestDatabase, level: IsolationLevel) -> Explorer<'_, PgConnection> {
    let read = |conn: &mut PgConnection, seen: &mut (i64, i64)| -> StepResult {
        *seen = (balance(conn, 1)?, balance(conn, 2)?);
        Ok(())
    };
    explorer(database)
        .session(
            "deposit",
            Steps::transaction(level)
                .step("read", read)
                .step("write", |conn, seen| set_balance(conn, 2, seen.1 + 20)),
        )
        .session(
            "withdrawal",
            Steps::transaction(level)
                .step("read", read)
                .step("write", |conn, seen| {
                    let fee = i64::from(seen.0 + seen.1 < 220);
                    set_balance(conn, 1, seen.0 - 10 - fee)
                }),
        )
        .session("report", Steps::transaction(level).step("read", read))
        .allow_errors(LockError::is_retryable)
        .invariant("no fee after a deposit in the report", |conn, sessions| {
            let fee = balance(conn, 1)? == 89;
            let report = &sessions[2];
            Ok(!fee || report.failed || report.state::<(i64, i64)>() != Some(&(100, 120)))
        })
}

#[test]
#[parallel]
fn a_lost_update_is_found_and_a_row_lock_mends_it() {
    let database = database();
    let explorer = explorer(&database)
        .session("first", deposit())
        .session("second", deposit())
        .invariant("both count", |conn, _| both_count(conn));
    let exploration = explorer.explore().unwrap();
    assert_eq!(exploration.schedules(), 6);
    assert!(exploration.is_complete());
    let failed: Vec<_> = exploration
        .failures()
        .iter()
        .map(|run| run.schedule())
        .collect();
    assert_eq!(
        failed,
        [
            "first.read second.read second.write first.write",
            "second.read first.read first.write second.write",
            "first.read second.read first.write second.write",
            "second.read first.read second.write first.write",
        ]
    );
    for schedule in failed {
        let run = explorer.replay(schedule).unwrap();
        assert_eq!(run.schedule(), schedule);
        assert!(
            matches!(run.problems(), [Problem::Invariant { name, reason: None }] if name == "both count")
        );
    }
    let well = explorer
        .replay("second.read second.write first.read first.write")
        .unwrap();
    assert!(well.problems().is_empty());
}

#[test]
#[parallel]
fn a_row_lock_leaves_no_order_that_loses_an_update() {
    let database = database();
    let exploration = explorer(&database)
        .session("first", locked_deposit())
        .session("second", locked_deposit())
        .invariant("both count", |conn, _| both_count(conn))
        .explore()
        .unwrap();
    exploration.assert_passed();
    // Either one is first, and the other one's read comes after its read, its write or its commit.
    assert_eq!(exploration.schedules(), 6);
}

#[test]
#[parallel]
fn write_skew_is_found_below_serializable() {
    let database = database();
    for level in [
        IsolationLevel::ReadCommitted,
        IsolationLevel::RepeatableRead,
    ] {
        let explorer = write_skew(&database, level);
        let found = schedules(&explorer);
        assert!(!found.is_empty());
        for schedule in found {
            assert!(!explorer.replay(&schedule).unwrap().problems().is_empty());
        }
    }
    let serializable = write_skew(&database, IsolationLevel::Serializable);
    let exploration = serializable.explore().unwrap();
    exploration.assert_passed();
    assert_eq!(exploration.schedules(), 20);
}

#[test]
#[parallel]
fn the_read_only_anomaly_is_found_under_repeatable_read() {
    let database = database();
    let explorer = report(&database, IsolationLevel::RepeatableRead).max_failures(1);
    let exploration = explorer.explore().unwrap();
    let [failure] = exploration.failures() else {
        panic!("{exploration}");
    };
    let again = explorer.replay(failure.schedule()).unwrap();
    assert_eq!(again.schedule(), failure.schedule());
    assert!(matches!(again.problems(), [Problem::Invariant { .. }]));

    let serializable = report(&database, IsolationLevel::Serializable).max_preemptions(2);
    serializable.explore().unwrap().assert_passed();
}

#[test]
#[parallel]
fn a_deadlock_is_found_in_the_step_that_closes_the_circle() {
    let database = database();
    let explorer = explorer(&database)
        .session("first", locks(1, 2))
        .session("second", locks(2, 1));
    let exploration = explorer.explore().unwrap();
    let deadlocks: Vec<_> = exploration
        .failures()
        .iter()
        .map(|run| match run.problems() {
            [Problem::Deadlock { step, .. }] => (run.schedule(), step.as_str()),
            problems => panic!("{problems:?}"),
        })
        .collect();
    let (a, b) = (
        "first.one second.one first.two second.two first.commit",
        "second.two",
    );
    let (c, d) = (
        "first.one second.one second.two first.two second.commit",
        "first.two",
    );
    assert!(
        deadlocks.contains(&(a, b)) && deadlocks.contains(&(c, d)),
        "{deadlocks:#?}"
    );
    assert_eq!(deadlocks.len(), 4, "{deadlocks:#?}");
    let again = explorer.replay(a).unwrap();
    assert!(matches!(again.problems(), [Problem::Deadlock { step, .. }] if step == b));

    let allowed = explorer.allow_errors(LockError::is_retryable);
    allowed.explore().unwrap().assert_passed();
}

#[test]
#[parallel]
fn a_deadlock_is_over_before_a_third_session_goes_on() {
    let database = database();
    let idle = Steps::new()
        .step("one", |_, ()| Ok(()))
        .step("two", |_, ()| Ok(()));
    let explorer = explorer(&database)
        .session("a", locks(1, 2))
        .session("b", locks(2, 1))
        .session("c", idle)
        .allow_errors(LockError::is_retryable);
    let exploration = explorer.explore().unwrap();

    // So many are left of the interleavings of the eight steps, by brute force.
    assert_eq!(exploration.schedules(), 196);
    assert!(exploration.is_complete());
    let schedule = "a.one b.one a.two b.two a.commit c.one c.two";
    let run = explorer.replay(schedule).unwrap();
    assert_eq!(run.schedule(), schedule);
}
