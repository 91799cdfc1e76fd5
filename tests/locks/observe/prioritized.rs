//! Whoever is in the way of a priority is ended, and nobody else.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{End, LockError, Prioritized, SessionInfo, Spared, TableLockMode};
use diesel_locks_harness::TempPostgres;
use serial_test::parallel;

use super::jam::{Actor, connect_as, connect_to, end, server};
use super::on_wait::SHORT;
use crate::support::schema::accounts;
use crate::support::{backend_pid, connections, eventually, terminate, two_sessions};

fn server_with_app() -> TempPostgres {
    let server = server();
    let roles = "CREATE ROLE app LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO app";
    connect_to(&server).batch_execute(roles).unwrap();
    server
}

#[test]
#[parallel]
fn whoever_is_in_the_way_of_a_priority_is_ended_and_reported() {
    let server = server_with_app();
    let mut conn = connect_to(&server);
    let actors = ["one", "two"].map(|name| Actor::of(&server, "app", name));
    for actor in &actors {
        actor.does("BEGIN; TABLE accounts");
    }
    let priority =
        Prioritized::start(&mut conn, connect_to(&server), End::Terminate, SHORT).unwrap();
    conn.transaction(|conn| conn.lock_table(accounts::table, TableLockMode::AccessExclusive))
        .unwrap();
    let mut ended: Vec<i32> = priority
        .stop()
        .unwrap()
        .iter()
        .map(|end| {
            assert!(end.is_ended());
            end.session.pid
        })
        .collect();
    ended.sort_unstable();
    let mut expected = actors.each_ref().map(|actor| actor.pid);
    expected.sort_unstable();
    assert_eq!(ended, expected);
    end(&server, actors.into());
}

#[test]
#[parallel]
fn a_priority_with_a_filter_ends_only_whom_that_says_yes_to_and_asks_again() {
    let server = server_with_app();
    let mut conn = connect_to(&server);
    let actors = ["report", "billing"].map(|name| Actor::of(&server, "app", name));
    for actor in &actors {
        actor.does("BEGIN; TABLE accounts");
    }
    let [report, billing] = &actors;
    let (asked, questions) = mpsc::channel();
    let filter = move |session: &SessionInfo| {
        // Nobody may be there any more to be told.
        let _ = asked.send(session.pid);
        session.application.as_deref() == Some("report")
    };
    let second = connect_to(&server);
    let priority =
        Prioritized::start_filtered(&mut conn, second, End::Terminate, SHORT, filter).unwrap();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| {
            conn.transaction(|conn| {
                conn.lock_table(accounts::table, TableLockMode::AccessExclusive)
            })
        });
        let mut asked = 0;
        eventually(|| {
            asked += questions
                .try_iter()
                .filter(|pid| *pid == billing.pid)
                .count();
            asked >= 3 || waiter.is_finished()
        });
        billing.does("COMMIT");
        waiter.join().unwrap().unwrap();
    });
    let ends = priority.stop().unwrap();
    let ended: Vec<_> = ends.iter().map(|end| end.session.pid).collect();
    assert_eq!(ended, [report.pid]);
    end(&server, actors.into());
}

#[test]
#[parallel]
fn a_filter_that_panics_ends_the_priority_and_is_heard_of_only_by_who_asks() {
    let server = server_with_app();
    let holder = Actor::of(&server, "app", "holder");
    holder.does("SELECT pg_advisory_lock(1)");
    for is_asked in [true, false] {
        let (mut conn, second) = (connect_to(&server), connect_to(&server));
        let filter = |_: &SessionInfo| panic!("filter");
        let priority =
            Prioritized::start_filtered(&mut conn, second, End::Terminate, SHORT, filter).unwrap();
        assert!(!priority.is_over());
        let late = conn
            .advisory_lock_timeout(1, Duration::from_millis(300))
            .map(drop);
        assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
        eventually(|| priority.is_over());
        match is_asked {
            true => {
                let panic = catch_unwind(AssertUnwindSafe(|| priority.stop())).unwrap_err();
                assert_eq!(panic.downcast_ref::<&str>(), Some(&"filter"));
            }
            false => drop(priority),
        }
    }
    holder.does("SELECT pg_advisory_unlock(1)");
}

#[test]
#[parallel]
fn a_priority_leaves_alone_who_is_in_nobodys_way_and_whom_it_must_spare() {
    let server = server_with_app();
    let mut conn = connect_as(&server, "app");
    let actors = [
        Actor::of(&server, "app", "idle"),
        Actor::new(&server, "superuser"),
    ];
    let [idle, superuser] = &actors;
    idle.does("BEGIN; SELECT pg_advisory_lock(1)");
    superuser.does("SELECT pg_advisory_lock(2)");
    for how in [End::Terminate, End::Cancel] {
        let second = connect_to(&server);
        let priority = Prioritized::start(&mut conn, second, how, SHORT).unwrap();
        let late = conn
            .advisory_lock_timeout(2, Duration::from_millis(300))
            .map(drop);
        assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
        let ends = priority.stop().unwrap();
        // Answered once, though it was in the way all the time.
        assert_eq!(ends.len(), 1);
        assert_eq!(
            (ends[0].session.pid, ends[0].spared),
            (superuser.pid, Some(Spared::Superuser))
        );
    }
    idle.does("SELECT 1");
    end(&server, actors.into());
}

#[test]
#[parallel]
fn a_priority_waits_before_it_ends_anybody_and_ends_nobody_afterwards() {
    let server = server_with_app();
    let mut conn = connect_to(&server);
    let holder = Actor::of(&server, "app", "holder");
    holder.does("SELECT pg_advisory_lock(1)");
    let long = Duration::from_secs(3_600);
    let priority =
        Prioritized::start(&mut conn, connect_to(&server), End::Terminate, long).unwrap();
    let late = conn
        .advisory_lock_timeout(1, Duration::from_millis(1_500))
        .map(drop);
    assert!(late.is_err());
    assert_eq!(priority.stop().unwrap(), []);

    let priority =
        Prioritized::start(&mut conn, connect_to(&server), End::Terminate, SHORT).unwrap();
    drop(priority);
    let late = conn
        .advisory_lock_timeout(1, Duration::from_millis(300))
        .map(drop);
    assert!(late.is_err());
    holder.does("SELECT pg_advisory_unlock(1)");
}

#[test]
#[parallel]
fn a_priority_that_is_dropped_waits_for_what_it_does_at_the_moment() {
    let server = server_with_app();
    let (mut conn, second) = (connect_to(&server), connect_to(&server));
    let holder = Actor::of(&server, "app", "holder");
    holder.does("SELECT pg_advisory_lock(1)");
    let (asked, is_asked) = mpsc::channel();
    let (answer, answers) = mpsc::channel();
    let filter = move |_: &SessionInfo| {
        asked.send(()).unwrap();
        answers.recv().unwrap_or(false)
    };
    let priority =
        Prioritized::start_filtered(&mut conn, second, End::Terminate, SHORT, filter).unwrap();
    let waiter = thread::spawn(move || conn.advisory_lock(1).map(drop));
    is_asked.recv().unwrap();
    let (is_over, over) = mpsc::channel();
    let dropping = thread::spawn(move || {
        drop(priority);
        is_over.send(())
    });
    assert!(over.recv_timeout(Duration::from_secs(1)).is_err());
    answer.send(false).unwrap();
    dropping.join().unwrap().unwrap();
    holder.does("SELECT pg_advisory_unlock(1)");
    waiter.join().unwrap().unwrap();
}

#[test]
#[parallel]
fn a_cancelled_statement_that_comes_again_is_cancelled_again() {
    let server = server_with_app();
    let mut conn = connect_to(&server);
    let holder = Actor::of(&server, "app", "holder");
    holder.does("SELECT pg_advisory_lock(1)");
    for _ in 0..3 {
        holder.begins("SELECT pg_sleep(3600)");
    }
    let priority = Prioritized::start(&mut conn, connect_to(&server), End::Cancel, SHORT).unwrap();
    holder.begins("SELECT pg_advisory_unlock(1)");
    conn.advisory_lock(1).unwrap().release().unwrap();
    let ends = priority.stop().unwrap();
    assert!(
        ends.len() >= 3 && ends.iter().all(|end| end.is_ended()),
        "{ends:?}"
    );
}

#[test]
#[parallel]
fn a_priority_ends_with_its_session_and_says_when_its_second_connection_is_lost() {
    let (database, mut conn, mut second) = two_sessions(crate::support::database());
    let pid = backend_pid(&mut second);
    let priority = Prioritized::start(&mut conn, second, End::Cancel, SHORT).unwrap();
    terminate(&database, pid);
    eventually(|| priority.is_over());
    let lost = priority.stop();
    assert!(matches!(lost, Err(LockError::ConnectionLost { .. })));

    let second = crate::support::connect(&database);
    let priority = Prioritized::start(&mut conn, second, End::Cancel, SHORT).unwrap();
    drop(conn);
    // The second connection is closed too.
    eventually(|| connections(&database) == 0 && priority.is_over());
    assert_eq!(priority.stop().unwrap(), []);
}
