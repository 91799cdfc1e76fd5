//! Row locks.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget, RowLock, Wait};
use diesel_locks_harness::{Contention, Outcome, TestDatabase};
use serial_test::parallel;

use crate::support::schema::{accounts, jobs};
use crate::support::{connect, database};

#[derive(Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = accounts, check_for_backend(Pg))]
pub(super) struct Account {
    pub(super) id: i32,
    owner: String,
    balance: i64,
}

pub(super) const SHORT: Duration = Duration::from_millis(20);

type Attempt = fn(&mut PgConnection) -> Result<(), LockError>;

fn contend(database: &TestDatabase, attempt: Attempt) -> Outcome<LockError> {
    Contention::new(|| PgConnection::establish(database.url()))
        .run(attempt)
        .unwrap()
}

#[test]
#[parallel]
fn one_of_two_transactions_is_refused_whatever_the_query() {
    let database = database();
    connect(&database)
        .batch_execute("INSERT INTO jobs (account_id, payload) VALUES (1, 'pay'), (2, 'bill')")
        .unwrap();
    let attempts: [(&str, Attempt, &str); 5] = [
        (
            "a table",
            |conn| conn.execute_for_update_nowait(accounts::table).map(drop),
            "accounts",
        ),
        (
            "a filtered query",
            |conn| {
                let query = accounts::table
                    .filter(accounts::balance.gt(0))
                    .order(accounts::id)
                    .limit(1)
                    .select(Account::as_select());
                let rows: Vec<Account> = conn.select_for_update_nowait(query)?;
                assert_eq!(rows.len(), 1);
                Ok(())
            },
            "accounts",
        ),
        (
            "a row by its key",
            |conn| {
                let account: Account = conn.get_for_update_nowait(accounts::table.find(1))?;
                assert_eq!(account.id, 1);
                Ok(())
            },
            "accounts",
        ),
        (
            "a join",
            |conn| {
                let query = jobs::table
                    .inner_join(accounts::table)
                    .filter(accounts::owner.eq("Ada"))
                    .select((jobs::payload, accounts::balance));
                let rows = conn.select_for_update_nowait::<(String, i64), _>(query)?;
                assert_eq!(rows, [("pay".to_owned(), 100)]);
                Ok(())
            },
            "jobs",
        ),
        (
            "a boxed query",
            |conn| {
                let query = accounts::table
                    .filter(accounts::id.eq(2))
                    .into_boxed::<Pg>();
                conn.select_for_update_nowait::<Account, _>(query).map(drop)
            },
            "accounts",
        ),
    ];
    for (query, attempt, table) in attempts {
        let outcome = contend(&database, attempt);
        assert_eq!(outcome.granted(), 1, "{query}: {outcome}");
        let [
            LockError::NotAvailable {
                target: LockTarget::Row { relation },
                source,
                ..
            },
        ] = outcome.errors()
        else {
            panic!("{query}: {outcome:?}");
        };
        assert_eq!(relation, table, "{query}");
        assert!(source.is_some(), "{query}");
    }
}

#[test]
#[parallel]
fn different_rows_are_granted_to_both() {
    let database = database();
    let mut here = connect(&database);
    let mut there = connect(&database);
    here.transaction::<_, LockError, _>(|here| {
        let first: Account = here.get_for_update_nowait(accounts::table.find(1))?;
        assert_eq!(first.owner, "Ada");
        there.transaction::<_, LockError, _>(|there| {
            let second: Account = there.get_for_update_nowait(accounts::table.find(2))?;
            assert_eq!(second.owner, "Grace");
            let none: Vec<Account> = there.select_for_update_nowait(accounts::table.find(3))?;
            assert_eq!(none, []);
            Ok(())
        })
    })
    .unwrap();
}

#[test]
#[parallel]
fn outside_a_transaction_nothing_is_sent() {
    let database = database();
    let mut conn = connect(&database);
    // The query would fail if it were sent.
    let query = diesel::dsl::sql::<diesel::sql_types::Integer>("SELECT 1 / 0");
    let error = conn.select_for_update_nowait::<i32, _>(query).unwrap_err();
    assert!(matches!(error, LockError::NotInTransaction));
    assert!(!error.is_contention() && !error.is_retryable());

    conn.begin_test_transaction().unwrap();
    let rows: Vec<Account> = conn.select_for_update_nowait(accounts::table).unwrap();
    assert_eq!(rows.len(), 2);
}

#[test]
#[parallel]
fn a_refusal_in_a_savepoint_leaves_the_outer_transaction_usable() {
    let database = database();
    let mut here = connect(&database);
    let mut there = connect(&database);
    here.transaction::<_, LockError, _>(|here| {
        here.execute_for_update_nowait(accounts::table.find(1))?;
        there.transaction::<_, LockError, _>(|there| {
            let refused = there.transaction::<_, LockError, _>(|there| {
                there.execute_for_update_nowait(accounts::table.find(1))
            });
            assert!(refused.unwrap_err().is_contention());
            there.execute_for_update_nowait(accounts::table.find(2))?;
            Ok(())
        })
    })
    .unwrap();
}

#[test]
#[parallel]
fn a_refusal_aborts_the_transaction_as_postgresql_does() {
    let database = database();
    let mut here = connect(&database);
    let mut there = connect(&database);
    here.transaction::<_, LockError, _>(|here| {
        here.execute_for_update_nowait(accounts::table.find(1))?;
        let error = there
            .transaction::<(), LockError, _>(|there| {
                there
                    .execute_for_update_nowait(accounts::table.find(1))
                    .unwrap_err();
                there.get_for_update_nowait::<Account, _>(accounts::table.find(2))?;
                Ok(())
            })
            .unwrap_err();
        assert!(matches!(error, LockError::TransactionAborted { .. }));
        Ok(())
    })
    .unwrap();
}

#[test]
#[parallel]
fn what_postgresql_refuses_to_lock_is_a_database_error() {
    let database = database();
    let mut conn = connect(&database);
    let mut refused = |attempt: fn(&mut PgConnection) -> Result<(), LockError>| {
        let error = conn.transaction(attempt).unwrap_err();
        assert!(matches!(error, LockError::Database(_)), "{error:?}");
    };
    refused(|conn| {
        // Boxed, so that its type does not tell.
        let query = accounts::table.select(accounts::owner).distinct();
        let query = query.into_boxed::<Pg>();
        conn.select_for_update_nowait::<String, _>(query).map(drop)
    });
    refused(|conn| {
        let query = accounts::table.left_join(jobs::table).select(accounts::id);
        conn.select_for_update_nowait::<i32, _>(query).map(drop)
    });
    refused(|conn| {
        let query = accounts::table.count();
        conn.select_for_update_nowait::<i64, _>(query).map(drop)
    });
}

#[test]
#[parallel]
fn pooled_connections_and_guards_take_row_locks() {
    let database = database();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(1).build(manager).unwrap();
    let mut conn = pool.get().unwrap();
    conn.transaction::<_, LockError, _>(|conn| {
        let mut guard = conn.advisory_lock("accounts")?;
        let rows: Vec<Account> = guard.select_for_update_nowait(accounts::table)?;
        assert_eq!(rows.len(), 2);
        guard.release()
    })
    .unwrap();
}

#[test]
#[parallel]
fn a_transaction_that_waits_is_granted_when_the_other_ends() {
    let outcome = contend(&database(), |conn| {
        conn.execute_for_update(accounts::table.find(1)).map(drop)
    });
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");
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
    let grace = || Account {
        id: 2,
        owner: "Grace".to_owned(),
        balance: 100,
    };
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
