//! Sessions that are ended on their way.

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{Explorer, Problem};
use serial_test::parallel;

use super::fixture::explorer;
use crate::support::database;
use crate::support::schema::{accounts, jobs};

fn add(conn: &mut PgConnection, account: i32, change: i64) -> QueryResult<usize> {
    diesel::update(accounts::table.find(account))
        .set(accounts::balance.eq(accounts::balance + change))
        .execute(conn)
}

/// Two transactions where one was needed.
fn halves(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| add(conn, 1, -10))?;
    conn.transaction(|conn| add(conn, 2, 10))?;
    Ok(())
}

fn whole(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| {
        add(conn, 1, -10)?;
        add(conn, 2, 10)?;
        Ok(())
    })
}

fn deposit(conn: &mut PgConnection) -> Result<(), LockError> {
    let leader = conn.advisory_lock("bank")?;
    leader.release()?;
    add(conn, 2, 1)?;
    Ok(())
}

#[test]
#[parallel]
fn half_of_the_work_of_a_session_that_was_ended_is_found() {
    let database = database();
    let explorer = explorer(&database)
        .code("ada", halves)
        .code("bob", deposit)
        .crashes();
    let exploration = explorer.explore().unwrap();
    let failures = exploration.failures();
    assert!(!failures.is_empty(), "{:#?}", exploration.list());
    for run in failures {
        assert!(
            matches!(run.problems(), [Problem::NotSerializable { .. }]),
            "{run}"
        );
        assert!(
            run.schedule().contains("ada.commit_without_answer")
                || run.schedule().contains("ada.crash")
        );
        assert_eq!(
            explorer.replay(run.schedule()).unwrap().schedule(),
            run.schedule()
        );
    }
}

#[test]
#[parallel]
fn a_transaction_and_a_guard_leave_nothing_when_their_session_is_ended() {
    let database = database();
    let exploration = explorer(&database)
        .code("ada", whole)
        .code("bob", deposit)
        .crashes()
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert!(exploration.is_complete());
    let crashed = |name: &str| {
        exploration
            .list()
            .iter()
            .filter(|run| run.contains(name))
            .count()
    };
    assert!(crashed("ada.crash") >= 3, "{:#?}", exploration.list());
    assert!(crashed("bob.crash") >= 2 && crashed("ada.commit_without_answer") >= 1);
}

/// A payment whose key says whether it was made.
fn pay_once(conn: &mut PgConnection) -> QueryResult<bool> {
    conn.transaction(|conn| {
        let key = (
            jobs::id.eq(7),
            jobs::account_id.eq(1),
            jobs::payload.eq("pay"),
        );
        let inserted = diesel::insert_into(jobs::table).values(key);
        let is_new = inserted.on_conflict_do_nothing().execute(conn)? == 1;
        if is_new {
            add(conn, 1, -10)?;
        }
        Ok(is_new)
    })
}

fn pay(conn: &mut PgConnection) -> QueryResult<usize> {
    conn.transaction(|conn| add(conn, 1, -10))
}

fn payments(database: &diesel_locks_harness::TestDatabase) -> Explorer<'_, PgConnection> {
    Explorer::new(|| PgConnection::establish(database.url())).setup(|conn| {
        diesel::delete(jobs::table).execute(conn)?;
        diesel::update(accounts::table)
            .set(accounts::balance.eq(100))
            .execute(conn)?;
        Ok(())
    })
}

#[test]
#[parallel]
fn a_payment_that_is_made_twice_by_a_client_without_an_answer_is_found() {
    let database = database();
    let explorer = payments(&database)
        .code("ada", pay)
        .code("bob", deposit)
        .retries();
    let exploration = explorer.explore().unwrap();
    assert!(exploration.is_complete());
    let failures = exploration.failures();
    assert!(!failures.is_empty(), "{:#?}", exploration.list());
    for run in failures {
        assert!(run.schedule().contains("commit_without_answer "), "{run}");
        assert!(
            matches!(
                run.problems(),
                [Problem::NotSerializable {
                    anomaly: Some("not idempotent"),
                    ..
                }]
            ),
            "{run}"
        );
        assert!(run.schedule().contains("ada.again ada.begin#2"), "{run}");
        let again = explorer.replay(run.schedule()).unwrap();
        assert_eq!(
            (again.schedule(), again.outcome()),
            (run.schedule(), run.outcome())
        );
    }
}

#[test]
#[parallel]
fn a_payment_that_has_a_key_is_not_accused_when_it_is_made_again() {
    let database = database();
    let exploration = payments(&database)
        .code("ada", pay_once)
        .code("bob", pay_once)
        .retries()
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert!(exploration.is_complete());
    let again =
        |run: &&String| run.contains("ada.commit_without_answer") && run.contains("ada.again");
    assert!(
        exploration.list().iter().any(|run| again(&run)),
        "{:#?}",
        exploration.list()
    );
}

#[test]
#[parallel]
fn half_of_the_work_is_made_whole_by_a_second_run_that_knows_of_it() {
    let database = database();
    let key = |conn: &mut PgConnection, id: i32| {
        let key = (
            jobs::id.eq(id),
            jobs::account_id.eq(1),
            jobs::payload.eq("half"),
        );
        let inserted = diesel::insert_into(jobs::table).values(key);
        inserted.on_conflict_do_nothing().execute(conn)
    };
    let halves = |conn: &mut PgConnection| -> QueryResult<()> {
        for (id, change) in [(1, -10), (2, 10)] {
            conn.transaction(|conn| match key(conn, id)? {
                0 => Ok(0),
                _ => add(conn, id, change),
            })?;
        }
        Ok(())
    };
    let once = payments(&database).code("ada", halves).crashes().explore();
    assert!(!once.unwrap().failures().is_empty());
    let exploration = payments(&database)
        .code("ada", halves)
        .retries()
        .explore()
        .unwrap();
    exploration.assert_passed();
    assert!(exploration.schedules() > 8, "{:#?}", exploration.list());
}
