//! Table locks.

mod support;

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget, TableLock, Wait};
use diesel_locks_harness::Contention;
use support::schema::{accounts, jobs};
use support::{connect, database, lock_timeout};

const SHORT: Duration = Duration::from_millis(20);

#[test]
fn the_sixty_four_pairs_conflict_as_documented() {
    // Section 13.3.1's table 13.2, a row for each mode that is wanted.
    const CONFLICTS: [[u8; 8]; 8] = [
        [0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 1, 1],
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0, 0, 0, 1, 1, 1, 1, 1],
        [0, 0, 1, 1, 0, 1, 1, 1],
        [0, 0, 1, 1, 1, 1, 1, 1],
        [0, 1, 1, 1, 1, 1, 1, 1],
        [1, 1, 1, 1, 1, 1, 1, 1],
    ];
    let database = database();
    let (mut here, mut there) = (connect(&database), connect(&database));
    for (wanted, row) in TableLock::ALL.into_iter().zip(CONFLICTS) {
        for (held, conflicts) in TableLock::ALL.into_iter().zip(row) {
            here.transaction::<_, LockError, _>(|here| {
                here.lock_table::<accounts::table>(held)?;
                let attempt = there.transaction(|there| {
                    let granted = there.try_lock_table::<accounts::table>(wanted)?;
                    // The transaction is usable either way.
                    there.lock_table::<jobs::table>(TableLock::AccessExclusive)?;
                    Ok::<_, LockError>(granted)
                });
                assert_eq!(attempt?, conflicts == 0, "{wanted} against {held}");
                Ok(())
            })
            .unwrap();
        }
    }
}

#[test]
fn every_way_to_wait_is_told_apart() {
    let database = database();
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    let mode = TableLock::ShareRowExclusive;
    let outcome = contention
        .run(|conn| conn.lock_table::<accounts::table>(mode))
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");
    let outcome = contention
        .run(|conn| conn.lock_table_nowait::<accounts::table>(mode))
        .unwrap();
    let [
        LockError::NotAvailable {
            target,
            source: Some(_),
            ..
        },
    ] = outcome.errors()
    else {
        panic!("{outcome:?}");
    };
    let relation = "accounts".to_owned();
    assert_eq!(*target, LockTarget::Relation { relation });
    let outcome = contention
        .run(|conn| conn.lock_table::<accounts::table>(TableLock::Share))
        .unwrap();
    assert_eq!(outcome.to_string(), "2 granted");
}

#[test]
fn a_timeout_is_put_back() {
    let database = database();
    let (mut here, mut there) = (connect(&database), connect(&database));
    here.begin_test_transaction().unwrap();
    here.lock_table::<accounts::table>(TableLock::Share)
        .unwrap();
    there.batch_execute("SET lock_timeout = '1min'").unwrap();
    there
        .transaction::<_, LockError, _>(|conn| {
            let mode = TableLock::Exclusive;
            let late =
                conn.transaction(|conn| conn.lock_table_timeout::<accounts::table>(mode, SHORT));
            assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
            assert_eq!(lock_timeout(conn), "1min");
            conn.lock_table_timeout::<jobs::table>(mode, SHORT)?;
            assert_eq!(lock_timeout(conn), "1min");
            let late = conn.transaction(|conn| {
                conn.lock_tables::<(jobs::table, accounts::table)>(mode, Wait::Timeout(SHORT))
            });
            assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
            Ok(())
        })
        .unwrap();
}

#[test]
fn several_tables_are_locked_in_the_order_of_their_names() {
    let database = database();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run_scoped(|conn, hold| {
            conn.transaction(|conn| {
                if conn.try_lock_table::<accounts::table>(TableLock::Exclusive)? {
                    hold.until_settled();
                    // The other one waits for `accounts`, and has not asked for `jobs` yet.
                    return conn.lock_table_nowait::<jobs::table>(TableLock::AccessExclusive);
                }
                conn.lock_tables::<(jobs::table, accounts::table)>(
                    TableLock::Exclusive,
                    Wait::Block,
                )
            })
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");
    assert!(outcome.into_errors().is_empty());

    let (mut here, mut there) = (connect(&database), connect(&database));
    here.transaction::<_, LockError, _>(|here| {
        here.lock_table::<accounts::table>(TableLock::Exclusive)?;
        let refused = there.transaction::<(), LockError, _>(|there| {
            let mode = TableLock::Exclusive;
            there.lock_tables::<(jobs::table, accounts::table)>(mode, Wait::NoWait)
        });
        // `jobs` was not asked for.
        let Err(LockError::NotAvailable { target, .. }) = refused else {
            panic!("{refused:?}");
        };
        let relation = "accounts".to_owned();
        assert_eq!(target, LockTarget::Relation { relation });
        Ok(())
    })
    .unwrap();
}

#[test]
fn outside_a_transaction_nothing_is_sent() {
    let database = database();
    let mut conn = connect(&database);
    let mode = TableLock::AccessExclusive;
    for refused in [
        conn.lock_table::<accounts::table>(mode),
        conn.lock_table_nowait::<accounts::table>(mode),
        conn.lock_table_timeout::<accounts::table>(mode, SHORT),
        conn.try_lock_table::<accounts::table>(mode).map(drop),
        conn.lock_tables::<(accounts::table, jobs::table)>(mode, Wait::Block),
    ] {
        assert!(matches!(refused, Err(LockError::NotInTransaction)));
    }
}
