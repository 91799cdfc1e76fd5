//! What no advisory lock can prevent: two servers that both are the primary, for a moment.

use std::thread;
use std::time::Duration;

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, Wait};

use crate::support::standby::Pair;
use crate::support::{backend_pid, eventually, is_blocked};

diesel::table! { jobs (done) { done -> Integer, } }

#[test]
fn two_primaries_grant_one_lock_twice() {
    let pair = Pair::start();
    let (mut old, mut new) = (pair.connect_to_old(), pair.connect_to_new());
    let mut leader = old.advisory_lock_nowait("leader").unwrap();
    pair.standby.promote();
    let mut other = new.advisory_lock_nowait("leader").unwrap();
    assert!(leader.is_held().unwrap() && other.is_held().unwrap());
    leader.release().unwrap();
    // And the next attempt is at the primary that its connection is of.
    old.advisory_lock_nowait("leader")
        .unwrap()
        .release()
        .unwrap();
    other.release().unwrap();
}

#[test]
fn who_waits_at_a_primary_that_lives_on_waits_for_that_one() {
    let pair = Pair::start();
    let mut old = pair.connect_to_old();
    let leader = old.advisory_lock_nowait("leader").unwrap();
    let mut observer = pair.connect_to_old();
    let waiters = [Wait::Block, Wait::Timeout(Duration::from_secs(60))].map(|wait| {
        let mut waiting = pair.connect_to_old();
        let pid = backend_pid(&mut waiting);
        let waiter = thread::spawn(move || waiting.advisory_lock_wait("leader", wait).map(drop));
        eventually(|| is_blocked(&mut observer, pid));
        (pid, waiter)
    });
    pair.standby.promote();
    // The lock is free at the new primary, which does not help.
    let mut new = pair.connect_to_new();
    new.advisory_lock_nowait("leader")
        .unwrap()
        .release()
        .unwrap();
    for (pid, waiter) in &waiters {
        assert!(is_blocked(&mut observer, *pid) && !waiter.is_finished());
    }
    leader.release().unwrap();
    for (_, waiter) in waiters {
        waiter.join().unwrap().unwrap();
    }
}

/// So of what a lock guards, that in the database is right in each of the two, and one is thrown away.
#[test]
fn what_the_old_primary_commits_from_then_on_is_in_no_other() {
    let pair = Pair::with("CREATE TABLE jobs (done int); INSERT INTO jobs VALUES (0)");
    let (mut old, mut new) = (pair.connect_to_old(), pair.connect_to_new());
    pair.standby.promote();
    for conn in [&mut old, &mut new] {
        conn.transaction_with_advisory_lock("jobs", |conn| {
            let done: i32 = conn.get_for_update_nowait(jobs::table.select(jobs::done))?;
            diesel::update(jobs::table)
                .set(jobs::done.eq(done + 1))
                .execute(conn)?;
            Ok::<_, LockError>(())
        })
        .unwrap();
    }
    for conn in [&mut old, &mut new] {
        let done: i32 = sql::<Integer>("SELECT done FROM jobs")
            .get_result(conn)
            .unwrap();
        assert_eq!(done, 1);
    }
}
