//! Every way to wait, on every way to run a query.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, RowLock, Wait};
use serial_test::parallel;

use super::locks::{Account, contend};
use crate::support::schema::{accounts, jobs};
use crate::support::{connect, database};

pub(super) const SHORT: Duration = Duration::from_millis(20);

fn grace() -> Account {
    Account {
        id: 2,
        owner: "Grace".to_owned(),
        balance: 100,
    }
}

#[test]
#[parallel]
fn every_way_to_run_a_query_has_every_ending() {
    let database = database();
    let mut here = connect(&database);
    here.begin_test_transaction().unwrap();
    here.execute_for_update(accounts::table.find(1)).unwrap();
    let mut there = connect(&database);
    there.begin_test_transaction().unwrap();
    there.batch_execute("SET lock_timeout = '25ms'").unwrap();

    macro_rules! every_ending {
        ($result:ty, $query:expr, $granted:expr,
         $block:ident $nowait:ident $timeout:ident $wait:ident $attempt:ident) => {
            // One row is locked, and the other is free.
            let (locked, free) = (|| $query(1), || $query(2));
            let granted: [$result; 5] = [
                there.$block(free()).unwrap(),
                there.$nowait(free()).unwrap(),
                there.$timeout(free(), SHORT).unwrap(),
                there.$wait(free(), Wait::Block).unwrap(),
                there.$attempt(free()).unwrap().unwrap(),
            ];
            assert!(granted.iter().all(|granted| *granted == $granted));

            let mut refused =
                |attempt: &dyn Fn(&mut PgConnection) -> Result<$result, LockError>| {
                    there.transaction(|there| attempt(there)).unwrap_err()
                };
            for error in [
                refused(&|there| there.$nowait(locked())),
                refused(&|there| there.$wait(locked(), Wait::NoWait)),
            ] {
                let says = error.to_string();
                assert_eq!(says, r#"a row of "accounts" is locked by another session"#);
            }
            for error in [
                refused(&|there| there.$timeout(locked(), SHORT)),
                refused(&|there| there.$wait(locked(), Wait::Timeout(SHORT))),
            ] {
                let says = error.to_string();
                assert_eq!(says, r#"a row of "accounts" was not granted within 20ms"#);
            }
            for error in [
                refused(&|there| there.$block(locked())),
                refused(&|there| there.$wait(locked(), Wait::Block)),
            ] {
                assert!(
                    matches!(error, LockError::Timeout { after: None, .. }),
                    "{error}"
                );
            }
            let none: Option<$result> = there.$attempt(locked()).unwrap();
            assert!(none.is_none());
        };
    }
    let find = |id| accounts::table.find(id);
    every_ending!(Vec<Account>, find, [grace()],
        select_for_update select_for_update_nowait select_for_update_timeout
        select_for_update_wait try_select_for_update);
    every_ending!(Account, find, grace(),
        get_for_update get_for_update_nowait get_for_update_timeout
        get_for_update_wait try_get_for_update);
    every_ending!(usize, find, 1,
        execute_for_update execute_for_update_nowait execute_for_update_timeout
        execute_for_update_wait try_execute_for_update);
    let shared = |id| find(id).lock_rows(RowLock::for_share());
    every_ending!(Vec<Account>, shared, [grace()],
        select_locked select_locked_nowait select_locked_timeout
        select_locked_wait try_select_locked);
    every_ending!(Account, shared, grace(),
        get_locked get_locked_nowait get_locked_timeout get_locked_wait try_get_locked);
    every_ending!(usize, shared, 1,
        execute_locked execute_locked_nowait execute_locked_timeout
        execute_locked_wait try_execute_locked);
    // A boxed query has no place for the clause.
    let boxed = |id| {
        accounts::table
            .filter(accounts::id.eq(id))
            .into_boxed::<Pg>()
    };
    every_ending!(Account, boxed, grace(),
        get_for_update get_for_update_nowait get_for_update_timeout
        get_for_update_wait try_get_for_update);
    let shared = |id| boxed(id).lock_rows(RowLock::for_key_share());
    every_ending!(usize, shared, 1,
        execute_locked execute_locked_nowait execute_locked_timeout
        execute_locked_wait try_execute_locked);
}

#[test]
#[parallel]
fn skip_locked_leaves_out_what_is_locked_in_every_way_to_run_a_query() {
    let database = database();
    let mut here = connect(&database);
    here.begin_test_transaction().unwrap();
    here.execute_for_update(accounts::table.find(1)).unwrap();
    let mut there = connect(&database);
    there.begin_test_transaction().unwrap();
    let all = accounts::table;
    assert_eq!(
        there
            .select_for_update_skip_locked::<Account, _>(all)
            .unwrap(),
        [grace()]
    );
    assert_eq!(
        there.get_for_update_skip_locked::<Account, _>(all).unwrap(),
        grace()
    );
    assert_eq!(there.execute_for_update_skip_locked(all).unwrap(), 1);
}

#[test]
#[parallel]
fn one_row_is_wanted_and_none_is_not_found() {
    let database = database();
    let mut here = connect(&database);
    let mut there = connect(&database);
    here.begin_test_transaction().unwrap();
    there.begin_test_transaction().unwrap();
    here.execute_for_update(accounts::table.find(1)).unwrap();
    let none = || accounts::table.find(3);
    let shared = || none().lock_rows(RowLock::for_share());
    let taken = accounts::table.filter(accounts::id.eq(1));
    for not_found in [
        there.get_for_update::<Account, _>(none()),
        there.get_for_update_nowait(none()),
        there.get_for_update_timeout(none(), SHORT),
        there.get_for_update_skip_locked(taken),
        there.get_locked(shared()),
        // `None` is for a row that is locked by another.
        there.try_get_for_update(none()).map(Option::unwrap),
        there.try_get_locked(shared()).map(Option::unwrap),
    ] {
        let error = not_found.unwrap_err();
        let LockError::Database(diesel::result::Error::NotFound) = error else {
            panic!("{error:?}");
        };
    }
    // None of it is an error of the server, so the transaction goes on.
    assert_eq!(there.try_get_for_update::<Account, _>(taken).unwrap(), None);
    let first: i32 = there
        .get_locked(
            accounts::table
                .select(accounts::id)
                .order(accounts::id)
                .lock_rows(RowLock::for_update().skip_locked()),
        )
        .unwrap();
    assert_eq!(first, 2);
}

#[test]
#[parallel]
fn rows_that_are_only_counted_are_locked_all_the_same() {
    let database = database();
    let outcome = contend(&database, |conn| {
        let count = conn.execute_for_update_nowait(accounts::table.order(accounts::id))?;
        assert_eq!(count, 2);
        Ok(())
    });
    assert_eq!(outcome.granted(), 1);
    let outcome = contend(&database, |conn| {
        // A join gives each of its columns, two of which have one name.
        let pairs = accounts::table.inner_join(jobs::table);
        conn.execute_for_update_nowait(pairs)?;
        let limited = accounts::table.limit(1).lock_rows(RowLock::for_share());
        assert_eq!(conn.execute_locked_nowait(limited)?, 1);
        Ok(())
    });
    assert_eq!(outcome.granted(), 2);
}

#[test]
#[parallel]
fn outside_a_transaction_no_method_sends_anything() {
    let database = database();
    let mut conn = connect(&database);
    let all = || accounts::table;
    let locked = || accounts::table.lock_rows(RowLock::for_share());
    for refused in [
        conn.select_for_update::<Account, _>(all()).map(drop),
        conn.get_for_update_timeout::<Account, _>(all(), SHORT)
            .map(drop),
        conn.try_select_for_update::<Account, _>(all()).map(drop),
        conn.execute_for_update_nowait(all()).map(drop),
        conn.select_for_update_skip_locked::<Account, _>(all())
            .map(drop),
        conn.select_locked::<Account, _>(locked()).map(drop),
        conn.get_locked_wait::<Account, _>(locked(), Wait::NoWait)
            .map(drop),
        conn.try_execute_locked(locked()).map(drop),
        conn.with_lock_timeout(SHORT, |_| panic!("it was run")),
    ] {
        assert!(matches!(refused, Err(LockError::NotInTransaction)));
    }
}
