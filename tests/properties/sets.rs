//! A set of locks has one order, and is taken as a whole or not at all.

use diesel_locks::{AdvisoryLock, AdvisoryLocks, LockError, LockKey, LockTarget, prelude::*};
use diesel_locks_harness::TestDatabase;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::hostile::cases;
use crate::keys::key;
use crate::support::{advisory_locks, connect};

fn lock() -> impl Strategy<Value = AdvisoryLock> {
    (key(), any::<bool>()).prop_map(|(key, shared)| match shared {
        true => AdvisoryLock::shared(key),
        false => AdvisoryLock::exclusive(key),
    })
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn the_order_is_the_same_whoever_asks(
        (locks, shuffled) in vec(lock(), 0..40)
            .prop_flat_map(|locks| (Just(locks.clone()), Just(locks).prop_shuffle())),
        again in any::<Index>(),
    ) {
        let mut twice = shuffled;
        if !locks.is_empty() {
            twice.push(locks[again.index(locks.len())]);
        }
        let set = AdvisoryLocks::new(locks.clone());
        prop_assert_eq!(&set, &AdvisoryLocks::new(twice));
        prop_assert!(set.as_ref().windows(2).all(|pair| pair[0] < pair[1]));
        prop_assert!(locks.iter().all(|lock| set.as_ref().contains(lock)));
    }
}

#[test]
fn all_are_taken_or_none_is() {
    let database = TestDatabase::new().unwrap();
    let sessions = std::cell::RefCell::new([connect(&database), connect(&database)]);
    proptest!(cases(48), |(
        locks in vec(lock(), 1..20),
        taken in proptest::option::of(any::<Index>()),
        waits: bool,
    )| {
        let mut sessions = sessions.borrow_mut();
        let [here, there] = &mut *sessions;
        let set = AdvisoryLocks::new(locks.clone());
        let in_the_way: Option<LockKey> = taken.map(|taken| taken.get(&locks).key());
        let holder = in_the_way.map(|key| there.advisory_lock_nowait(key).unwrap());
        let result = match waits {
            true => here.advisory_lock_all_timeout(locks, std::time::Duration::from_millis(1)),
            false => here.advisory_lock_all_nowait(locks),
        };
        let others = i64::from(holder.is_some());
        match (result, in_the_way) {
            (Ok(mut guard), None) => {
                prop_assert_eq!(guard.locks(), set.as_ref());
                prop_assert!(guard.is_held().unwrap());
                // One that is both shared and exclusive has a row for each.
                prop_assert_eq!(advisory_locks(&database), set.as_ref().len() as i64);
                guard.release().unwrap();
            }
            (Err(LockError::NotAvailable { target, .. }), Some(key)) if !waits => {
                let LockTarget::Advisory(lock) = target else { panic!("{target:?}") };
                prop_assert_eq!(lock.key(), key);
            }
            (Err(LockError::Timeout { .. }), Some(_)) if waits => {}
            (result, in_the_way) => panic!("{:?}, {in_the_way:?}", result.map(drop)),
        }
        prop_assert_eq!(advisory_locks(&database), others);
    });
}
