//! Table locks.

use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget, TableLockMode, Wait};
use diesel_locks_harness::Contention;
use serial_test::parallel;

use crate::support::schema::{accounts, jobs};
use crate::support::{backend_pid, connect, database, eventually, two_sessions, waits_for_a_table};

const SHORT: Duration = Duration::from_millis(20);
const LONG: Duration = Duration::from_secs(60);

#[test]
#[parallel]
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
    let (_database, mut here, mut there) = two_sessions(database());
    for (wanted, row) in TableLockMode::ALL.into_iter().zip(CONFLICTS) {
        for (held, conflicts) in TableLockMode::ALL.into_iter().zip(row) {
            here.transaction::<_, LockError, _>(|here| {
                here.lock_table(accounts::table, held)?;
                let attempt = there.transaction(|there| {
                    let granted = there.try_lock_table(accounts::table, wanted)?;
                    // The transaction is usable either way.
                    there.lock_table(jobs::table, TableLockMode::AccessExclusive)?;
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
#[parallel]
fn every_way_to_wait_is_told_apart() {
    let database = database();
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    let mode = TableLockMode::ShareRowExclusive;
    let outcome = contention
        .run(|conn| conn.lock_table(accounts::table, mode))
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");
    let outcome = contention
        .run(|conn| conn.lock_table_nowait(accounts::table, mode))
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
        .run(|conn| conn.lock_table(accounts::table, TableLockMode::Share))
        .unwrap();
    assert_eq!(outcome.to_string(), "2 granted");
}

#[test]
#[parallel]
fn several_tables_are_locked_in_the_order_of_their_names() {
    let database = database();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run_scoped(|conn, hold| {
            conn.transaction(|conn| {
                if conn.try_lock_table(accounts::table, TableLockMode::Exclusive)? {
                    hold.until_settled();
                    // The other one waits for `accounts`, and has not asked for `jobs` yet.
                    return conn.lock_table_nowait(jobs::table, TableLockMode::AccessExclusive);
                }
                conn.lock_table_wait(
                    (jobs::table, accounts::table),
                    TableLockMode::Exclusive,
                    Wait::Block,
                )
            })
        })
        .unwrap();
    assert_eq!(outcome.to_string(), "1 granted, 1 waited");
    assert!(outcome.into_errors().is_empty());

    let (mut here, mut there) = (connect(&database), connect(&database));
    here.transaction::<_, LockError, _>(|here| {
        here.lock_table(accounts::table, TableLockMode::Exclusive)?;
        let refused = there.transaction::<(), LockError, _>(|there| {
            let mode = TableLockMode::Exclusive;
            there.lock_table_wait((jobs::table, accounts::table), mode, Wait::NoWait)
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
#[parallel]
fn a_timeout_names_the_tables_and_leaves_both_limits_as_they_were() {
    let (_database, mut here, mut there) = two_sessions(database());
    here.begin_test_transaction().unwrap();
    here.lock_table(accounts::table, TableLockMode::Share)
        .unwrap();
    there
        .batch_execute("SET lock_timeout = '1min'; SET statement_timeout = '2min'")
        .unwrap();
    there
        .transaction::<_, LockError, _>(|conn| {
            let mode = TableLockMode::Exclusive;
            let late = conn
                .transaction(|conn| conn.lock_table_timeout(accounts::table, mode, SHORT))
                .unwrap_err();
            assert_eq!(late.to_string(), "\"accounts\" was not granted within 20ms");
            let relation = "accounts".to_owned();
            assert!(matches!(
                late,
                LockError::Timeout { target: Some(target), .. }
                    if target == LockTarget::Relation { relation }
            ));
            assert_eq!(limits(conn), ["1min", "2min"]);

            conn.lock_table_timeout(jobs::table, mode, LONG)?;
            assert_eq!(limits(conn), ["1min", "2min"]);

            let both = (jobs::table, accounts::table);
            let late = conn
                .transaction(|conn| conn.lock_table_timeout(both, mode, SHORT))
                .unwrap_err();
            assert_eq!(
                late.to_string(),
                "one of \"accounts\", \"jobs\" was not granted within 20ms"
            );
            assert_eq!(limits(conn), ["1min", "2min"]);

            conn.batch_execute("SET LOCAL lock_timeout = '10ms'")?;
            let late = conn
                .transaction(|conn| conn.lock_table(accounts::table, mode))
                .unwrap_err();
            assert_eq!(
                late.to_string(),
                "\"accounts\" was not granted within lock_timeout"
            );
            Ok(())
        })
        .unwrap();
}

#[test]
#[parallel]
fn a_timeout_counts_for_all_tables_together() {
    const TIMEOUT: Duration = Duration::from_secs(3);
    let database = database();
    let [mut first, mut second, mut waiter] = [(); 3].map(|()| connect(&database));
    for (holder, table) in [(&mut first, "accounts"), (&mut second, "jobs")] {
        holder
            .batch_execute(&format!("BEGIN; LOCK TABLE {table}"))
            .unwrap();
    }
    let pid = backend_pid(&mut waiter);
    thread::scope(|scope| {
        let begun = Instant::now();
        let waiting = scope.spawn(move || {
            let both = (accounts::table, jobs::table);
            let late = waiter.transaction(|conn| {
                conn.lock_table_timeout(both, TableLockMode::Exclusive, TIMEOUT)
            });
            (late, begun.elapsed())
        });
        let is_late = || begun.elapsed() >= TIMEOUT * 3 / 4;
        eventually(|| waits_for_a_table(&database, pid) && is_late());
        first.batch_execute("ROLLBACK").unwrap();
        let (late, elapsed) = waiting.join().unwrap();
        assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
        // For each table of its own it would be 7/4.
        let bounds = TIMEOUT..TIMEOUT * 13 / 8;
        assert!(bounds.contains(&elapsed), "{elapsed:?}");
    });
}

#[test]
#[parallel]
fn a_shorter_statement_timeout_of_the_callers_own_stays_what_it_is() {
    let (_database, mut here, mut there) = two_sessions(database());
    here.batch_execute("BEGIN; LOCK TABLE jobs").unwrap();
    there
        .transaction::<_, LockError, _>(|conn| {
            conn.batch_execute("SET LOCAL lock_timeout = '1min'; SET statement_timeout = '1s'")?;
            let refused = conn.transaction(|conn| {
                let both = (accounts::table, jobs::table);
                conn.lock_table_timeout(both, TableLockMode::Share, LONG)
            });
            assert!(
                matches!(refused, Err(LockError::StatementTimeout { .. })),
                "{refused:?}"
            );
            assert_eq!(limits(conn), ["1min", "1s"]);
            conn.lock_table_timeout(accounts::table, TableLockMode::Share, LONG)?;
            assert_eq!(limits(conn), ["1min", "1s"]);
            Ok(())
        })
        .unwrap();
    // And so is what was set for the session meanwhile.
    assert_eq!(limits(&mut there), ["0", "1s"]);
}

#[test]
#[parallel]
fn a_try_for_several_tables_that_is_refused_keeps_none_of_them() {
    let (_database, mut here, mut there) = two_sessions(database());
    here.batch_execute("BEGIN; LOCK TABLE jobs").unwrap();
    there
        .transaction::<_, LockError, _>(|there| {
            let mode = TableLockMode::AccessExclusive;
            let both = (accounts::table, jobs::table);
            assert!(!there.try_lock_table(both, mode)?);
            here.batch_execute("LOCK TABLE accounts NOWAIT; ROLLBACK")?;
            assert!(there.try_lock_table(both, mode)?);
            here.batch_execute("LOCK TABLE accounts NOWAIT")
                .unwrap_err();
            Ok(())
        })
        .unwrap();
}

#[test]
#[parallel]
fn tables_of_a_schema_and_views_are_locked_like_any_other() {
    diesel::table! {
        bank.ledgers (id) {
            id -> Int4,
        }
    }
    diesel::table! {
        the_rich (id) {
            id -> Int4,
        }
    }
    let (_database, mut here, mut there) = two_sessions(database());
    here.batch_execute(
        "CREATE SCHEMA bank; CREATE TABLE bank.ledgers (id int PRIMARY KEY); \
         CREATE VIEW the_rich AS SELECT id FROM accounts WHERE balance > 1000000",
    )
    .unwrap();
    let mode = TableLockMode::Exclusive;
    here.transaction::<_, LockError, _>(|here| {
        here.lock_table((the_rich::table, ledgers::table), mode)?;
        for wait in [Wait::NoWait, Wait::Timeout(SHORT)] {
            let refused = there
                .transaction(|there| there.lock_table_wait(ledgers::table, mode, wait))
                .unwrap_err();
            let text = refused.to_string();
            assert!(text.starts_with("\"bank.ledgers\" "), "{text}");
        }
        let granted = there.transaction(|there| there.try_lock_table(accounts::table, mode));
        assert!(!granted?);
        Ok(())
    })
    .unwrap();
}

/// `lock_timeout` and `statement_timeout`, in the words of whoever set them.
fn limits(conn: &mut PgConnection) -> [String; 2] {
    ["lock_timeout", "statement_timeout"].map(|name| {
        diesel::select(
            sql::<Text>("pg_catalog.current_setting(")
                .bind::<Text, _>(name)
                .sql(")"),
        )
        .get_result(conn)
        .unwrap()
    })
}

#[test]
#[parallel]
fn outside_a_transaction_nothing_is_sent() {
    let database = database();
    let mut conn = connect(&database);
    let mode = TableLockMode::AccessExclusive;
    for refused in [
        conn.lock_table(accounts::table, mode),
        conn.lock_table_nowait(accounts::table, mode),
        conn.lock_table_timeout(accounts::table, mode, SHORT),
        conn.try_lock_table(accounts::table, mode).map(drop),
        conn.lock_table_wait((accounts::table, jobs::table), mode, Wait::Block),
    ] {
        assert!(matches!(refused, Err(LockError::NotInTransaction)));
    }
}
