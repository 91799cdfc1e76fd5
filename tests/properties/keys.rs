//! A lock has one key, here and on the server.

use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Text};
use diesel_locks::{AdvisoryLock, LockKey, LockedObject, prelude::*};
use diesel_locks_harness::TestDatabase;
use proptest::collection::vec;
use proptest::prelude::*;

use crate::hostile::{cases, server_text};
use crate::support::{backend_pid, connect};

/// Some are longer than a name of PostgreSQL's, and than what it stores as it is.
fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => server_text(),
        1 => (server_text(), 1..4_000_usize).prop_map(|(text, times)| text.repeat(times)),
    ]
}

pub(super) fn key() -> impl Strategy<Value = LockKey> {
    prop_oneof![
        any::<i64>().prop_map(LockKey::Single),
        any::<(i32, i32)>().prop_map(|(class, object)| LockKey::Pair(class, object)),
        (-2..3_i64).prop_map(LockKey::Single),
        (-2..3_i32, -2..3_i32).prop_map(|(class, object)| LockKey::Pair(class, object)),
        Just(LockKey::Single(i64::MIN)),
        Just(LockKey::Pair(i32::MAX, i32::MIN)),
        name().prop_map(LockKey::named),
    ]
}

#[test]
fn a_name_has_the_number_that_the_documented_sql_gives_it() {
    let database = TestDatabase::new().unwrap();
    let conn = std::cell::RefCell::new(connect(&database));
    proptest!(cases(32), |(names in vec(name(), 1..30))| {
        let numbers: Vec<i64> = sql::<BigInt>(
            "SELECT ('x' || encode(substr(sha256(convert_to(name, 'UTF8')), 1, 8), 'hex'))\
             ::bit(64)::bigint FROM unnest(",
        )
        .bind::<Array<Text>, _>(&names)
        .sql(") WITH ORDINALITY AS names (name, n) ORDER BY n")
        .load(&mut *conn.borrow_mut())
        .unwrap();
        let keys: Vec<_> = names.iter().map(LockKey::named).collect();
        prop_assert_eq!(keys, numbers.into_iter().map(LockKey::Single).collect::<Vec<_>>());
    });
}

#[test]
fn the_server_shows_the_key_that_was_taken() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let pid = backend_pid(&mut conn);
    let conn = std::cell::RefCell::new(conn);
    proptest!(cases(64), |(key in key(), shared: bool)| {
        let lock = if shared { AdvisoryLock::shared(key) } else { key.into() };
        let mut conn = conn.borrow_mut();
        let mut guard = conn.advisory_lock_nowait(lock).unwrap();
        // Other tests have locks on the same server.
        let mut held = ObserveExt::locks(&mut *guard).unwrap();
        held.retain(|lock| lock.session.pid == pid);
        let held: Vec<_> = held.into_iter().map(|lock| lock.object)
            .filter(|of| matches!(of, LockedObject::Advisory(_))).collect();
        prop_assert!(guard.is_held().unwrap());
        guard.release().unwrap();
        prop_assert_eq!(held, [LockedObject::Advisory(key)]);
    });
}

proptest! {
    #![proptest_config(cases(256))]

    #[test]
    fn a_name_is_shown_as_it_was_written(name in name()) {
        prop_assert_eq!(LockKey::named(&name).to_string(), format!("{name:?}"));
    }

    #[test]
    fn numbers_keep_their_bits(number: u64, pair: (i32, i32)) {
        prop_assert_eq!(LockKey::from(number), LockKey::Single(number.cast_signed()));
        prop_assert_eq!(LockKey::from(pair), LockKey::Pair(pair.0, pair.1));
    }
}
