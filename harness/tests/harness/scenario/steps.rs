//! Named sessions, and steps in the order that the test writes.

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{IsolationLevel, Scenario, SessionError, StepError};
use serial_test::parallel;

use super::fixture::{add, connecting, lock_account};
use crate::support::schema::accounts;
use crate::support::{advisory_locks, database, pool};

#[test]
#[parallel]
fn a_step_fails_with_its_own_error() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
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
fn the_result_of_a_step_can_be_had_after_later_ones() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let first = scenario.session("first").unwrap();
    let early = first.start("add 1", add(1));
    first.run("add 2", add(2)).unwrap();
    assert!(early.is_finished());
    assert_eq!(early.join().unwrap(), 1);
}

#[test]
#[parallel]
fn transactions_have_the_level_that_they_were_given() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
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
    let scenario = Scenario::new(connecting(&database));
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
        let scenario = Scenario::new(connecting(&database));
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
    let pool = pool(&database, 3);
    let scenario = Scenario::new(|| pool.get());
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
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
fn a_session_may_have_any_name() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
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
    let pool = pool(&database, 3);
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
