//! Steps that wait for each other.

use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::prelude::*;
use diesel_locks_harness::{Scenario, Session};
use serial_test::parallel;

use super::fixture::{Conn, connecting};
use crate::support;
use crate::support::{backend_pid, database, pool};

#[test]
#[parallel]
fn a_deadlock_ends_one_of_the_two() {
    let database = database();
    let scenario = Scenario::new(connecting(&database));
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
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

fn deadlock_timeout(conn: &mut Conn) -> QueryResult<String> {
    diesel::select(sql::<Text>("current_setting('deadlock_timeout')")).get_result(conn)
}

#[test]
#[parallel]
fn a_deadlock_is_found_soon_in_the_step_that_closes_the_circle_and_leaves_no_setting() {
    let database = database();
    let pool = pool(&database, 4);
    let scenario = Scenario::new(|| pool.get());
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
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
        let pool = pool(&database, 3);
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
