//! Named sessions, and steps in the order that the test writes.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool, PooledConnection};
use diesel::sql_types::Text;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{
    IsolationLevel, Scenario, Session, SessionError, StepError, StepProblem, TestDatabase, begin,
    commit,
};
use serial_test::parallel;

use crate::support;
use crate::support::schema::accounts;
use crate::support::{
    advisory_locks, backend_pid, connect, connections, database, eventually, terminate,
};

/// A `connect` for a scenario on this database.
fn sessions(database: &TestDatabase) -> impl Fn() -> ConnectionResult<PgConnection> + '_ {
    || PgConnection::establish(database.url())
}

fn lock_account(conn: &mut PgConnection) -> Result<i64, LockError> {
    conn.get_for_update(accounts::table.find(1).select(accounts::balance))
}

fn add(amount: i64) -> impl FnOnce(&mut PgConnection) -> QueryResult<usize> + Send {
    move |conn| {
        diesel::update(accounts::table.find(1))
            .set(accounts::balance.eq(accounts::balance + amount))
            .execute(conn)
    }
}

fn sleep(conn: &mut PgConnection) -> QueryResult<usize> {
    diesel::sql_query("SELECT pg_sleep(3600)").execute(conn)
}

fn problem<T: std::fmt::Debug, E: std::fmt::Display + 'static>(
    result: Result<T, StepError<E>>,
) -> (StepProblem, String) {
    match result {
        Err(StepError::Broken(SessionError::Step {
            problem,
            transcript,
            ..
        })) => (problem, transcript.to_string()),
        other => panic!("{other:?}"),
    }
}

#[test]
#[parallel]
fn a_step_that_waits_is_seen_with_the_session_that_it_waits_for() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    first.begin().unwrap();
    second.begin().unwrap();
    first.run("lock", lock_account).unwrap();

    let mut lock = second.start("lock", lock_account);
    let blocked = lock.wait_blocked().unwrap();
    assert_eq!(blocked.by(), ["first"]);
    assert_eq!(blocked.lock(), "ShareLock on a row of accounts");
    assert!(!lock.is_finished());
    // It is still so when it is asked again.
    assert_eq!(lock.wait_blocked().unwrap(), blocked);

    first.run("add", add(10)).unwrap();
    first.commit().unwrap();
    assert_eq!(lock.join().unwrap(), 110);
    second.commit().unwrap();
}

#[test]
#[parallel]
fn a_chain_of_waits_names_who_is_ahead() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let sessions = ["first", "second", "third"].map(|name| scenario.session(name).unwrap());
    for session in &sessions {
        session.begin().unwrap();
    }
    let lock = |conn: &mut PgConnection| conn.advisory_xact_lock(42);
    sessions[0].run("lock", lock).unwrap();
    let mut second = sessions[1].start("lock", lock);
    assert_eq!(second.wait_blocked().unwrap().by(), ["first"]);
    let mut third = sessions[2].start("lock", lock);
    let blocked = third.wait_blocked().unwrap();
    assert_eq!(blocked.by(), ["first", "second"]);
    assert_eq!(blocked.lock(), "ExclusiveLock on advisory lock 42");

    sessions[0].commit().unwrap();
    second.join().unwrap();
    assert_eq!(third.wait_blocked().unwrap().by(), ["second"]);
    sessions[1].rollback().unwrap();
    third.join().unwrap();
}

#[test]
#[parallel]
fn a_step_that_ends_instead_of_waiting_is_an_error_and_keeps_its_result() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let mut read = first.start("add", add(1));
    let error = read.wait_blocked().unwrap_err();
    assert!(matches!(
        error,
        SessionError::Step {
            problem: StepProblem::NotBlocked,
            ..
        }
    ));
    assert!(read.is_finished());
    assert_eq!(read.join().unwrap(), 1);
}

#[test]
#[parallel]
fn a_step_fails_with_its_own_error() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    first.begin().unwrap();
    second.begin().unwrap();
    first.run("lock", lock_account).unwrap();
    let refused = second.run("lock", |conn| {
        conn.execute_for_update_nowait(accounts::table.find(1))
    });
    assert!(matches!(
        refused,
        Err(StepError::Failed(LockError::NotAvailable { .. }))
    ));
    let own = second.run("think", |_| Err::<(), _>("no idea".to_owned()));
    assert!(matches!(own, Err(StepError::Failed(error)) if error == "no idea"));
}

#[test]
#[parallel]
fn a_deadlock_ends_one_of_the_two() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    let lock = |key: i64| move |conn: &mut PgConnection| conn.advisory_xact_lock(key);
    first.begin().unwrap();
    second.begin().unwrap();
    first.run("lock 1", lock(1)).unwrap();
    second.run("lock 2", lock(2)).unwrap();
    let mut waits = first.start("lock 2", lock(2));
    waits.wait_blocked().unwrap();
    let closes = second.start("lock 1", lock(1));
    let ended = [waits.join().is_ok(), {
        let closes = closes.join();
        closes.is_ok()
    }];
    assert_eq!(
        ended.iter().filter(|ok| **ok).count(),
        1,
        "{}",
        scenario.transcript()
    );
}

/// Both sessions lock a key, and then each the other one's: whether the first one got it, and the
/// second one, and whether the transcript has both waits.
fn deadlock<C>(scenario: &Scenario<C>, sessions: [&Session<Conn>; 2]) -> ([bool; 2], bool) {
    let [first, second] = sessions;
    let lock = |key: i64| move |conn: &mut Conn| conn.advisory_xact_lock(key);
    first.begin().unwrap();
    second.begin().unwrap();
    first.run("lock 1", lock(1)).unwrap();
    second.run("lock 2", lock(2)).unwrap();
    let mut waits = first.start("lock 2", lock(2));
    waits.wait_blocked().unwrap();
    let closes = second.start("lock 1", lock(1));
    let ended = [waits, closes].map(|step| step.join().is_ok());
    let transcript = scenario.transcript().to_string();
    assert!(transcript.contains("waits for second"), "{transcript}");
    let last = transcript
        .rsplit_once("lock 1 …")
        .map_or("", |(_, last)| last);
    first.rollback().unwrap();
    second.rollback().unwrap();
    (ended, last.contains("waits for first"))
}

type Conn = PooledConnection<ConnectionManager<PgConnection>>;

fn deadlock_timeout(conn: &mut Conn) -> QueryResult<String> {
    diesel::select(sql::<Text>("current_setting('deadlock_timeout')")).get_result(conn)
}

#[test]
#[parallel]
fn a_deadlock_is_found_soon_in_the_step_that_closes_the_circle_and_leaves_no_setting() {
    let database = database();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(4).build(manager).unwrap();
    let scenario = Scenario::new(|| pool.get());
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    let begun = Instant::now();
    let mut shown = false;
    for _ in 0..5 {
        let (ended, has_both) = deadlock(&scenario, [&first, &second]);
        assert_eq!(ended, [true, false], "{}", scenario.transcript());
        shown |= has_both;
    }
    // A machine that is busy may miss one that is over in 30 ms.
    assert!(shown, "{}", scenario.transcript());
    // The server's own is a second.
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!(second.run("look", deadlock_timeout).unwrap(), "1s");

    // Of a step outside of a transaction, no rollback would undo it.
    let third = scenario.session("third").unwrap();
    let lock = |conn: &mut Conn| conn.advisory_xact_lock(1);
    first.begin().unwrap();
    first.run("lock 1", lock).unwrap();
    let waits = second.assert_blocks("lock 1", move |conn| conn.transaction(lock));
    assert_eq!(third.run("look", deadlock_timeout).unwrap(), "30ms");
    first.commit().unwrap();
    waits.join().unwrap();
    drop((first, second, third, scenario));
    let mut conns = [(); 4].map(|()| pool.get().unwrap());
    for conn in &mut conns {
        assert_eq!(deadlock_timeout(conn).unwrap(), "1s");
    }
}

#[test]
#[parallel]
fn who_may_not_set_deadlock_timeout_keeps_the_transaction() {
    let database = database();
    let pool = |role: &'static str| {
        let manager = ConnectionManager::<PgConnection>::new(database.url());
        let pool = Pool::builder().max_size(3).build(manager).unwrap();
        move || {
            let mut conn = pool.get()?;
            conn.batch_execute(role)?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(conn)
        }
    };
    let mut conn = support::connect(&database);
    let role = format!("app_{}", backend_pid(&mut conn));
    conn.batch_execute(&format!("CREATE ROLE {role}")).unwrap();
    let role: &'static str = format!("SET SESSION AUTHORIZATION {role}").leak();

    // It is known from the begin, or turns out in the transaction.
    let scenario = Scenario::new(pool(role));
    let sessions = ["first", "second"].map(|name| scenario.session(name).unwrap());
    let (ended, shown) = deadlock(&scenario, [&sessions[0], &sessions[1]]);
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
    assert!(shown, "{}", scenario.transcript());

    let scenario = Scenario::new(pool("SELECT"));
    let sessions = ["first", "second"].map(|name| scenario.session(name).unwrap());
    let become_it =
        |conn: &mut Conn| conn.batch_execute(&role.replace("SESSION AUTHORIZATION", "ROLE"));
    sessions[1].run("become it", become_it).unwrap();
    let (ended, shown) = deadlock(&scenario, [&sessions[0], &sessions[1]]);
    assert_eq!(ended.iter().filter(|ended| **ended).count(), 1);
    assert!(shown, "{}", scenario.transcript());
    assert!(scenario.transcript().to_string().contains("deadlock"));

    drop((sessions, scenario));
    conn.batch_execute(&role.replace("SET SESSION AUTHORIZATION", "DROP ROLE"))
        .unwrap();
}

#[test]
#[parallel]
fn a_step_that_waits_on_a_connection_of_its_own_is_seen_to() {
    let database = database();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(3).build(manager).unwrap();
    let lock = |conn: &mut Conn| conn.transaction(|conn| conn.advisory_xact_lock(1));
    let scenario = Scenario::new(sessions(&database));
    let [first, second, third] =
        ["first", "second", "third"].map(|name| scenario.session(name).unwrap());
    let own = pool.clone();
    let held = first.run("lock on its own", move |_| {
        let mut conn = own.get()?;
        begin(&mut conn)?;
        conn.advisory_xact_lock(1)?;
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(conn)
    });
    let mut held = held.unwrap();

    let own = pool.clone();
    let mut waits = second.start("lock on its own", move |_| lock(&mut own.get().unwrap()));
    // There is one that waits; which does not mean that another one does.
    let (sender, receiver) = mpsc::channel::<()>();
    let mut busy = third.start("wait for nothing on the server", move |_| {
        receiver.recv_timeout(Duration::from_millis(300))
    });
    assert!(busy.wait_blocked().is_err());
    assert_eq!(
        waits.wait_blocked().unwrap().lock(),
        "ExclusiveLock on advisory lock 1"
    );
    drop(sender);
    let own = pool.clone();
    let mut too = third.start("lock on its own too", move |_| {
        lock(&mut own.get().unwrap())
    });
    too.wait_blocked().unwrap();
    // Of who waits for its turn, it is known who is before it.
    let transcript = scenario.transcript().to_string();
    assert!(transcript.contains("waits for second"), "{transcript}");

    commit(&mut held).unwrap();
    waits.join().unwrap();
    too.join().unwrap();
}

#[test]
#[parallel]
fn a_step_that_hangs_elsewhere_ends_in_time_and_is_told_to_be_idle_on_the_server() {
    let database = database();
    let mut outsider = support::connect(&database);
    begin(&mut outsider).unwrap();
    outsider.advisory_xact_lock(1).unwrap();
    let limit = Duration::from_millis(300);
    let scenario = Scenario::new(sessions(&database)).timeout(limit);
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
    let scenario = Scenario::new(sessions(&database)).timeout(Duration::from_millis(300));
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
    let scenario = Scenario::new(sessions(&database));
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
fn a_session_does_not_begin_a_step_while_another_one_waits() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    first.begin().unwrap();
    first.run("lock", lock_account).unwrap();
    let waits = second.start("lock", add(1));
    let busy = StepProblem::Busy {
        with: "lock".into(),
    };
    assert_eq!(problem(second.run("add", add(1))).0, busy);
    first.rollback().unwrap();
    waits.join().unwrap();
    second.run("add", add(1)).unwrap();
}

#[test]
#[parallel]
fn the_result_of_a_step_can_be_had_after_later_ones() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let early = first.start("add 1", add(1));
    first.run("add 2", add(2)).unwrap();
    assert!(early.is_finished());
    assert_eq!(early.join().unwrap(), 1);
}

#[test]
#[parallel]
fn a_session_that_is_dropped_while_it_waits_leaves_nothing() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
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
    let scenario = Scenario::new(sessions(&database)).timeout(Duration::from_millis(300));
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
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
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

fn lock_account_in_transaction(conn: &mut PgConnection) -> Result<(), LockError> {
    begin(conn)?;
    lock_account(conn)?;
    commit(conn)
}

#[test]
#[parallel]
fn transactions_have_the_level_that_they_were_given() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    for (level, name) in [
        (IsolationLevel::ReadCommitted, "read committed"),
        (IsolationLevel::RepeatableRead, "repeatable read"),
        (IsolationLevel::Serializable, "serializable"),
    ] {
        first.begin_at(level).unwrap();
        let got = first.run("ask", |conn| {
            diesel::dsl::sql::<diesel::sql_types::Text>(
                "SELECT pg_catalog.current_setting('transaction_isolation')",
            )
            .get_result::<String>(conn)
        });
        assert_eq!(got.unwrap(), name);
        // It is a transaction that Diesel knows, and none is thrown away.
        assert!(first.begin_at(level).is_err());
        first.run("lock", lock_account).unwrap();
        first.commit().unwrap();
    }
}

#[test]
#[parallel]
fn sessions_have_different_names() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let _first = scenario.session("first").unwrap();
    let second = scenario.session::<PgConnection, _>("first");
    assert!(matches!(second, Err(SessionError::Duplicate { session }) if session == "first"));
}

#[test]
#[parallel]
fn a_session_that_cannot_connect_is_named() {
    let scenario = Scenario::new(|| Err::<PgConnection, _>("no"));
    let first = scenario.session("first");
    assert!(matches!(first, Err(SessionError::Connect { session, .. }) if session == "first"));
}

#[test]
#[parallel]
fn a_hundred_runs_are_alike() {
    let database = database();
    let mut seen = std::collections::HashSet::new();
    for _ in 0..100 {
        let scenario = Scenario::new(sessions(&database));
        let first = scenario.session("first").unwrap();
        let second = scenario.session("second").unwrap();
        first.begin().unwrap();
        first.run("add", add(1)).unwrap();
        let mut pending = second.start("add", add(1));
        pending.wait_blocked().unwrap();
        first.rollback().unwrap();
        pending.join().unwrap();
        let text = scenario.transcript().to_string();
        let shape: Vec<_> = text
            .lines()
            .map(|line| line.chars().skip(9).collect::<String>())
            .collect();
        seen.insert(shape);
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
}

#[test]
#[parallel]
fn pooled_connections_go_back_without_a_lock_or_a_transaction() {
    let database = database();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(3).build(manager).unwrap();
    let scenario = Scenario::new(|| pool.get());
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    first.begin().unwrap();
    first
        .run("lock", |conn| {
            std::mem::forget(conn.advisory_lock(1)?);
            conn.advisory_xact_lock(2)
        })
        .unwrap();
    // With a transaction, the pool would close the connection.
    first.commit().unwrap();
    let mut waits = second.start("lock", |conn| conn.advisory_lock(1)?.release());
    assert_eq!(waits.wait_blocked().unwrap().by(), ["first"]);
    drop(first);
    waits.join().unwrap();
    drop((second, scenario));
    assert_eq!(advisory_locks(&database), 0);
    assert_eq!(pool.state().connections, 3);
    let mut conn = pool.get().unwrap();
    conn.begin_test_transaction().unwrap();
}

#[test]
#[parallel]
fn an_observer_that_is_killed_is_an_error_and_not_a_hang() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
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
fn a_session_may_have_any_name() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    for name in ["", "\0", "a\nb", "<'\"&;#> end"] {
        let session = scenario.session(name).unwrap();
        session.run("\0 <b>", add(1)).unwrap();
    }
    let transcript = scenario.transcript();
    assert!(!transcript.to_svg().contains('\0'));
    assert!(!transcript.to_mermaid().contains('\0'));
    assert!(!transcript.to_string().contains('\0'));
}

#[test]
#[parallel]
fn a_connection_that_a_pool_lends_again_belongs_to_the_new_session() {
    let database = database();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(3).build(manager).unwrap();
    let scenario = Scenario::new(|| pool.get());
    let second = scenario.session("second").unwrap();
    drop(scenario.session("first").unwrap());
    let third = scenario.session("third").unwrap();
    third.begin().unwrap();
    third
        .run("lock", |conn| conn.advisory_xact_lock(1))
        .unwrap();
    let mut waits = second.start("lock", |conn| conn.advisory_lock(1)?.release());
    assert_eq!(waits.wait_blocked().unwrap().by(), ["third"]);
    third.rollback().unwrap();
    waits.join().unwrap();
}

#[test]
#[parallel]
fn a_step_that_was_stopped_for_another_one_says_so_when_it_is_joined() {
    let database = database();
    let scenario = Scenario::new(sessions(&database)).timeout(Duration::from_millis(300));
    let first = scenario.session("first").unwrap();
    let sleeps = first.start("sleep", sleep);
    assert_eq!(problem(first.run("add", add(1))).0, StepProblem::TooLate);
    assert!(matches!(
        problem(sleeps.join()).0,
        StepProblem::TimedOut { .. }
    ));
}

#[test]
#[parallel]
fn a_wait_is_seen_although_the_catalogue_is_locked() {
    let database = database();
    let scenario = Scenario::new(sessions(&database));
    let first = scenario.session("first").unwrap();
    let second = scenario.session("second").unwrap();
    first.begin().unwrap();
    first
        .run("lock", |conn| {
            conn.batch_execute("LOCK TABLE accounts, pg_class IN ACCESS EXCLUSIVE MODE")
        })
        .unwrap();
    let mut waits = second.start("lock", lock_account_in_transaction);
    assert_eq!(waits.wait_blocked().unwrap().by(), ["first"]);
    first.rollback().unwrap();
    waits.join().unwrap();
}
