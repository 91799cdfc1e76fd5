use std::time::Duration;

use diesel::PgConnection;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_locks::LockAwareManager;
use diesel_locks::prelude::*;

use crate::assert_lost;
use crate::support::standby::{Pair, is_of_new};

const LONG: Duration = Duration::from_secs(20);

fn pool(pair: &Pair) -> Pool<LockAwareManager<PgConnection>> {
    let manager = LockAwareManager::new(ConnectionManager::new(pair.url()));
    let builder = Pool::builder().max_size(3).connection_timeout(LONG);
    builder.build(manager).unwrap()
}

#[test]
fn a_pool_throws_away_what_is_of_a_dead_primary() {
    let pair = Pair::start();
    let pool = pool(&pair);
    let (held, mut kept) = (
        pool.advisory_lock("a").unwrap(),
        pool.advisory_lock("b").unwrap(),
    );
    assert_eq!(pool.state().connections, 3);
    pair.fail_over();
    assert_lost(held.release().map(drop));
    assert_lost(kept.is_held());
    drop(kept);
    // The idle one, too: a pool tests what it lends.
    let guards: Vec<_> = ["a", "b", "c"]
        .into_iter()
        .map(|name| pool.advisory_lock_timeout(name, LONG).unwrap())
        .collect();
    for mut guard in guards {
        assert!(is_of_new(&mut guard) && guard.is_held().unwrap());
        guard.release().unwrap();
    }
}

#[test]
fn a_pool_keeps_what_is_of_a_primary_that_lives_on() {
    let pair = Pair::start();
    let pool = pool(&pair);
    let leader = pool.advisory_lock("leader").unwrap();
    pair.standby.promote();
    let mut lent = pool.get().unwrap();
    assert!(!is_of_new(&mut lent));
    assert!(lent.try_advisory_lock("leader").unwrap().is_none());
    leader.release().unwrap();
}
