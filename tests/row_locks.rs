//! Row locks.

mod support;

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget, RowLock};
use diesel_locks_harness::{Contention, Outcome, TestDatabase};
use support::schema::{accounts, jobs};
use support::{connect, database, lock_timeout};

#[derive(Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = accounts, check_for_backend(Pg))]
struct Account {
    id: i32,
    owner: String,
    balance: i64,
}

type Attempt = fn(&mut PgConnection) -> Result<(), LockError>;

fn contend(database: &TestDatabase, attempt: Attempt) -> Outcome<LockError> {
    Contention::new(|| PgConnection::establish(database.url()))
        .run(attempt)
        .unwrap()
}

#[test]
fn one_of_two_transactions_is_refused_whatever_the_query() {
    let database = database();
    connect(&database)
        .batch_execute("INSERT INTO jobs (account_id, payload) VALUES (1, 'pay'), (2, 'bill')")
        .unwrap();
    let attempts: [(&str, Attempt, &str); 5] = [
        (
            "a table",
            |conn| {
                conn.select_for_update_nowait::<Account, _>(accounts::table)
                    .map(drop)
            },
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
                conn.select_for_update_nowait::<Account, _>(accounts::table.find(1))
                    .map(drop)
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
fn different_rows_are_granted_to_both() {
    let database = database();
    let mut here = connect(&database);
    let mut there = connect(&database);
    here.transaction::<_, LockError, _>(|here| {
        let first: Vec<Account> = here.select_for_update_nowait(accounts::table.find(1))?;
        assert_eq!(first[0].owner, "Ada");
        there.transaction::<_, LockError, _>(|there| {
            let second: Vec<Account> = there.select_for_update_nowait(accounts::table.find(2))?;
            assert_eq!(second[0].owner, "Grace");
            let none: Vec<Account> = there.select_for_update_nowait(accounts::table.find(3))?;
            assert_eq!(none, []);
            Ok(())
        })
    })
    .unwrap();
}

#[test]
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
fn a_refusal_in_a_savepoint_leaves_the_outer_transaction_usable() {
    let database = database();
    let mut here = connect(&database);
    let mut there = connect(&database);
    here.transaction::<_, LockError, _>(|here| {
        here.select_for_update_nowait::<Account, _>(accounts::table.find(1))?;
        there.transaction::<_, LockError, _>(|there| {
            let refused = there.transaction::<_, LockError, _>(|there| {
                there.select_for_update_nowait::<Account, _>(accounts::table.find(1))
            });
            assert!(refused.unwrap_err().is_contention());
            there.select_for_update_nowait::<Account, _>(accounts::table.find(2))?;
            Ok(())
        })
    })
    .unwrap();
}

#[test]
fn a_refusal_aborts_the_transaction_as_postgresql_does() {
    let database = database();
    let mut here = connect(&database);
    let mut there = connect(&database);
    here.transaction::<_, LockError, _>(|here| {
        here.select_for_update_nowait::<Account, _>(accounts::table.find(1))?;
        let error = there
            .transaction::<(), LockError, _>(|there| {
                let query = accounts::table.find(1);
                there
                    .select_for_update_nowait::<Account, _>(query)
                    .unwrap_err();
                there
                    .select_for_update_nowait::<Account, _>(accounts::table.find(2))
                    .map(drop)
            })
            .unwrap_err();
        assert!(matches!(error, LockError::TransactionAborted { .. }));
        Ok(())
    })
    .unwrap();
}

#[test]
fn what_postgresql_refuses_to_lock_is_a_database_error() {
    let database = database();
    let mut conn = connect(&database);
    let mut refused = |attempt: fn(&mut PgConnection) -> Result<(), LockError>| {
        let error = conn.transaction(attempt).unwrap_err();
        assert!(matches!(error, LockError::Database(_)), "{error:?}");
    };
    refused(|conn| {
        let query = accounts::table.select(accounts::owner).distinct();
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
fn every_way_to_wait_is_told_apart() {
    let database = database();
    let account = || accounts::table.find(1);
    let outcome = contend(&database, |conn| {
        conn.select_for_update::<Account, _>(accounts::table.find(1))
            .map(drop)
    });
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");

    let mut here = connect(&database);
    let mut there = connect(&database);
    there.batch_execute("SET lock_timeout = '90s'").unwrap();
    here.transaction::<_, LockError, _>(|here| {
        here.select_for_update::<Account, _>(account())?;
        there.transaction::<_, LockError, _>(|there| {
            // Refused, and the transaction goes on.
            assert_eq!(there.try_select_for_update::<Account, _>(account())?, None);
            let both = accounts::table.into_boxed::<Pg>();
            assert_eq!(there.try_select_for_update::<Account, _>(both)?, None);
            let second = there.try_select_for_update::<Account, _>(accounts::table.find(2))?;
            assert_eq!(second.unwrap()[0].owner, "Grace");
            // Left out.
            let left: Vec<Account> = there.select_for_update_skip_locked(accounts::table)?;
            assert_eq!(left.len(), 1);
            // Too late, and the timeout is as it was.
            let short = Duration::from_millis(20);
            let late = there.transaction(|there| {
                there.select_for_update_timeout::<Account, _>(account(), short)
            });
            assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
            there.select_for_update_timeout::<Account, _>(accounts::table.find(2), short)?;
            assert_eq!(lock_timeout(there), "90s");
            Ok(())
        })
    })
    .unwrap();
}

#[test]
fn outside_a_transaction_no_method_sends_anything() {
    let database = database();
    let mut conn = connect(&database);
    let all = || accounts::table;
    let locked = accounts::table.lock_rows(RowLock::for_share());
    for refused in [
        conn.select_for_update::<Account, _>(all()).map(drop),
        conn.select_for_update_timeout::<Account, _>(all(), Duration::ZERO)
            .map(drop),
        conn.try_select_for_update::<Account, _>(all()).map(drop),
        conn.select_for_update_skip_locked::<Account, _>(all())
            .map(drop),
        conn.select_locked::<Account, _>(locked).map(drop),
    ] {
        assert!(matches!(refused, Err(LockError::NotInTransaction)));
    }
}
