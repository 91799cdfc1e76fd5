//! Who gets a row lock, who is refused, and what becomes of the transaction.

use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget};
use diesel_locks_harness::{Contention, Outcome, TestDatabase};
use serial_test::parallel;

use crate::support::schema::{accounts, jobs};
use crate::support::{connect, database, pool};

#[derive(Debug, PartialEq, Queryable, Selectable)]
#[diesel(table_name = accounts, check_for_backend(Pg))]
pub(super) struct Account {
    pub(super) id: i32,
    pub(super) owner: String,
    pub(super) balance: i64,
}

pub(super) type Attempt = fn(&mut PgConnection) -> Result<(), LockError>;

pub(super) fn contend(database: &TestDatabase, attempt: Attempt) -> Outcome<LockError> {
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
    let pool = pool(&database, 1);
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
