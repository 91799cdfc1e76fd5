//! What a scenario connects to, and what its steps do.

use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, PooledConnection};
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{SessionError, StepError, StepProblem, TestDatabase, begin, commit};

use crate::support::schema::accounts;

/// A `connect` for a scenario or a matrix on this database.
pub(super) fn connecting(
    database: &TestDatabase,
) -> impl Fn() -> ConnectionResult<PgConnection> + '_ {
    || PgConnection::establish(database.url())
}

pub(super) fn lock_account(conn: &mut PgConnection) -> Result<i64, LockError> {
    conn.get_for_update(accounts::table.find(1).select(accounts::balance))
}

pub(super) fn add(amount: i64) -> impl FnOnce(&mut PgConnection) -> QueryResult<usize> + Send {
    move |conn| {
        diesel::update(accounts::table.find(1))
            .set(accounts::balance.eq(accounts::balance + amount))
            .execute(conn)
    }
}

pub(super) fn problem<T: std::fmt::Debug, E: std::fmt::Display + 'static>(
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

pub(super) type Conn = PooledConnection<ConnectionManager<PgConnection>>;

pub(super) fn lock_account_in_transaction(conn: &mut PgConnection) -> Result<(), LockError> {
    begin(conn)?;
    lock_account(conn)?;
    commit(conn)
}
