//! Steps that wait, and for whom.

use std::sync::mpsc;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks_harness::{Scenario, SessionError, StepProblem, begin, commit};
use serial_test::parallel;

use super::fixture::{Conn, add, connecting, lock_account, lock_account_in_transaction, problem};
use crate::support::{database, pool};

#[test]
#[parallel]
fn a_step_that_waits_is_seen_with_the_session_that_it_waits_for() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
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
    let scenario = Scenario::new(connecting(&database));
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
    let scenario = Scenario::new(connecting(&database));
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
fn a_step_that_waits_on_a_connection_of_its_own_is_seen_to() {
    let database = database();
    let pool = pool(&database, 3);
    let lock = |conn: &mut Conn| conn.transaction(|conn| conn.advisory_xact_lock(1));
    let scenario = Scenario::new(connecting(&database));
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
fn a_session_does_not_begin_a_step_while_another_one_waits() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
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
fn a_wait_is_seen_although_the_catalogue_is_locked() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
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
