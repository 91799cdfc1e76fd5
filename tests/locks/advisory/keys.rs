//! What may be the key of an advisory lock, and what it is called.

use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, LockKey};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::{advisory_locks, connect, two_sessions};

#[test]
#[parallel]
fn whoever_names_a_lock_by_a_string_reads_the_string_again() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let text = |error: LockError| error.to_string();
    let name = "named \"so\"\n";
    let mut guard = here.advisory_lock(name).unwrap();
    assert_eq!(
        guard.lock().to_string(),
        r#"advisory lock "named \"so\"\n""#
    );
    assert_eq!(
        text(
            there
                .advisory_lock_timeout(name, Duration::ZERO)
                .map(drop)
                .unwrap_err()
        ),
        r#"advisory lock "named \"so\"\n" was not granted within 0ns"#
    );
    let set = [AdvisoryLock::shared(name), AdvisoryLock::exclusive(1)];
    assert_eq!(
        text(there.advisory_lock_all_nowait(set).map(drop).unwrap_err()),
        r#"shared advisory lock "named \"so\"\n" is locked by another session"#
    );
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert_eq!(
        text(guard.release().unwrap_err()),
        r#"advisory lock "named \"so\"\n" was no longer held by this session"#
    );
    // Whatever has the number has the name.
    let LockKey::Single(number) = LockKey::named(name) else {
        panic!("a name is a single number");
    };
    assert_eq!(LockKey::from(number).to_string(), r#""named \"so\"\n""#);
    for name in ["sqlx", "django", "ruby"] {
        for key in [
            LockKey::sqlx(name),
            LockKey::django_pglock(name),
            LockKey::ruby_with_advisory_lock(name),
        ] {
            assert_eq!(key.to_string(), format!("{name:?}"));
        }
    }
}

#[test]
#[parallel]
fn a_key_of_two_names_is_shown_by_the_later_one() {
    // They have the same CRC-32.
    for name in ["plumless", "buckeroo", "plumless"] {
        let key = LockKey::ruby_with_advisory_lock(name);
        assert_eq!(key, LockKey::Pair(0x4ddb_0c25, 0));
        assert_eq!(key.to_string(), format!("{name:?}"));
    }
}

#[test]
#[parallel]
fn every_integer_of_up_to_64_bits_is_a_key_and_every_string_too() {
    for key in [
        LockKey::from(7_i8),
        7_i16.into(),
        7_i32.into(),
        7_i64.into(),
        7_u8.into(),
        7_u16.into(),
        7_u32.into(),
        7_u64.into(),
        (&7_i64).into(),
        (&7_u32).into(),
        (&LockKey::Single(7)).into(),
    ] {
        assert_eq!(key, LockKey::Single(7));
    }
    assert_eq!(LockKey::from(u64::MAX), LockKey::Single(-1));
    assert_eq!(LockKey::from(u32::MAX), LockKey::Single(4_294_967_295));
    let named = LockKey::named("x");
    let string = "x".to_owned();
    for key in [
        LockKey::from(&"x"),
        (&string).into(),
        std::borrow::Cow::Borrowed("x").into(),
        (&std::borrow::Cow::<str>::Owned("x".into())).into(),
        Box::<str>::from("x").into(),
        string.clone().into(),
    ] {
        assert_eq!(key, named);
    }
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let keys: &[i64] = &[1, 2];
    let locks: &[AdvisoryLock] = &[AdvisoryLock::shared(3)];
    let mut guard = conn.advisory_lock_all(keys).unwrap();
    let guard = guard.advisory_lock_all(locks).unwrap();
    assert_eq!(advisory_locks(&database), 3);
    drop(guard);
}

#[test]
#[parallel]
fn keys_are_the_same_for_postgresql_and_for_the_crate() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    for key in [
        LockKey::Single(i64::MIN),
        LockKey::Single(i64::MAX),
        LockKey::Single(0),
        LockKey::Single(-1),
        LockKey::Pair(i32::MIN, i32::MAX),
        LockKey::Pair(-1, 0),
        LockKey::Pair(0, -1),
    ] {
        let arguments = match key {
            LockKey::Single(key) => format!("('{key}'::bigint)"),
            LockKey::Pair(class, object) => format!("('{class}'::int, '{object}'::int)"),
        };
        let mut granted_there = |function: &str| {
            sql::<diesel::sql_types::Bool>(&format!("SELECT {function}{arguments}"))
                .get_result::<bool>(&mut there)
                .unwrap()
        };
        let mut guard = here.advisory_lock_nowait(key).unwrap();
        assert!(guard.is_held().unwrap(), "{key}");
        assert!(!granted_there("pg_try_advisory_lock"), "{key}");
        assert!(!granted_there("pg_try_advisory_lock_shared"), "{key}");
        guard.release().unwrap();

        let mut guard = here.advisory_lock(AdvisoryLock::shared(key)).unwrap();
        assert!(guard.is_held().unwrap(), "{key}");
        assert!(granted_there("pg_try_advisory_lock_shared"), "{key}");
        assert!(!granted_there("pg_try_advisory_lock"), "{key}");
        assert!(granted_there("pg_advisory_unlock_shared"), "{key}");
        drop(guard);
        assert_eq!(advisory_locks(&database), 0, "{key}");
    }
}

#[test]
#[parallel]
fn the_two_key_spaces_never_overlap() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _single = here.advisory_lock_nowait(1).unwrap();
    let _pair = there.advisory_lock_nowait((0, 1)).unwrap();
}

#[test]
#[parallel]
fn every_string_is_a_name_and_sql_computes_the_same_key() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let long = "x".repeat(10_000);
    for name in ["", "gold_leader", "it's \"quoted\"; --", "日本語\n", &long] {
        let in_sql: i64 = diesel::select(
            sql::<BigInt>("('x' || encode(substr(sha256(convert_to(")
                .bind::<Text, _>(name)
                .sql(", 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint"),
        )
        .get_result(&mut conn)
        .unwrap();
        assert_eq!(LockKey::named(name), LockKey::Single(in_sql), "{name}");
        let mut guard = conn.advisory_lock_nowait(name).unwrap();
        assert!(guard.is_held().unwrap());
    }
    // PostgreSQL's text cannot hold it, but it is never sent there.
    let nul = conn.advisory_lock_nowait("a\0b").unwrap();
    assert_ne!(nul.lock().key(), LockKey::named("a"));
    nul.release().unwrap();
    assert_eq!(advisory_locks(&database), 0);
}
