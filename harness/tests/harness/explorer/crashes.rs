//! Sessions that are ended on their way.

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::Problem;
use serial_test::parallel;

use super::fixture::explorer;
use crate::support::database;
use crate::support::schema::accounts;

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
