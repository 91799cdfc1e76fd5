use std::time::Duration;

use diesel::PgConnection;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait, WatchedAdvisoryLockGuard};

use crate::support::standby::Pair;

const INTERVAL: Duration = Duration::from_millis(400);

/// Far above the interval, for a machine that is busy.
const AT_LAST: Duration = Duration::from_secs(20);

fn watched(pair: &Pair) -> WatchedAdvisoryLockGuard<PgConnection> {
    let leader = OwnedAdvisoryLockGuard::connect(&pair.url(), "leader", Wait::NoWait).unwrap();
    leader.watch(INTERVAL).unwrap()
}

#[test]
fn a_watch_tells_that_the_primary_is_dead() {
    let pair = Pair::start();
    let leader = watched(&pair);
    pair.fail_over();
    let lost = leader.lost().recv_timeout(AT_LAST).unwrap();
    assert!(matches!(lost, LockError::ConnectionLost { .. }), "{lost:?}");
}

#[test]
fn a_watch_tells_that_the_primary_cannot_be_reached() {
    let pair = Pair::start();
    let leader = watched(&pair);
    pair.silence_primary();
    pair.standby.promote();
    let lost = leader.lost().recv_timeout(AT_LAST).unwrap();
    assert!(matches!(lost, LockError::Unresponsive { .. }), "{lost:?}");
}

/// The old primary still says that the lock is held, which is true, and of no use.
#[test]
fn a_watch_cannot_tell_that_there_is_a_second_primary() {
    let pair = Pair::start();
    let leader = watched(&pair);
    pair.standby.promote();
    let next = OwnedAdvisoryLockGuard::connect(&pair.standby.url, "leader", Wait::NoWait);
    assert!(leader.lost().recv_timeout(INTERVAL * 3).is_err());
    assert!(!leader.is_lost());
    leader.release().unwrap();
    next.unwrap().release().unwrap();
}
