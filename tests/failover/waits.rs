use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};

use crate::assert_lost;
use crate::support::standby::{Pair, is_of_new};
use crate::support::{backend_pid, eventually, is_blocked};

const LONG: Duration = Duration::from_secs(60);

#[test]
fn who_waits_learns_at_once_that_the_primary_is_dead() {
    let pair = Pair::start();
    let mut holder = pair.connect_to_old();
    let _leader = holder.advisory_lock_nowait("leader").unwrap();
    let waits = [Wait::Block, Wait::Timeout(LONG)].map(|wait| {
        let mut conn = pair.connect_to_old();
        let pid = backend_pid(&mut conn);
        let wait = move || conn.advisory_lock_wait("leader", wait).map(drop);
        (pid, thread::spawn(wait))
    });
    let mut observer = pair.connect_to_old();
    for (pid, _) in &waits {
        eventually(|| is_blocked(&mut observer, *pid));
    }
    let begun = Instant::now();
    pair.fail_over();
    for (_, waiter) in waits {
        // Not as a timeout, which would be to say that the lock was held all the time.
        assert_lost(waiter.join().unwrap());
    }
    assert!(begun.elapsed() < LONG);
}

/// Holds the lock for a moment, again and again, over whatever connection it takes.
fn contend(pair: &Pair, inside: &AtomicUsize, most: &AtomicUsize) -> usize {
    let (mut lost, mut led) = (0, 0);
    while led < 3 {
        match OwnedAdvisoryLockGuard::connect(&pair.url(), "leader", Wait::Timeout(LONG)) {
            Ok(mut guard) => {
                assert!(is_of_new(&mut guard), "the old lock was never free");
                let others = inside.fetch_add(1, Ordering::SeqCst);
                most.fetch_max(others + 1, Ordering::SeqCst);
                thread::yield_now();
                inside.fetch_sub(1, Ordering::SeqCst);
                guard.release().unwrap();
                led += 1;
            }
            Err(LockError::ConnectionLost { .. }) => lost += 1,
            // Nobody is the primary for a moment.
            Err(LockError::Connection(_)) => {}
            Err(error) => panic!("{error:?}"),
        }
    }
    lost
}

#[test]
fn contenders_go_on_at_the_new_primary_one_at_a_time() {
    const CONTENDERS: usize = 6;
    let pair = Pair::start();
    let mut holder = pair.connect_to_old();
    let _leader = holder.advisory_lock_nowait("leader").unwrap();
    let mut observer = pair.connect_to_old();
    let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        let contend = || contend(&pair, &inside, &most);
        let contenders: Vec<_> = (0..CONTENDERS).map(|_| scope.spawn(contend)).collect();
        eventually(|| observer.lock_waits().unwrap().len() == CONTENDERS);
        pair.fail_over();
        for contender in contenders {
            // Each was told once, by the wait that was cut off.
            assert_eq!(contender.join().unwrap(), 1);
        }
    });
    assert_eq!(most.load(Ordering::SeqCst), 1);
}
