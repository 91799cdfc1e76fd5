use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};

use crate::assert_lost;
use crate::support::standby::{Pair, is_of_new};

#[test]
fn a_guard_of_a_dead_primary_says_so_and_its_drop_is_silent() {
    let pair = Pair::start();
    let (mut one, mut other) = (pair.connect_to_old(), pair.connect_to_old());
    let mut leader = one.advisory_lock_nowait("leader").unwrap();
    let several = other.advisory_lock_all(["a", "b"]).unwrap();
    pair.fail_over();
    assert_lost(leader.is_held());
    drop(leader);
    assert_lost(several.release());
    // The connection is of no use any more, and says that too.
    assert_lost(one.advisory_lock_nowait("leader").map(drop));
}

#[test]
fn a_guard_that_owns_its_connection_is_lost_and_the_next_one_is_of_the_new_primary() {
    let pair = Pair::start();
    let connect = || OwnedAdvisoryLockGuard::connect(&pair.url(), "leader", Wait::NoWait);
    let mut leader = connect().unwrap();
    assert!(!is_of_new(&mut leader));
    pair.fail_over();
    // The lock itself is free: it was never in the standby.
    let mut next = connect().unwrap();
    assert!(is_of_new(&mut next) && next.is_held().unwrap());
    assert_lost(leader.is_held());
    assert_lost(leader.release().map(drop));
    assert!(connect().is_err());
    next.release().unwrap();
}

#[test]
fn while_neither_is_a_primary_there_is_no_connection() {
    let pair = Pair::start();
    let connect = || OwnedAdvisoryLockGuard::connect(&pair.url(), "leader", Wait::NoWait);
    pair.kill_primary();
    let refused = connect().map(drop);
    assert!(
        matches!(refused, Err(LockError::Connection(_))),
        "{refused:?}"
    );
    pair.standby.promote();
    connect().unwrap().release().unwrap();
}

#[test]
fn a_lock_of_a_standbys_own_session_outlives_its_promotion() {
    for promote in [Pair::fail_over, |pair: &Pair| pair.standby.promote()] {
        outlives(promote);
    }
}

fn outlives(promote: fn(&Pair)) {
    let pair = Pair::start();
    let (mut reader, mut other) = (pair.connect_to_new(), pair.connect_to_new());
    let mut guard = reader.advisory_lock_nowait("leader").unwrap();
    // The primary knows nothing of it.
    let mut old = pair.connect_to_old();
    old.advisory_lock_nowait("leader")
        .unwrap()
        .release()
        .unwrap();
    promote(&pair);
    assert!(guard.is_held().unwrap());
    assert!(other.try_advisory_lock("leader").unwrap().is_none());
    guard.release().unwrap();
    other
        .advisory_lock_nowait("leader")
        .unwrap()
        .release()
        .unwrap();
}
