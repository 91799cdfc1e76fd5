use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, TableLockMode};
use diesel_locks_harness::{
    Contention, Explorer, ExplorerError, IsolationLevel, LockAttempt, Scenario, Session, Spec,
    StepResult, Steps, assert_conflicts, attempt_acquiring_lock_in_separate_transactions, begin,
    begin_at, commit, conflict_matrix, rollback,
};

use super::{LONG, Tour};
use crate::support::schema::{accounts, jobs};

const LEVELS: [IsolationLevel; 3] = [
    IsolationLevel::ReadCommitted,
    IsolationLevel::RepeatableRead,
    IsolationLevel::Serializable,
];

pub(super) fn go(tour: &Tour) {
    contention(tour);
    waits(tour);
    assertions(tour);
    hanging(tour);
    explorer(tour);
    conflicts(tour);
    spec(tour);
    transactions(tour);
}

fn lock_rows(conn: &mut PgConnection) -> Result<(), LockError> {
    conn.execute_for_update(accounts::table).map(drop)
}

fn sleep(conn: &mut PgConnection) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT pg_catalog.pg_sleep(3600)")?)
}

fn contention(tour: &Tour) {
    let contention = Contention::new(|| tour.try_connect());
    let outcome = contention.run(lock_rows).unwrap();
    assert_eq!((outcome.granted(), outcome.waited()), (1, 1));
    let outcome = contention.run_scoped(|conn, hold| {
        let guard = conn.advisory_lock("x")?;
        hold.until_settled();
        guard.release()
    });
    assert_eq!(outcome.unwrap().waited(), 1);
    let lock = |conn: &mut PgConnection| conn.advisory_xact_lock_nowait("x");
    let refused =
        attempt_acquiring_lock_in_separate_transactions(|| tour.try_connect(), lock, LONG);
    assert_eq!(refused.unwrap().len(), 1);
    // The server has to end these.
    let late = contention.timeout(Duration::from_millis(200)).run(sleep);
    assert_eq!(late.unwrap().unsettled().len(), 2);
}

/// For everything that has a name of its own.
fn waits(tour: &Tour) {
    let scenario = Scenario::new(|| tour.try_connect());
    let [first, second, third] =
        ["first", "second", "third"].map(|name| scenario.session(name).unwrap());
    let sessions = [&first, &second, &third];
    let begin = || sessions.map(|session| session.begin().unwrap());
    let end = || sessions.map(|session| session.rollback().unwrap());
    let blocks = |session: &Session<PgConnection>, step: fn(&mut PgConnection) -> _| {
        let mut pending = session.assert_blocks::<(), LockError>("lock", step);
        (pending.wait_blocked().unwrap().lock().to_owned(), pending)
    };
    begin();
    first.run("lock", lock_rows).unwrap();
    let (row, second_waits) = blocks(&second, lock_rows);
    let (tuple, third_waits) = blocks(&third, lock_rows);
    assert!(row.ends_with("ShareLock on a row of accounts"), "{row}");
    assert!(
        tuple.ends_with("ExclusiveLock on a row of accounts"),
        "{tuple}"
    );
    first.rollback().unwrap();
    second_waits.join().unwrap();
    second.rollback().unwrap();
    third_waits.join().unwrap();
    third.rollback().unwrap();

    let locks: [fn(&mut PgConnection) -> _; 3] = [
        |conn| conn.advisory_xact_lock(-7),
        |conn| conn.advisory_xact_lock((1, -2)),
        |conn| conn.lock_table(jobs::table, TableLockMode::AccessExclusive),
    ];
    let names = ["advisory lock -7", "advisory lock (1, -2)", "jobs"];
    for (lock, name) in locks.into_iter().zip(names) {
        begin();
        first.run("lock", lock).unwrap();
        let (seen, waits) = blocks(&second, lock);
        assert!(seen.ends_with(name), "{seen}");
        first.rollback().unwrap();
        waits.join().unwrap();
        first.begin().unwrap();
        end();
    }
    first.begin().unwrap();
    first
        .run("read", |conn| {
            conn.lock_table(jobs::table, TableLockMode::RowExclusive)
        })
        .unwrap();
    let (seen, waits) = blocks(&second, |conn| {
        Ok(conn.batch_execute("REINDEX TABLE CONCURRENTLY jobs")?)
    });
    assert!(seen.ends_with("a transaction"), "{seen}");
    first.commit().unwrap();
    waits.join().unwrap();
}

fn assertions(tour: &Tour) {
    let scenario = Scenario::new(|| tour.try_connect());
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    let lock = |key: i64| move |conn: &mut PgConnection| conn.advisory_xact_lock(key);
    for level in LEVELS {
        first.begin_at(level).unwrap();
        second.begin().unwrap();
        first.run("lock", lock(1)).unwrap();
        second.assert_does_not_block("lock", lock(2)).unwrap();
        second.assert_fails_with(
            "refused",
            |conn| conn.advisory_xact_lock_nowait(1),
            LockError::is_contention,
        );
        // Which cancels the step.
        second
            .try_assert_does_not_block("lock", lock(1))
            .unwrap_err();
        second.rollback().unwrap();
        first.commit().unwrap();
    }
    first.begin().unwrap();
    second.begin().unwrap();
    first.run("lock", lock(1)).unwrap();
    second.run("lock", lock(2)).unwrap();
    let ended = scenario.assert_deadlock([
        first.assert_blocks("lock", lock(2)),
        second.start("lock", lock(1)),
    ]);
    assert_eq!(ended.len(), 2);
}

/// What is cancelled, and then ended.
fn hanging(tour: &Tour) {
    let scenario = Scenario::new(|| tour.try_connect()).timeout(Duration::from_millis(300));
    let first = scenario.session("first").unwrap();
    let stubborn = first.start("sleep", |conn| {
        loop {
            if let Err(error @ LockError::ConnectionLost { .. }) = sleep(conn) {
                return Err::<(), _>(error);
            }
        }
    });
    stubborn.join().unwrap_err();
}

fn explorer(tour: &Tour) {
    fn lock(key: i64) -> impl Fn(&mut PgConnection, &mut i32) -> StepResult + Clone {
        move |conn, _| Ok(conn.advisory_xact_lock(key)?)
    }
    let steps = |level, keys: [i64; 2]| {
        Steps::transaction(level)
            .step("lock", lock(keys[0]))
            .step("again", lock(keys[1]))
            .step("session", |conn: &mut PgConnection, _| {
                let guard = conn.advisory_lock("x")?;
                guard.release()?;
                Ok(())
            })
    };
    let nothing = |_: &mut PgConnection| Ok(());
    for level in LEVELS {
        let explorer = Explorer::new(|| tour.try_connect())
            .setup(nothing)
            .teardown(nothing)
            .session("first", steps(level, [1, 2]))
            .session("second", steps(level, [2, 1]))
            .invariant("nothing", |_, _| Ok(true))
            .max_schedules(6);
        let explored = explorer.explore().unwrap();
        let failure = explored.failures().first().unwrap();
        let again = explorer.replay(failure.schedule()).unwrap();
        assert!(!again.problems().is_empty());
    }
    let code = |conn: &mut PgConnection| -> QueryResult<()> {
        conn.transaction(|conn| lock_rows(conn).map(drop).map_err(|_| diesel::NotFound))
    };
    let explorer = Explorer::new(|| tour.try_connect())
        .code("first", code)
        .code("second", code)
        .crashes()
        .max_schedules(12);
    assert!(explorer.explore().unwrap().schedules() > 2);
    let call = || code(&mut PgConnection::establish(tour.url).unwrap());
    match explorer.call("third", call).explore() {
        Ok(explored) => assert!(explored.schedules() > 6),
        // The test has set its own default.
        Err(error) => assert!(matches!(error, ExplorerError::Instrumentation), "{error}"),
    }
}

fn conflicts(tour: &Tour) {
    let attempts = || {
        [
            LockAttempt::new("rows", lock_rows),
            LockAttempt::new("shared", |conn: &mut PgConnection| {
                conn.advisory_xact_lock(AdvisoryLock::shared((1, 2)))
            }),
            LockAttempt::new("exclusive", |conn: &mut PgConnection| {
                conn.advisory_xact_lock_nowait((1, 2))
            }),
        ]
    };
    let matrix = conflict_matrix(|| tour.try_connect(), attempts()).unwrap();
    assert_eq!(matrix.conflicts("rows", "rows"), Some(true));
    assert_conflicts(|| tour.try_connect(), attempts(), &matrix.to_string());
}

fn spec(tour: &Tour) {
    let spec = Spec::parse(
        "setup     { BEGIN; LOCK TABLE jobs; COMMIT; }
         session s1
         setup     { BEGIN; }
         step lock { LOCK TABLE jobs; }
         step end  { COMMIT; }
         session s2
         step wait { BEGIN; LOCK TABLE jobs; COMMIT; }
         teardown  { SELECT FROM nowhere; }",
    );
    let transcript = spec
        .unwrap()
        .run(|| PgConnection::establish(tour.url))
        .unwrap()
        .to_string();
    assert!(transcript.contains("<waiting ...>"), "{transcript}");
}

fn transactions(tour: &Tour) {
    let conn = &mut tour.connect();
    begin(conn).unwrap();
    begin(conn).unwrap();
    rollback(conn).unwrap();
    commit(conn).unwrap();
    for level in LEVELS {
        begin_at(conn, level).unwrap();
        commit(conn).unwrap();
    }
}
