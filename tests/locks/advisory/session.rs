//! Advisory locks of a session, and the guards that hold them.

use std::error::Error as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::result::Error;
use diesel::sql_types::{BigInt, Text};
use diesel_locks::prelude::*;
use diesel_locks::{
    AcquireError, AdvisoryLock, AdvisoryLockGuard, LockError, LockKey, LockTarget,
    OwnedAdvisoryLockGuard, Wait,
};
use diesel_locks_harness::{Contention, TestDatabase};
use serial_test::parallel;

use crate::support::schema::accounts;
use crate::support::{
    advisory_locks, backend_pid, connect, database, eventually, lock_timeout, terminate,
    two_sessions,
};

#[test]
#[parallel]
fn a_query_runs_under_the_lock() {
    let database = database();
    let mut leader =
        OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait).unwrap();
    diesel::update(accounts::table.find(1))
        .set(accounts::balance.eq(42))
        .execute(&mut *leader)
        .unwrap();
    let mut conn = leader.release().unwrap();
    let balance: i64 = accounts::table
        .find(1)
        .select(accounts::balance)
        .first(&mut conn)
        .unwrap();
    assert_eq!(balance, 42);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_second_lock_inside_the_scope_fails() {
    let database = TestDatabase::new().unwrap();
    let url = database.url();
    let leader = OwnedAdvisoryLockGuard::connect(url, "gold_leader", Wait::NoWait).unwrap();
    let error = OwnedAdvisoryLockGuard::connect(url, "gold_leader", Wait::NoWait).unwrap_err();
    assert!(error.is_contention() && !error.is_retryable());
    let LockError::NotAvailable { target, source, .. } = &error else {
        panic!("{error:?}");
    };
    assert_eq!(*target, LockTarget::Advisory("gold_leader".into()));
    assert!(source.is_none() && error.source().is_none());
    assert_eq!(
        error.to_string(),
        "advisory lock \"gold_leader\" is locked by another session"
    );
    drop(leader);
    let _leader = OwnedAdvisoryLockGuard::connect(url, "gold_leader", Wait::NoWait).unwrap();
}

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
fn a_refusal_gives_back_the_connection_that_it_was_handed() {
    let database = TestDatabase::new().unwrap();
    let mut here = connect(&database);
    let leader = here.advisory_lock("x").unwrap();
    let mut conn = connect(&database);
    let pid = backend_pid(&mut conn);
    for wait in [Wait::NoWait, Wait::Timeout(Duration::from_millis(1))] {
        let AcquireError { conn: again, error } =
            OwnedAdvisoryLockGuard::acquire(conn, "x", wait).unwrap_err();
        assert!(error.is_contention(), "{error:?}");
        let refused = OwnedAdvisoryLockGuard::acquire_all(again, ["w", "x"], wait).unwrap_err();
        assert!(refused.error.is_contention(), "{refused}");
        conn = refused.conn;
        assert_eq!(backend_pid(&mut conn), pid);
    }
    leader.release().unwrap();
    let both = OwnedAdvisoryLockGuard::acquire_all(conn, ["w", "x"], Wait::NoWait).unwrap();
    assert_eq!(both.locks().len(), 2);
    let mut conn = both.release().unwrap();
    assert_eq!(backend_pid(&mut conn), pid);
    let url = database.url();
    drop(OwnedAdvisoryLockGuard::connect_all(url, [1, 2], Wait::NoWait).unwrap());
}

#[test]
#[parallel]
fn work_under_a_lock_has_every_way_to_wait() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let short = Duration::from_millis(20);
    let guard = here.advisory_lock("x").unwrap();
    let work = |_: &mut PgConnection| Ok::<_, LockError>(7);
    let refused = [
        there.with_advisory_lock_nowait("x", work),
        there.with_advisory_lock_timeout("x", short, work),
        there.with_advisory_lock_wait("x", Wait::NoWait, work),
        there.transaction_with_advisory_lock_nowait("x", work),
        there.transaction_with_advisory_lock_timeout("x", short, work),
        there.transaction_with_advisory_lock_wait("x", Wait::NoWait, work),
    ];
    for refused in refused {
        assert!(refused.unwrap_err().is_contention());
    }
    assert_eq!(there.try_with_advisory_lock("x", work).unwrap(), None);
    assert_eq!(
        there.try_transaction_with_advisory_lock("x", work).unwrap(),
        None
    );
    guard.release().unwrap();
    let done = [
        there.with_advisory_lock_nowait("x", work),
        there.with_advisory_lock_timeout("x", short, work),
        there.with_advisory_lock_wait("x", Wait::Block, work),
        there.transaction_with_advisory_lock_nowait("x", work),
        there.transaction_with_advisory_lock_timeout("x", short, work),
        there.transaction_with_advisory_lock_wait("x", Wait::NoWait, work),
    ];
    for done in done {
        assert_eq!(done.unwrap(), 7);
    }
    assert_eq!(there.try_with_advisory_lock("x", work).unwrap(), Some(7));
    assert_eq!(
        there.try_transaction_with_advisory_lock("x", work).unwrap(),
        Some(7)
    );
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_refused_connection_is_closed() {
    let database = TestDatabase::new().unwrap();
    let mut leader =
        OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait).unwrap();
    OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait).unwrap_err();
    let others = "SELECT count(*) FROM pg_stat_activity \
         WHERE datname = current_database() AND pid <> pg_backend_pid()";
    eventually(|| sql::<BigInt>(others).get_result(&mut *leader) == Ok(0));
}

#[test]
#[parallel]
fn two_threads_contend_and_one_is_refused() {
    let database = TestDatabase::new().unwrap();
    let outcome = Contention::new(|| PgConnection::establish(database.url()))
        .run_scoped(|conn, hold| {
            let guard = conn.advisory_lock_nowait("gold_leader")?;
            hold.until_settled();
            guard.release()
        })
        .unwrap();
    assert_eq!(outcome.granted(), 1);
    assert!(matches!(outcome.errors(), [LockError::NotAvailable { .. }]));
    assert!(matches!(outcome.endings(), [Ok(())]));
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

#[test]
#[parallel]
fn locks_of_one_session_stack() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut outer = here.advisory_lock_nowait("x").unwrap();
    let inner = outer.advisory_lock_nowait("x").unwrap();
    inner.release().unwrap();
    assert!(outer.is_held().unwrap());
    assert!(there.try_advisory_lock("x").unwrap().is_none());
    outer.release().unwrap();
    assert!(there.try_advisory_lock("x").unwrap().is_some());
}

#[test]
#[parallel]
fn a_refusal_leaves_the_transaction_usable() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _guard = here.advisory_lock("x").unwrap();
    there
        .transaction::<_, LockError, _>(|conn| {
            assert!(conn.try_advisory_lock("x")?.is_none());
            let refused = conn.advisory_lock_nowait("x").map(drop);
            assert!(matches!(refused, Err(LockError::NotAvailable { .. })));
            Ok(conn.batch_execute("SELECT 1")?)
        })
        .unwrap();
}

#[test]
#[parallel]
fn a_timeout_is_measured_by_the_server_and_put_back() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let short = Duration::from_millis(20);
    there.batch_execute("SET lock_timeout = '2min'").unwrap();

    let guard = here.advisory_lock("x").unwrap();
    let error = there.advisory_lock_timeout("x", short).unwrap_err();
    assert!(matches!(error, LockError::Timeout { .. }) && error.is_contention());
    assert_eq!(lock_timeout(&mut there), "2min");
    drop(guard);

    there
        .transaction::<_, LockError, _>(|conn| {
            conn.batch_execute("SET LOCAL lock_timeout = '1500ms'")?;
            conn.advisory_lock_timeout("x", short)?.release()?;
            assert_eq!(lock_timeout(conn), "1500ms");
            Ok(())
        })
        .unwrap();
    assert_eq!(lock_timeout(&mut there), "2min");
    there
        .advisory_lock_timeout("x", Duration::MAX)
        .unwrap()
        .release()
        .unwrap();
    assert_eq!(lock_timeout(&mut there), "2min");
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_timeout_of_zero_does_not_wait_for_ever() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let _guard = here.advisory_lock("x").unwrap();
    let error = there.advisory_lock_timeout("x", Duration::ZERO);
    assert!(matches!(error, Err(LockError::Timeout { .. })));
    let wait = Wait::Timeout(Duration::ZERO);
    let error = OwnedAdvisoryLockGuard::connect(database.url(), "x", wait);
    assert!(matches!(error, Err(LockError::Timeout { .. })));
}

#[test]
#[parallel]
fn the_sessions_own_lock_timeout_ends_a_wait() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    there.batch_execute("SET lock_timeout = '20ms'").unwrap();
    let _guard = here.advisory_lock("x").unwrap();
    let error = there.advisory_lock("x").unwrap_err();
    assert!(matches!(error, LockError::Timeout { .. }));
    // Inside a transaction the caller is left where the failure has put it.
    let error = there
        .transaction::<(), LockError, _>(|conn| {
            conn.advisory_lock("x").map(drop).unwrap_err();
            Ok(conn.batch_execute("SELECT 1")?)
        })
        .unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
    there.batch_execute("SELECT 1").unwrap();
}

#[test]
#[parallel]
fn a_panic_lets_go() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = conn.advisory_lock("x").unwrap();
        panic!("under the lock");
    }));
    panicked.unwrap_err();
    assert_eq!(advisory_locks(&database), 0);
    conn.batch_execute("SELECT 1").unwrap();
}

#[test]
#[parallel]
fn a_thread_that_panics_with_an_owned_guard_lets_go() {
    let database = TestDatabase::new().unwrap();
    let guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let thread = thread::spawn(move || {
        let _guard = guard;
        panic!("under the lock");
    });
    thread.join().unwrap_err();
    let mut conn = connect(&database);
    let _guard = conn.advisory_lock_nowait("x").unwrap();
}

#[test]
#[parallel]
fn a_guard_dropped_in_an_aborted_transaction_lets_go() {
    let database = database();
    let mut conn = connect(&database);
    let error = conn
        .transaction::<(), LockError, _>(|conn| {
            diesel::delete(accounts::table).execute(conn)?;
            let mut guard = conn.advisory_lock("x")?;
            guard.batch_execute("SELECT 1 / 0").unwrap_err();
            drop(guard);
            assert_eq!(advisory_locks(&database), 0);
            // The transaction is aborted as it was, not begun anew.
            let error = conn.batch_execute("SELECT 1").unwrap_err();
            Err(error.into())
        })
        .unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
    assert_eq!(accounts::table.count().get_result::<i64>(&mut conn), Ok(2));
}

#[test]
#[parallel]
fn a_guard_released_in_an_aborted_savepoint_leaves_the_outer_transaction_as_it_was() {
    let database = database();
    let mut conn = connect(&database);
    conn.transaction::<(), LockError, _>(|conn| {
        diesel::delete(accounts::table.find(1)).execute(conn)?;
        let lost = conn.transaction::<(), LockError, _>(|conn| {
            diesel::delete(accounts::table.find(2)).execute(conn)?;
            let mut guard = conn.advisory_lock(AdvisoryLock::shared((1, 2)))?;
            guard.batch_execute("SELECT 1 / 0").unwrap_err();
            assert!(matches!(
                guard.is_held(),
                Err(LockError::TransactionAborted { .. })
            ));
            guard.release()?;
            assert_eq!(advisory_locks(&database), 0);
            Ok(conn.batch_execute("SELECT 1")?)
        });
        assert!(matches!(lost, Err(LockError::TransactionAborted { .. })));
        Ok(())
    })
    .unwrap();
    let left: Vec<i32> = accounts::table
        .select(accounts::id)
        .load(&mut conn)
        .unwrap();
    assert_eq!(left, [2]);
}

#[test]
#[parallel]
fn a_lock_outlives_the_rollback_of_its_transaction() {
    let database = TestDatabase::new().unwrap();
    let mut guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    guard
        .transaction::<(), Error, _>(|_| Err(Error::RollbackTransaction))
        .unwrap_err();
    assert!(guard.is_held().unwrap());
    guard.release().unwrap();
}

#[test]
#[parallel]
fn a_lock_that_was_released_behind_the_guard_is_not_held() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut guard = conn.advisory_lock("x").unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert!(!guard.is_held().unwrap());
    let lock = *guard.lock();
    let released = guard.release();
    assert!(matches!(released, Err(LockError::NotHeld { lock: l, .. }) if l == lock));
    conn.batch_execute("SELECT 1").unwrap();
}

#[test]
#[parallel]
fn a_guard_on_another_session_says_so_and_leaves_that_session_alone() {
    let (database, mut conn, mut other) = two_sessions(TestDatabase::new().unwrap());
    let (taken_by, now_at) = (backend_pid(&mut conn), backend_pid(&mut other));
    let mut guard = conn.advisory_lock(AdvisoryLock::shared("x")).unwrap();
    std::mem::forget(other.advisory_lock(AdvisoryLock::shared("x")).unwrap());
    std::mem::swap(&mut *guard, &mut other);
    let changed = |error| match error {
        LockError::SessionChanged { locked_by, now, .. } => (locked_by, now) == (taken_by, now_at),
        _ => false,
    };
    assert!(changed(guard.is_held().unwrap_err()));
    assert!(changed(guard.release().unwrap_err()));
    assert_eq!(advisory_locks(&database), 2);
}

#[test]
#[parallel]
fn a_killed_session_is_a_lost_connection() {
    let database = TestDatabase::new().unwrap();
    let mut guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let pid = backend_pid(&mut *guard);
    terminate(&database, pid);
    let lost = |error: LockError| matches!(error, LockError::ConnectionLost { .. });
    assert!(lost(guard.batch_execute("SELECT 1").unwrap_err().into()));
    assert!(lost(guard.is_held().unwrap_err()));
    assert!(lost(guard.advisory_lock("y").map(drop).unwrap_err()));
    assert!(lost(guard.release().map(drop).unwrap_err()));
    // The lock went with the session, and a guard that is dropped then says nothing.
    let guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    let mut guard = guard;
    let pid = backend_pid(&mut *guard);
    terminate(&database, pid);
    drop(guard);
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_session_killed_in_a_transaction_is_a_lost_connection() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let pid = backend_pid(&mut conn);
    let error = conn
        .transaction::<(), LockError, _>(|conn| {
            let guard = conn.advisory_lock("x")?;
            terminate(&database, pid);
            guard.release()
        })
        .unwrap_err();
    assert!(
        matches!(error, LockError::ConnectionLost { .. }),
        "{error:?}"
    );
}

#[test]
#[parallel]
fn a_wrong_url_is_a_connection_error() {
    for url in [
        "postgres://nobody@127.0.0.1:1/none",
        "nonsense",
        "post\0gres://",
    ] {
        let error = OwnedAdvisoryLockGuard::connect(url, "x", Wait::NoWait).unwrap_err();
        assert!(matches!(error, LockError::Connection(_)), "{error:?}");
        assert!(error.source().is_some());
    }
}

#[test]
#[parallel]
fn a_lock_in_an_aborted_transaction_is_refused() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let error = conn
        .transaction::<(), LockError, _>(|conn| {
            conn.batch_execute("SELECT 1 / 0").unwrap_err();
            conn.advisory_lock("x").map(drop)
        })
        .unwrap_err();
    assert!(matches!(error, LockError::TransactionAborted { .. }));
}

#[test]
#[parallel]
fn a_pooled_connection_takes_locks_and_a_poisoned_one_leaves_the_pool() {
    let database = TestDatabase::new().unwrap();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder().max_size(1).build(manager).unwrap();

    let mut conn = pool.get().unwrap();
    let first = backend_pid(&mut conn);
    let guard = conn.advisory_lock_nowait("x").unwrap();
    guard.release().unwrap();
    drop(conn);
    let mut guard = OwnedAdvisoryLockGuard::acquire(pool.get().unwrap(), "x", Wait::Block).unwrap();
    assert_eq!(backend_pid(&mut *guard), first);

    drop(guard);
    assert_eq!(advisory_locks(&database), 0);
    let mut guard = OwnedAdvisoryLockGuard::acquire(pool.get().unwrap(), "x", Wait::Block).unwrap();

    // The lock stays with the first session, and nobody is lent a connection of which the guard
    // could not say that it is clean.
    let mut elsewhere = connect(&database);
    let second = backend_pid(&mut elsewhere);
    std::mem::swap(&mut **guard, &mut elsewhere);
    drop(guard);
    let mut conn = pool.get().unwrap();
    assert!(![first, second].contains(&backend_pid(&mut conn)));
}

#[test]
#[parallel]
fn guards_go_to_other_threads_with_their_connections() {
    fn assert_send<T: Send>() {}
    assert_send::<AdvisoryLockGuard<'_, PgConnection>>();
    assert_send::<OwnedAdvisoryLockGuard<PgConnection>>();
    assert_send::<LockError>();
    fn assert_sync<T: Sync>() {}
    assert_sync::<LockError>();

    let database = TestDatabase::new().unwrap();
    let guard = OwnedAdvisoryLockGuard::connect(database.url(), "x", Wait::NoWait).unwrap();
    thread::spawn(move || drop(guard)).join().unwrap();
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
#[parallel]
fn a_statement_that_never_ran_takes_nothing_from_the_guard_outside() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let mut outer = here.advisory_lock("x").unwrap();
    // The prepared statement of the first lock is gone, and the second one fails.
    outer.batch_execute("DEALLOCATE ALL").unwrap();
    let error = outer.advisory_lock("x").map(drop).unwrap_err();
    assert!(matches!(error, LockError::Database(_)), "{error:?}");
    assert!(outer.is_held().unwrap());
    assert!(there.try_advisory_lock("x").unwrap().is_none());
}

#[test]
#[parallel]
fn the_timeout_is_in_force_while_the_lock_is_taken_whatever_the_planner_does() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute("SET geqo_threshold = 2").unwrap();
    conn.transaction::<_, LockError, _>(|conn| {
        conn.batch_execute("SET LOCAL lock_timeout = '700ms'")?;
        let timeout = Duration::from_secs(3);
        conn.advisory_lock_timeout("x", timeout)?.release()?;
        conn.advisory_lock_all_timeout(["x", "y"], timeout)?
            .release()?;
        conn.advisory_xact_lock_timeout("x", timeout)?;
        assert_eq!(lock_timeout(conn), "700ms");
        Ok(())
    })
    .unwrap();
}

#[test]
#[parallel]
fn a_guard_lets_go_in_an_aborted_transaction_that_diesel_does_not_know_of() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let mut guard = conn.advisory_lock("x").unwrap();
    guard.batch_execute("BEGIN").unwrap();
    guard.batch_execute("SELECT 1 / 0").unwrap_err();
    guard.release().unwrap();
    assert_eq!(advisory_locks(&database), 0);
    let error = LockError::from(conn.batch_execute("SELECT 1").unwrap_err());
    assert!(matches!(error, LockError::TransactionAborted { .. }));
    conn.batch_execute("ROLLBACK").unwrap();
    conn.batch_execute("SELECT 1").unwrap();
}
