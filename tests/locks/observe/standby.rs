//! A look at a standby, which can write nothing.

use diesel::connection::SimpleConnection;
use diesel_locks::prelude::*;
use diesel_locks::{LockMode, Spared, WaitGraph};
use serial_test::parallel;

use super::jam::{Actor, connect_to, number, server};
use crate::support::eventually;
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
