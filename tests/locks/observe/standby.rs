//! A look at a standby, which can write nothing.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockMode, Spared, TableLockMode, WaitGraph};
use serial_test::parallel;

use super::jam::{Actor, connect_to, number, server};
use crate::support::eventually;
use crate::support::schema::accounts;
use crate::support::standby::Standby;

#[test]
#[parallel]
fn a_standby_shows_who_waits_for_its_recovery_and_for_each_other() {
    let primary = server();
    let standby = Standby::of(&primary);
    let observer = &mut standby.connect();
    let mut holder = standby.connect();
    let actors = ["reader", "waiter"].map(|name| Actor::on(standby.connect(), name));
    let [reader, waiter] = &actors;
    let held = holder.advisory_lock("on a standby").unwrap();
    waiter.waits(
        observer,
        &format!("SELECT pg_advisory_lock({})", number("on a standby")),
    );
    let locker = &mut connect_to(&primary);
    locker.batch_execute("BEGIN; LOCK TABLE accounts").unwrap();
    // A commit writes the log out, and the lock with it.
    connect_to(&primary)
        .batch_execute("SET synchronous_commit = on; CREATE TABLE flushed ()")
        .unwrap();
    eventually(|| {
        let locks = observer.locks().unwrap();
        locks.iter().any(|lock| {
            lock.mode == LockMode::AccessExclusive && lock.object.to_string() == "public.accounts"
        })
    });
    reader.waits(observer, "SELECT FROM accounts");

    let graph = WaitGraph::load(observer).unwrap();
    let kinds: Vec<_> = graph
        .edges()
        .map(|edge| (edge.waiter.pid, edge.blocker.backend_type.clone().unwrap()))
        .collect();
    assert!(
        kinds.contains(&(reader.pid, "startup".to_owned())),
        "{graph}"
    );
    assert!(
        kinds.contains(&(waiter.pid, "client backend".to_owned())),
        "{graph}"
    );
    assert!(
        graph.to_string().contains("advisory lock \"on a standby\""),
        "{graph}"
    );
    let ends = observer.terminate_blockers_of(reader.pid).unwrap();
    assert_eq!(ends[0].spared, Some(Spared::ServerProcess));
    locker.batch_execute("ROLLBACK").unwrap();
    eventually(|| reader.rests());
    drop(held);
    eventually(|| waiter.rests());
    drop(actors);
}

#[test]
#[parallel]
fn advisory_locks_of_a_standby_are_its_own_and_it_locks_no_rows_and_no_tables_against_writers() {
    let primary = server();
    let standby = Standby::of(&primary);
    let (mut here, mut there) = (standby.connect(), standby.connect());

    let on_primary = &mut connect_to(&primary);
    let leader = on_primary.advisory_lock("gold_leader").unwrap();
    let second = here.advisory_lock_nowait("gold_leader").unwrap();
    let refused = there.advisory_lock_nowait("gold_leader").map(drop);
    assert!(refused.unwrap_err().is_contention());
    second.release().unwrap();
    leader.release().unwrap();
    here.transaction_with_advisory_lock("gold_leader", |_| Ok::<_, LockError>(()))
        .unwrap();

    let is_refused_as_such = |refused: Result<(), LockError>| {
        let error = refused.unwrap_err();
        assert!(
            matches!(error, LockError::Database { .. }) && !error.is_retryable(),
            "{error:?}"
        );
    };
    is_refused_as_such(here.transaction(|here| {
        let row = accounts::table.find(1).select(accounts::id);
        here.get_for_update::<i32, _>(row).map(drop)
    }));
    let share = TableLockMode::Share;
    is_refused_as_such(here.transaction(|here| here.lock_table(accounts::table, share)));
    here.transaction(|here| here.lock_table(accounts::table, TableLockMode::RowExclusive))
        .unwrap();
}
