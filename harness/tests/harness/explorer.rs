//! Every order of the steps of several sessions.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{
    Explorer, ExplorerError, IsolationLevel, Problem, StepProblem, StepResult, Steps, TestDatabase,
};
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{advisory_locks, connections, database, eventually};

fn balance(conn: &mut PgConnection, id: i32) -> QueryResult<i64> {
    let account = accounts::table.find(id);
    account.select(accounts::balance).first(conn)
}

fn set_balance(conn: &mut PgConnection, id: i32, balance: i64) -> StepResult {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(balance))
        .execute(conn)?;
    Ok(())
}

fn explorer<'e, S: Default + Send + 'static>(
    database: &'e TestDatabase,
) -> Explorer<'e, PgConnection, S> {
    Explorer::new(|| PgConnection::establish(database.url())).setup(|conn| {
        diesel::update(accounts::table)
            .set(accounts::balance.eq(100))
            .execute(conn)?;
        Ok(())
    })
}

/// Reads, and then writes what it has read and 10 more.
fn deposit() -> Steps<PgConnection, i64> {
    Steps::new()
        .step("read", |conn, seen| {
            *seen = balance(conn, 1)?;
            Ok(())
        })
        .step("write", |conn, seen| set_balance(conn, 1, *seen + 10))
}

fn locked_deposit() -> Steps<PgConnection, i64> {
    Steps::transaction(IsolationLevel::ReadCommitted)
        .step("read", |conn: &mut PgConnection, seen: &mut i64| {
            let account = accounts::table.find(1).select(accounts::balance);
            *seen = conn.get_for_update(account)?;
            Ok(())
        })
        .step("write", |conn, seen| set_balance(conn, 1, *seen + 10))
}

fn both_count(conn: &mut PgConnection) -> StepResult<bool> {
    Ok(balance(conn, 1)? == 120)
}

fn total(conn: &mut PgConnection) -> QueryResult<i64> {
    Ok(balance(conn, 1)? + balance(conn, 2)?)
}

/// Takes 100 from one of two accounts, if 100 are left then on both together.
fn withdrawal(level: IsolationLevel, from: i32) -> Steps<PgConnection, i64> {
    Steps::transaction(level)
        .step("read", |conn, seen| {
            *seen = total(conn)?;
            Ok(())
        })
        .step("write", move |conn, seen| match *seen >= 200 {
            true => set_balance(conn, from, 0),
            false => Ok(()),
        })
}

fn write_skew(database: &TestDatabase, level: IsolationLevel) -> Explorer<'_, PgConnection, i64> {
    explorer(database)
        .session("first", withdrawal(level, 1))
        .session("second", withdrawal(level, 2))
        .invariant("100 are left", |conn, _| Ok(total(conn)? >= 100))
        .allow_errors(LockError::is_retryable)
}

/// A deposit to one account, a withdrawal from the other that costs a fee if there is too little
/// on both, and a report of both.
fn report(
    database: &TestDatabase,
    level: IsolationLevel,
) -> Explorer<'_, PgConnection, (i64, i64)> {
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
            Ok(!fee || report.failed || report.state != (100, 120))
        })
}

fn schedules(explorer: &Explorer<'_, PgConnection, i64>) -> Vec<String> {
    let exploration = explorer.explore().unwrap();
    let failures = exploration.failures().iter();
    failures.map(|run| run.schedule().to_owned()).collect()
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

/// Takes two advisory locks in a transaction.
fn locks(first: i64, second: i64) -> Steps<PgConnection, ()> {
    Steps::transaction(IsolationLevel::ReadCommitted)
        .step("one", move |conn: &mut PgConnection, ()| {
            Ok(conn.advisory_xact_lock(first)?)
        })
        .step("two", move |conn, ()| Ok(conn.advisory_xact_lock(second)?))
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
fn an_error_that_is_not_allowed_ends_its_session_and_is_a_problem() {
    let database = database();
    let explorer = explorer::<()>(&database)
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
    let explorer = explorer::<()>(&database)
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

#[test]
#[parallel]
fn a_step_that_hangs_is_a_problem_and_the_next_schedule_goes_well() {
    let database = database();
    let hangs = AtomicUsize::new(0);
    let hangs: &'static AtomicUsize = Box::leak(Box::new(hangs));
    let exploration = explorer::<()>(&database)
        .timeout(Duration::from_millis(500))
        .session(
            "first",
            Steps::new().step("sleep", |conn, ()| {
                if hangs.fetch_add(1, Ordering::Relaxed) == 0 {
                    diesel::sql_query("SELECT pg_sleep(3600)").execute(conn)?;
                }
                Ok(())
            }),
        )
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
    let kills: &'static AtomicUsize = Box::leak(Box::default());
    let exploration = explorer::<()>(&database)
        .session(
            "first",
            Steps::new().step("kill", |conn, ()| {
                if kills.fetch_add(1, Ordering::Relaxed) == 0 {
                    diesel::sql_query("SELECT pg_terminate_backend(pg_backend_pid())")
                        .execute(conn)?;
                }
                Ok(())
            }),
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
fn progress_is_told_from_the_begin_to_the_end_and_after_a_failure_too() {
    let database = database();
    let told = Mutex::new(Vec::new());
    let explorer = explorer(&database)
        .session("first", deposit())
        .session("second", deposit())
        .invariant(
            "both deposits count",
            |conn, _| Ok(balance(conn, 1)? == 120),
        )
        .on_progress(|progress| told.lock().unwrap().push(progress));
    let exploration = explorer.explore().unwrap();
    let progress = std::mem::take(&mut *told.lock().unwrap());
    let schedules = progress.iter().map(|progress| progress.schedules);
    assert!(schedules.eq([0, 1, 2, 3, 4, 5, 6, 6]), "{progress:?}");
    assert!(progress.iter().all(|progress| progress.at_most == 6));
    let ends = progress.iter().filter(|progress| progress.has_ended);
    assert_eq!(ends.count(), 1);
    let end = progress.last().unwrap();
    assert!(end.has_ended);
    assert_eq!(end.failures, exploration.failures().len());

    explorer
        .setup(|_| Err("no tables".into()))
        .explore()
        .unwrap_err();
    let progress = told.lock().unwrap();
    let ends = progress.iter().map(|progress| progress.has_ended);
    assert!(ends.eq([false, true]), "{progress:?}");
}

#[test]
#[parallel]
fn a_setup_that_fails_ends_the_exploration_and_leaves_nothing() {
    let (one, two) = (database(), database());
    let explorer = explorer(&one)
        .database(|| PgConnection::establish(two.url()))
        .session("first", deposit())
        .setup(|_| Err("no tables".into()));
    let error = explorer.explore().unwrap_err();
    assert!(
        matches!(&error, ExplorerError::Prepare { what, source }
            if what == "setup" && source.to_string() == "no tables"),
        "{error:?}"
    );
    let panics = explorer.setup(|_| panic!("no tables at all"));
    let error = panics.replay("").unwrap_err();
    assert!(matches!(&error, ExplorerError::Prepare { source, .. }
        if source.to_string() == "no tables at all"));
    for database in [&one, &two] {
        eventually(|| connections(database) == 0);
    }
}

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
        .teardown(|conn| match advisory_locks_of(conn)? {
            0 => Ok(()),
            _ => Err("a lock is left".into()),
        })
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert_eq!(exploration.schedules(), 3);
    assert_eq!(advisory_locks(&database), 0);
}

fn advisory_locks_of(conn: &mut PgConnection) -> QueryResult<i64> {
    diesel::dsl::sql::<diesel::sql_types::BigInt>(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks \
         WHERE locktype OPERATOR(pg_catalog.=) 'advisory' AND database OPERATOR(pg_catalog.=) \
         (SELECT oid FROM pg_catalog.pg_database \
         WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database())",
    )
    .get_result(conn)
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
fn bounds_leave_out_what_comes_last() {
    let database = database();
    let some = || {
        explorer(&database)
            .session("first", deposit())
            .session("second", deposit())
            .invariant("both count", |conn, _| both_count(conn))
    };
    let exploration = some().max_preemptions(0).explore().unwrap();
    assert_eq!(
        (exploration.schedules(), exploration.failures().len()),
        (2, 0)
    );
    assert!(!exploration.is_complete());
    let exploration = some().max_schedules(3).explore().unwrap();
    assert_eq!(
        (exploration.schedules(), exploration.is_complete()),
        (3, false)
    );
    let exploration = some().max_failures(1).explore().unwrap();
    assert_eq!(exploration.failures().len(), 1);
    let exploration = some().max_schedules(6).explore().unwrap();
    assert!(exploration.is_complete());
}

#[test]
#[parallel]
fn the_same_seed_chooses_the_same_schedules() {
    let (one, two) = (database(), database());
    let some = |seed| {
        explorer(&one)
            .database(|| PgConnection::establish(two.url()))
            .session("first", deposit())
            .session("second", deposit())
            .invariant("none is well", |_, _| Ok(false))
            .random(seed, 4)
    };
    let found: Vec<_> = [1, 1, 2, 3].map(|seed| schedules(&some(seed))).into();
    assert_eq!(found[0], found[1]);
    assert!(found[1] != found[2] || found[2] != found[3], "{found:?}");
    assert!(!some(1).explore().unwrap().is_complete());
}

#[test]
#[parallel]
fn several_databases_find_what_one_finds() {
    let (one, two) = (database(), database());
    let level = IsolationLevel::RepeatableRead;
    let alone = write_skew(&one, level);
    let together = write_skew(&one, level).database(|| PgConnection::establish(two.url()));
    let found = schedules(&alone);
    assert!(!found.is_empty());
    for _ in 0..3 {
        assert_eq!(schedules(&together), found);
    }
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
    let run = explorer::<()>(&database)
        .session("first", Steps::new().step("fail", |_, ()| Err(Bad.into())))
        .replay("")
        .unwrap();
    assert!(
        matches!(run.problems(), [Problem::Broken { problem: StepProblem::Panicked { message }, .. }]
            if message == "can't be shown"),
        "{run}"
    );
}
