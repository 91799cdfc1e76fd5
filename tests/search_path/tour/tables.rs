use diesel::connection::SimpleConnection;
use diesel::dsl::Select;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel_locks::prelude::*;
use diesel_locks::{LockError, Retry, RowLock, TableLockMode, Wait, use_english_messages};

use super::{LONG, SHORT, Tour, fails};
use crate::support::schema::{accounts, jobs};

type Attempt = fn(&mut PgConnection) -> Result<(), LockError>;

/// Without an operator of Diesel's.
fn ids() -> Select<accounts::table, accounts::id> {
    accounts::table.select(accounts::id)
}

const MODE: TableLockMode = TableLockMode::AccessExclusive;

pub(super) fn go(tour: &Tour) {
    let conn = &mut tour.connect();
    for granted in [rows, tables] {
        conn.transaction(granted).unwrap();
    }
    refused(tour);
    sessions(tour);
}

fn rows(conn: &mut PgConnection) -> Result<(), LockError> {
    assert_eq!(conn.select_for_update::<i32, _>(ids())?.len(), 2);
    conn.select_for_update_nowait::<i32, _>(ids())?;
    conn.select_for_update_timeout::<i32, _>(ids(), LONG)?;
    conn.select_for_update_skip_locked::<i32, _>(ids())?;
    assert!(conn.try_select_for_update::<i32, _>(ids())?.is_some());
    conn.select_locked::<i32, _>(ids().lock_rows(RowLock::for_no_key_update()))?;
    conn.select_locked::<i32, _>(ids().lock_rows(RowLock::for_share().nowait()))?;
    let of = RowLock::for_key_share().of(accounts::table).skip_locked();
    conn.select_locked::<i32, _>(ids().lock_rows(of))?;
    let one = || ids().filter(accounts::id.is_not_null()).limit(1);
    for wait in [Wait::Block, Wait::NoWait, Wait::Timeout(LONG)] {
        let shared = || one().lock_rows(RowLock::for_share());
        conn.select_for_update_wait::<i32, _>(ids(), wait)?;
        conn.get_for_update_wait::<i32, _>(one(), wait)?;
        conn.execute_for_update_wait(ids(), wait)?;
        conn.select_locked_wait::<i32, _>(shared(), wait)?;
        conn.get_locked_wait::<i32, _>(shared(), wait)?;
        conn.execute_locked_wait(shared(), wait)?;
    }
    conn.get_for_update_skip_locked::<i32, _>(one())?;
    conn.execute_for_update_skip_locked(ids())?;
    conn.with_lock_timeout(LONG, |conn| conn.execute_for_update_nowait(ids()).map(drop))?;
    Ok(())
}

fn tables(conn: &mut PgConnection) -> Result<(), LockError> {
    let mode = TableLockMode::AccessShare;
    conn.lock_table(accounts::table, mode)?;
    conn.lock_table_nowait(accounts::table, mode)?;
    conn.lock_table_timeout(accounts::table, mode, LONG)?;
    assert!(conn.try_lock_table(accounts::table, mode)?);
    for wait in [Wait::Block, Wait::NoWait, Wait::Timeout(LONG)] {
        conn.lock_table_wait((jobs::table, accounts::table), mode, wait)?;
    }
    Ok(())
}

fn refused(tour: &Tour) {
    let there = &mut tour.connect();
    let conn = &mut tour.connect();
    there
        .batch_execute(
            "BEGIN; LOCK TABLE accounts IN ROW EXCLUSIVE MODE; SELECT FROM accounts FOR UPDATE",
        )
        .unwrap();
    let nowait: [Attempt; 3] = [
        |conn| conn.select_for_update_nowait::<i32, _>(ids()).map(drop),
        |conn| conn.lock_table_nowait(accounts::table, MODE),
        |conn| conn.lock_table_wait((accounts::table, jobs::table), MODE, Wait::NoWait),
    ];
    for refused in nowait {
        fails!(conn.transaction(refused), NotAvailable);
    }
    let timeout: [Attempt; 3] = [
        |conn| {
            conn.select_for_update_timeout::<i32, _>(ids(), SHORT)
                .map(drop)
        },
        |conn| conn.lock_table_timeout(accounts::table, MODE, SHORT),
        |conn| conn.lock_table_wait((accounts::table, jobs::table), MODE, Wait::Timeout(SHORT)),
    ];
    for refused in timeout {
        fails!(conn.transaction(refused), Timeout);
    }
    conn.transaction::<_, LockError, _>(|conn| {
        assert!(
            conn.select_for_update_skip_locked::<i32, _>(ids())?
                .is_empty()
        );
        assert!(conn.try_select_for_update::<i32, _>(ids())?.is_none());
        assert!(!conn.try_lock_table(accounts::table, MODE)?);
        Ok(())
    })
    .unwrap();
}

/// What is no lock.
fn sessions(tour: &Tour) {
    let conn = &mut tour.connect();
    let failure = || {
        let kind = DatabaseErrorKind::SerializationFailure;
        LockError::from(Error::DatabaseError(kind, Box::new("again".to_owned())))
    };
    let mut attempts = 0;
    let retry = Retry::new().attempts(2);
    conn.retrying(retry)
        .transaction(|conn| {
            conn.advisory_xact_lock("x")?;
            attempts += 1;
            match attempts {
                1 => Err(failure()),
                _ => Ok(()),
            }
        })
        .unwrap();
    conn.retrying(retry)
        .run(|conn| conn.transaction(|_| Err::<(), _>(failure())))
        .unwrap_err();

    assert!(use_english_messages(conn).unwrap());
    conn.transaction(|conn| use_english_messages(conn).map(drop))
        .unwrap();
    conn.batch_execute("SET SESSION AUTHORIZATION nobody_special")
        .unwrap();
    assert!(!use_english_messages(conn).unwrap());
}
