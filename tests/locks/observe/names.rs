//! The names of locks, in this process and in the database.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Array, Bool, Integer, Nullable, Text};
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockKey, LockNames, lock_names};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use super::jam::{Actor, connect_as, connect_to, end, server};
use crate::support::{backend_pid, connect, two_sessions};

#[test]
#[parallel]
fn a_name_is_known_as_soon_as_it_is_listed() {
    // The number of the name, which this process has not used.
    let key = LockKey::Single(-7_151_922_021_216_213_013);
    LockNames::new(["listed before"])
        .and(key, "a name for a number")
        .and((7, 9), "a pair's");
    assert_eq!(key.to_string(), "\"a name for a number\"");
    assert_eq!(LockKey::Pair(7, 9).to_string(), "\"a pair's\"");
}

#[test]
#[parallel]
fn the_view_shows_holders_and_waiters_by_registered_names() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    lock_names::MIGRATIONS.run_pending(&mut here).unwrap();
    let names = LockNames::new(["gold leader", "nobody's"]);
    names.and((7, -42), "pair").register(&mut here).unwrap();
    // The last name counts.
    let names = LockNames::new([""; 0]).and((7, -42), "x");
    names.and((7, -42), "the pair").register(&mut here).unwrap();
    let _held = there
        .advisory_lock_all(["gold leader", "unregistered"])
        .unwrap();
    let mut billing = connect(&database);
    billing
        .batch_execute(
            "SET application_name = 'billing'; SELECT pg_advisory_lock(7, -42), pg_advisory_lock(-1, -2), \
             pg_advisory_lock(-3); BEGIN; LOCK TABLE diesel_locks.lock_names IN SHARE MODE",
        )
        .unwrap();
    let shown = |pid: Option<i32>| -> Vec<String> {
        let filter = pid.map_or("application <> 'billing'".to_owned(), |pid| {
            format!("pid = {pid}")
        });
        let query =
            format!("SELECT lock FROM diesel_locks.lock_holders WHERE {filter} ORDER BY lock");
        sql::<Text>(&query).load(&mut connect(&database)).unwrap()
    };
    let LockKey::Single(unregistered) = LockKey::named("unregistered") else {
        panic!();
    };
    let mut first = vec!["\"gold leader\"".to_owned(), unregistered.to_string()];
    first.sort_unstable();
    let mut others = shown(None);
    others.sort_unstable();
    assert_eq!(others, first);
    let mut pids = shown(Some(backend_pid(&mut billing)));
    pids.sort_unstable();
    assert_eq!(
        pids,
        ["\"the pair\"", "(-1, -2)", "-3", "diesel_locks.lock_names"]
    );
}

#[test]
#[parallel]
fn the_view_shows_whom_a_session_waits_for_and_a_prepared_transaction_by_its_name() {
    let server = server();
    let conn = &mut connect_to(&server);
    lock_names::MIGRATIONS.run_pending(conn).unwrap();
    for statements in [
        "BEGIN; LOCK TABLE accounts IN ROW EXCLUSIVE MODE; \
         PREPARE TRANSACTION 'payout \"7\"'",
        // In nobody's way.
        "BEGIN; LOCK TABLE accounts IN ACCESS SHARE MODE; SELECT pg_advisory_xact_lock(1); \
         PREPARE TRANSACTION 'another'",
    ] {
        conn.batch_execute(statements).unwrap();
    }
    let actors = ["holder", "waiter", "behind"].map(|name| Actor::new(&server, name));
    let [holder, waiter, behind] = &actors;
    holder.does("BEGIN; LOCK TABLE accounts IN ROW EXCLUSIVE MODE");
    waiter.waits(conn, "BEGIN; LOCK TABLE accounts IN SHARE MODE");
    behind.waits(conn, "BEGIN; LOCK TABLE accounts IN ROW EXCLUSIVE MODE");
    type Blockers = (Option<Vec<i32>>, Option<Vec<String>>);
    let mut blockers = |pid: i32| -> Vec<Blockers> {
        sql::<(Nullable<Array<Integer>>, Nullable<Array<Text>>)>(
            "SELECT blocked_by, blocked_by_prepared FROM diesel_locks.lock_holders \
             WHERE lock = 'accounts' AND pid = ",
        )
        .bind::<Integer, _>(pid)
        .load(conn)
        .unwrap()
    };
    assert_eq!(blockers(holder.pid), [(None, None)]);
    let payout = vec!["payout \"7\"".to_owned()];
    assert_eq!(
        blockers(waiter.pid),
        [(Some(vec![holder.pid]), Some(payout.clone()))]
    );
    assert_eq!(blockers(behind.pid), [(Some(vec![waiter.pid]), None)]);
    holder.does("COMMIT");
    assert_eq!(blockers(waiter.pid), [(None, Some(payout))]);
    let rollback = "ROLLBACK PREPARED 'payout \"7\"'";
    connect_to(&server).batch_execute(rollback).unwrap();
    end(&server, actors.into());
}

#[test]
#[parallel]
fn another_process_reads_the_names_where_it_may_and_goes_on_where_not() {
    let server = server();
    let conn = &mut connect_to(&server);
    assert!(!LockNames::load(conn).unwrap());
    let error = LockNames::new(["x"]).register(conn).unwrap_err();
    assert!(matches!(error, LockError::Database(_)), "{error:?}");
    lock_names::MIGRATIONS.run_pending(conn).unwrap();
    conn.batch_execute(
        "CREATE ROLE monitor LOGIN; GRANT pg_monitor TO monitor; CREATE ROLE stranger LOGIN; \
         INSERT INTO diesel_locks.lock_names VALUES (4294967295, 4294967294, 1, 'from elsewhere')",
    )
    .unwrap();
    let stranger = &mut connect_as(&server, "stranger");
    stranger
        .transaction::<_, LockError, _>(|conn| {
            assert!(!LockNames::load(conn)?);
            assert!(!LockNames::load(conn)?);
            Ok(())
        })
        .unwrap();
    assert_eq!(LockKey::Single(-2).to_string(), "-2");
    let monitor = &mut connect_as(&server, "monitor");
    assert!(LockNames::load(monitor).unwrap());
    assert_eq!(LockKey::Single(-2).to_string(), "\"from elsewhere\"");
    let rows = sql::<Bool>("SELECT pg_catalog.count(*) >= 0 FROM diesel_locks.lock_holders");
    assert!(rows.get_result::<bool>(monitor).unwrap());
    lock_names::MIGRATIONS.revert_all(conn).unwrap();
    assert!(!LockNames::load(conn).unwrap());
}

#[test]
#[parallel]
fn what_is_no_table_is_not_read_because_it_would_run_anothers_code() {
    let server = server();
    let conn = &mut connect_to(&server);
    conn.batch_execute(
        "CREATE SCHEMA diesel_locks; CREATE VIEW diesel_locks.lock_names AS \
         SELECT 1/0 AS classid, 1 AS objid, 1 AS objsubid, '' AS name",
    )
    .unwrap();
    assert!(!LockNames::load(conn).unwrap());
}
