//! Ordinary code, and how few orders of it there are to run.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use diesel::prelude::*;
use diesel::result::Error;
use diesel_locks_harness::{Exploration, Explorer, Problem, TestDatabase};
use serial_test::parallel;

use super::fixture::explorer;
use super::same_ends::assert_same_ends;
use crate::support::database;
use crate::support::schema::accounts;

fn increment(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| {
        let account = accounts::table.find(1);
        let balance: i64 = account.select(accounts::balance).first(conn)?;
        diesel::update(account)
            .set(accounts::balance.eq(balance + 1))
            .execute(conn)?;
        Ok(())
    })
}

fn locked_increment(conn: &mut PgConnection) -> QueryResult<()> {
    conn.transaction(|conn| {
        let account = accounts::table.find(1);
        let balance: i64 = account.select(accounts::balance).for_update().first(conn)?;
        diesel::update(account)
            .set(accounts::balance.eq(balance + 1))
            .execute(conn)?;
        Ok(())
    })
}

fn transfer(conn: &mut PgConnection, from: i32, to: i32, amount: i64) -> QueryResult<()> {
    conn.transaction(|conn| {
        let balance: i64 = accounts::table
            .find(from)
            .select(accounts::balance)
            .first(conn)?;
        if balance < amount {
            return Err(Error::RollbackTransaction);
        }
        for (account, change) in [(from, -amount), (to, amount)] {
            diesel::update(accounts::table.find(account))
                .set(accounts::balance.eq(accounts::balance + change))
                .execute(conn)?;
        }
        Ok(())
    })
}

/// In opposite directions.
fn transfers(database: &TestDatabase) -> Explorer<'_, PgConnection> {
    explorer(database)
        .code("ada", |conn| transfer(conn, 1, 2, 30))
        .code("bob", |conn| transfer(conn, 2, 1, 10))
}

fn explored(title: &str, explorer: &Explorer<'_, PgConnection>) -> Exploration {
    let begun = Instant::now();
    let exploration = explorer.explore().unwrap();
    println!(
        "{title}: {} executions in {:?}",
        exploration.schedules(),
        begun.elapsed()
    );
    exploration
}

fn workers<'e>(
    database: &'e TestDatabase,
    number: usize,
    work: fn(&mut PgConnection) -> QueryResult<()>,
) -> Explorer<'e, PgConnection> {
    let names = ["ada", "bob", "eve"];
    (names[..number].iter()).fold(explorer(database), |explorer, name| {
        explorer.code(name, work)
    })
}

#[test]
#[parallel]
fn two_lost_updates_are_four_orders() {
    let database = database();
    let explorer = workers(&database, 2, increment);
    let exploration = explored("2, lost update", &explorer);
    for schedule in exploration.list() {
        println!("{schedule}");
    }
    assert_eq!(exploration.schedules(), 4);
    assert!(exploration.is_complete());
    assert_eq!(
        exploration.outcomes().len(),
        2,
        "{:?}",
        exploration.outcomes()
    );
}

#[test]
#[parallel]
fn a_row_lock_leaves_the_two_serial_orders() {
    let database = database();
    let exploration = explored("2, FOR UPDATE", &workers(&database, 2, locked_increment));
    assert_eq!(exploration.schedules(), 2, "{:#?}", exploration.list());
    assert!(exploration.is_complete());
    let exploration = explored("3, FOR UPDATE", &workers(&database, 3, locked_increment));
    assert_eq!(exploration.schedules(), 6);
}

#[test]
#[parallel]
fn who_waits_for_a_lock_that_has_become_stronger_comes_later() {
    let database = database();
    let shared = |conn: &mut PgConnection| -> QueryResult<i64> {
        let balance = accounts::table.find(1).select(accounts::balance);
        balance.for_share().first(conn)
    };
    let update = move |conn: &mut PgConnection| {
        conn.transaction(|conn| {
            shared(conn)?;
            diesel::update(accounts::table.find(1))
                .set(accounts::balance.eq(7))
                .execute(conn)
        })
    };
    let explorer = explorer(&database).code("ada", update).code("bob", shared);
    let exploration = explored("FOR SHARE, and an update", &explorer);
    assert_eq!(exploration.schedules(), 2, "{:#?}", exploration.list());
    assert!(exploration.is_complete());
}

#[test]
#[parallel]
fn three_lost_updates_are_thirty_six_orders() {
    let database = database();
    let exploration = explored("3, lost update", &workers(&database, 3, increment));
    assert_eq!(exploration.schedules(), 36);
    assert!(exploration.is_complete());
}

#[test]
#[parallel]
fn transfers_in_opposite_directions_are_eight_orders() {
    let database = database();
    let exploration = explored("2, transfers", &transfers(&database));
    assert!(exploration.schedules() <= 8, "{:#?}", exploration.list());
    assert!(exploration.is_complete());
    let deadlocks = exploration
        .failures()
        .iter()
        .filter(|run| matches!(run.problems(), [Problem::Deadlock { .. }]));
    assert!(deadlocks.count() > 0, "{exploration}");
}

#[test]
#[parallel]
fn all_orders_have_the_same_ends() {
    let database = database();
    let all = assert_same_ends(|| workers(&database, 2, increment));
    assert_eq!(all.schedules(), 50);
    assert!(all.is_complete());
}

#[test]
#[parallel]
fn a_lost_update_is_found_without_an_invariant_and_named() {
    let database = database();
    let explorer = workers(&database, 2, increment).serializable();
    let exploration = explored("2, serializable", &explorer);
    assert_eq!(exploration.failures().len(), 2, "{exploration}");
    for run in exploration.failures() {
        assert!(
            matches!(run.problems(), [Problem::NotSerializable { anomaly: Some(name), .. }]
                if name.starts_with("lost update")),
            "{run}"
        );
        let again = explorer.replay(run.schedule()).unwrap();
        assert_eq!(again.schedule(), run.schedule());
        assert_eq!(again.outcome(), run.outcome());
        assert_eq!(again.problems().len(), 1);
    }
    println!("{exploration}");
    let locked = workers(&database, 3, locked_increment).serializable();
    locked.explore().unwrap().assert_passed();
}

#[test]
#[parallel]
fn the_same_program_has_the_same_schedules_each_time() {
    let database = database();
    let explore = || {
        let explorer = transfers(&database).allow_errors(diesel_locks::LockError::is_retryable);
        let exploration = explorer.explore().unwrap();
        assert!(exploration.is_complete());
        exploration.list().to_vec()
    };
    let first = explore();
    let times = std::env::var("EXPLORER_TIMES")
        .ok()
        .and_then(|times| times.parse().ok());
    for _ in 0..times.unwrap_or(5) {
        assert_eq!(explore(), first);
    }
    drop(assert_same_ends(|| transfers(&database)));
}

/// So that what it says of roles and databases is so for them, in the first schedule as in others.
#[test]
#[parallel]
fn sessions_connect_after_the_setup_and_to_each_database_two_more() {
    let database = database();
    let opened = AtomicUsize::new(0);
    let at_setup = Mutex::new(Vec::new());
    let explorer = Explorer::new(|| {
        opened.fetch_add(1, Ordering::SeqCst);
        PgConnection::establish(database.url())
    });
    let exploration = explorer
        .setup(|_| {
            at_setup.lock().unwrap().push(opened.load(Ordering::SeqCst));
            Ok(())
        })
        .code("ada", locked_increment)
        .code("bob", locked_increment)
        .explore();
    assert_eq!(exploration.unwrap().schedules(), 2);
    assert_eq!(at_setup.into_inner().unwrap(), [2, 4]);
}
