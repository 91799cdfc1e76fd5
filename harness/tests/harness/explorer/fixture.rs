//! Explorers of accounts, and the steps that they order.

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{Explorer, IsolationLevel, StepResult, Steps, TestDatabase};

use crate::support::schema::accounts;

pub(super) fn balance(conn: &mut PgConnection, id: i32) -> QueryResult<i64> {
    let account = accounts::table.find(id);
    account.select(accounts::balance).first(conn)
}

pub(super) fn set_balance(conn: &mut PgConnection, id: i32, balance: i64) -> StepResult {
    diesel::update(accounts::table.find(id))
        .set(accounts::balance.eq(balance))
        .execute(conn)?;
    Ok(())
}

pub(super) fn explorer<'e>(database: &'e TestDatabase) -> Explorer<'e, PgConnection> {
    Explorer::new(|| PgConnection::establish(database.url())).setup(|conn| {
        diesel::update(accounts::table)
            .set(accounts::balance.eq(100))
            .execute(conn)?;
        Ok(())
    })
}

/// Reads, and then writes what it has read and 10 more.
pub(super) fn deposit() -> Steps<PgConnection, i64> {
    Steps::new()
        .step("read", |conn, seen| {
            *seen = balance(conn, 1)?;
            Ok(())
        })
        .step("write", |conn, seen| set_balance(conn, 1, *seen + 10))
}

pub(super) fn both_count(conn: &mut PgConnection) -> StepResult<bool> {
    Ok(balance(conn, 1)? == 120)
}

pub(super) fn total(conn: &mut PgConnection) -> QueryResult<i64> {
    Ok(balance(conn, 1)? + balance(conn, 2)?)
}

/// Takes 100 from one of two accounts, if 100 are left then on both together.
pub(super) fn withdrawal(level: IsolationLevel, from: i32) -> Steps<PgConnection, i64> {
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

pub(super) fn write_skew(
    database: &TestDatabase,
    level: IsolationLevel,
) -> Explorer<'_, PgConnection> {
    explorer(database)
        .session("first", withdrawal(level, 1))
        .session("second", withdrawal(level, 2))
        .invariant("100 are left", |conn, _| Ok(total(conn)? >= 100))
        .allow_errors(LockError::is_retryable)
}

pub(super) fn schedules(explorer: &Explorer<'_, PgConnection>) -> Vec<String> {
    let exploration = explorer.explore().unwrap();
    let failures = exploration.failures().iter();
    failures.map(|run| run.schedule().to_owned()).collect()
}

/// Takes two advisory locks in a transaction.
pub(super) fn locks(first: i64, second: i64) -> Steps<PgConnection, ()> {
    Steps::transaction(IsolationLevel::ReadCommitted)
        .step("one", move |conn: &mut PgConnection, ()| {
            Ok(conn.advisory_xact_lock(first)?)
        })
        .step("two", move |conn, ()| Ok(conn.advisory_xact_lock(second)?))
}
