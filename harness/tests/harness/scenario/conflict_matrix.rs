//! Who blocks whom: this crate's locks, against PostgreSQL's documentation.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, RowLock, TableLockMode};
use diesel_locks_harness::{
    ConflictMatrix, ConflictsError, LockAttempt, assert_conflicts, conflict_matrix,
    try_assert_conflicts,
};
use serial_test::parallel;

use super::fixture::connecting;
use crate::support::database;
use crate::support::schema::{accounts, jobs};

pub(super) type Attempt = LockAttempt<PgConnection>;

/// A row lock of this strength, whatever else it says.
macro_rules! row {
    ($name:literal, $lock:expr) => {
        LockAttempt::new($name, |conn: &mut PgConnection| {
            conn.execute_locked(accounts::table.find(1).lock_rows($lock))
                .map(drop)
        })
    };
}

fn table(mode: TableLockMode) -> Attempt {
    LockAttempt::new(mode.to_string(), move |conn: &mut PgConnection| {
        conn.lock_table(accounts::table, mode)
    })
}

pub(super) fn advisory(name: &str, lock: AdvisoryLock) -> Attempt {
    LockAttempt::new(name, move |conn: &mut PgConnection| {
        conn.advisory_xact_lock(lock)
    })
}

pub(super) fn sql(name: &str, statement: &'static str) -> Attempt {
    LockAttempt::new(name, move |conn: &mut PgConnection| {
        conn.batch_execute(statement)
    })
}

#[test]
#[parallel]
fn the_table_locks_conflict_as_in_table_13_2() {
    let database = database();
    assert_conflicts(
        connecting(&database),
        TableLockMode::ALL.map(table),
        r"
        | requested \ held       | ACCESS SHARE | ROW SHARE | ROW EXCLUSIVE | SHARE UPDATE EXCLUSIVE | SHARE | SHARE ROW EXCLUSIVE | EXCLUSIVE | ACCESS EXCLUSIVE |
        |------------------------|--------------|-----------|---------------|------------------------|-------|---------------------|-----------|------------------|
        | ACCESS SHARE           |              |           |               |                        |       |                     |           | X                |
        | ROW SHARE              |              |           |               |                        |       |                     | X         | X                |
        | ROW EXCLUSIVE          |              |           |               |                        | X     | X                   | X         | X                |
        | SHARE UPDATE EXCLUSIVE |              |           |               | X                      | X     | X                   | X         | X                |
        | SHARE                  |              |           | X             | X                      |       | X                   | X         | X                |
        | SHARE ROW EXCLUSIVE    |              |           | X             | X                      | X     | X                   | X         | X                |
        | EXCLUSIVE              |              | X         | X             | X                      | X     | X                   | X         | X                |
        | ACCESS EXCLUSIVE       | X            | X         | X             | X                      | X     | X                   | X         | X                |
        ",
    );
}

#[test]
#[parallel]
fn the_row_locks_conflict_as_in_table_13_3() {
    let database = database();
    let attempts = [
        row!("FOR KEY SHARE", RowLock::for_key_share()),
        row!("FOR SHARE", RowLock::for_share()),
        row!("FOR NO KEY UPDATE", RowLock::for_no_key_update()),
        row!("FOR UPDATE", RowLock::for_update()),
    ];
    assert_conflicts(
        connecting(&database),
        attempts,
        r"
        | requested \ held  | FOR KEY SHARE | FOR SHARE | FOR NO KEY UPDATE | FOR UPDATE |
        |-------------------|---------------|-----------|-------------------|------------|
        | FOR KEY SHARE     |               |           |                   | X          |
        | FOR SHARE         |               |           | X                 | X          |
        | FOR NO KEY UPDATE |               | X         | X                 | X          |
        | FOR UPDATE        | X             | X         | X                 | X          |
        ",
    );
}

#[test]
#[parallel]
fn advisory_locks_conflict_within_their_key_space() {
    let database = database();
    let attempts = [
        advisory("shared 42", AdvisoryLock::shared(42)),
        advisory("42", AdvisoryLock::exclusive(42)),
        advisory("shared (0, 42)", AdvisoryLock::shared((0, 42))),
        advisory("(0, 42)", AdvisoryLock::exclusive((0, 42))),
    ];
    assert_conflicts(
        connecting(&database),
        attempts,
        r"
        | requested \ held | shared 42 | 42 | shared (0, 42) | (0, 42) |
        |------------------|-----------|----|----------------|---------|
        | shared 42        |           | X  |                |         |
        | 42               | X         | X  |                |         |
        | shared (0, 42)   |           |    |                | X       |
        | (0, 42)          |           |    | X              | X       |
        ",
    );
}

#[test]
#[parallel]
fn a_refusal_is_a_conflict_like_a_wait() {
    const SHORT: Duration = Duration::from_millis(20);
    let database = database();
    let mode = TableLockMode::Exclusive;
    let attempts = [
        table(mode),
        LockAttempt::new("nowait", move |conn: &mut PgConnection| {
            conn.lock_table_nowait(accounts::table, mode)
        }),
        LockAttempt::new("timeout", move |conn: &mut PgConnection| {
            conn.lock_table_timeout(accounts::table, mode, SHORT)
        }),
        row!("row", RowLock::for_update().nowait()),
        sql("read", "SELECT * FROM accounts"),
        // Diesel's own error.
        sql("sql", "LOCK TABLE accounts IN EXCLUSIVE MODE NOWAIT"),
    ];
    assert_conflicts(
        connecting(&database),
        attempts,
        r"
        | requested \ held | EXCLUSIVE | nowait | timeout | row | read | sql |
        |------------------|-----------|--------|---------|-----|------|-----|
        | EXCLUSIVE        | X         | X      | X       | X   |      | X   |
        | nowait           | X         | X      | X       | X   |      | X   |
        | timeout          | X         | X      | X       | X   |      | X   |
        | row              | X         | X      | X       | X   |      | X   |
        | read             |           |        |         |     |      |     |
        | sql              | X         | X      | X       | X   |      | X   |
        ",
    );
}

#[test]
#[parallel]
fn a_refusal_is_found_in_an_error_that_wraps_one() {
    #[derive(Debug, thiserror::Error)]
    #[error("the report is busy")]
    struct Busy(#[from] LockError);

    let database = database();
    let attempt = LockAttempt::new("report", |conn: &mut PgConnection| {
        conn.advisory_xact_lock_nowait("report").map_err(Busy)
    });
    let matrix = conflict_matrix(connecting(&database), [attempt]).unwrap();
    assert_eq!(matrix.conflicts("report", "report"), Some(true));
}

#[test]
#[parallel]
fn the_column_holds_and_the_row_requests() {
    let database = database();
    let attempts = [
        row!("skip", RowLock::for_update().skip_locked()),
        row!("wait", RowLock::for_update()),
    ];
    let matrix = conflict_matrix(connecting(&database), attempts).unwrap();
    assert_eq!(matrix.names(), ["skip", "wait"]);
    assert_eq!(matrix.conflicts("skip", "wait"), Some(true));
    assert_eq!(matrix.conflicts("wait", "skip"), Some(false));
    assert_eq!(matrix.conflicts("wait", "FOR UPDATE"), None);
    assert_eq!(
        matrix.to_string(),
        r"
| requested \ held | skip | wait |
|------------------|------|------|
| skip             |      |      |
| wait             | X    | X    |"
            .trim()
    );
}

#[test]
#[parallel]
fn a_table_that_differs_is_shown_beside_the_expected_one() {
    let database = database();
    let attempts = || {
        let mode = TableLockMode::RowShare;
        [table(mode), advisory("7", 7.into())]
    };
    let wrong = r"
        | requested \ held | ROW SHARE | 7 |
        |------------------|-----------|---|
        | ROW SHARE        |           |   |
        | 7                |           |   |
    ";
    let error = try_assert_conflicts(connecting(&database), attempts(), wrong).unwrap_err();
    assert_eq!(
        error.to_string(),
        r"the locks conflict otherwise than expected
expected:
| requested \ held | ROW SHARE | 7 |
|------------------|-----------|---|
| ROW SHARE        |           |   |
| 7                |           |   |
found:
| requested \ held | ROW SHARE | 7 |
|------------------|-----------|---|
| ROW SHARE        |           |   |
| 7                |           | X |"
    );
    let ConflictsError::Differ { found, .. } = error else {
        panic!("{error:?}");
    };
    let again = conflict_matrix(connecting(&database), attempts()).unwrap();
    assert_eq!(found, again);
    let text = found.to_string();
    try_assert_conflicts(connecting(&database), attempts(), &text).unwrap();
    let rows: Vec<_> = text.lines().take(3).collect();
    let short = try_assert_conflicts(connecting(&database), attempts(), &rows.join("\n"));
    assert!(matches!(short, Err(ConflictsError::Differ { .. })));
}

#[test]
#[parallel]
#[should_panic(expected = "the locks conflict otherwise than expected\nexpected:\n\nfound:\n|")]
fn assert_conflicts_panics_with_both_tables() {
    let database = database();
    assert_conflicts(connecting(&database), [advisory("7", 7.into())], "");
}

#[test]
#[parallel]
fn twenty_matrices_are_alike() {
    let database = database();
    let attempts = [
        row!("update", RowLock::for_update()),
        row!("share", RowLock::for_share()),
        row!("nowait", RowLock::for_share().nowait()),
        LockAttempt::new("jobs", |conn: &mut PgConnection| {
            conn.lock_table(jobs::table, TableLockMode::Share)
        }),
    ];
    let matrix = || conflict_matrix(connecting(&database), attempts.clone()).unwrap();
    let first: ConflictMatrix = matrix();
    for _ in 1..20 {
        assert_eq!(matrix(), first);
    }
}
