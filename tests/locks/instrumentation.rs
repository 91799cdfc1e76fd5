//! The one place for instrumentation in a connection, which the application may want too.

use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent, SimpleConnection};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel_locks::prelude::*;
use diesel_locks::{LockAwareManager, LockError, set_instrumentation};
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::{advisory_locks, backend_pid, connect, eventually, two_sessions};

/// Counts the events of a connection.
struct Count(Arc<AtomicUsize>);

impl Instrumentation for Count {
    fn on_connection_event(&mut self, _: InstrumentationEvent<'_>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn counted() -> (Count, impl Fn() -> usize) {
    let count = Arc::new(AtomicUsize::new(0));
    let events = Arc::clone(&count);
    (Count(count), move || events.swap(0, Ordering::Relaxed))
}

/// A set that is refused by an error: its last lock is waited for, and another session has it.
fn fail_half_way(conn: &mut PgConnection, there: &mut PgConnection) {
    let in_the_way = there.advisory_lock(1_000).unwrap();
    conn.batch_execute("SET lock_timeout = '20ms'").unwrap();
    let error = conn.advisory_lock_all([1, 2, 1_000]).map(drop).unwrap_err();
    assert!(matches!(error, LockError::Timeout { .. }), "{error:?}");
    in_the_way.release().unwrap();
}

#[test]
#[parallel]
fn what_the_application_has_set_before_stays_and_sees_the_locks() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    let (count, events) = counted();
    here.set_instrumentation(count);
    let guard = here.advisory_lock(1).unwrap();
    assert!(events() > 0);
    guard.release().unwrap();
    assert!(events() > 0);
    fail_half_way(&mut here, &mut there);
    assert_eq!(advisory_locks(&database), 0);
    assert!(here.instrumentation().is::<Count>());
}

#[test]
#[parallel]
fn an_instrumentation_of_no_size_stays_too() {
    static EVENTS: AtomicUsize = AtomicUsize::new(0);
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.set_instrumentation(|_: InstrumentationEvent<'_>| {
        EVENTS.fetch_add(1, Ordering::Relaxed);
    });
    conn.advisory_lock(1).unwrap().release().unwrap();
    assert!(EVENTS.load(Ordering::Relaxed) > 0);
}

#[test]
#[parallel]
fn the_crates_and_the_applications_instrumentation_have_their_place_in_whatever_order() {
    let database = TestDatabase::new().unwrap();
    let mut there = connect(&database);
    for is_first in [true, false] {
        let mut here = connect(&database);
        let pid = backend_pid(&mut here);
        let (count, events) = counted();
        if is_first {
            set_instrumentation(&mut here, count);
            fail_half_way(&mut here.advisory_lock(1).unwrap(), &mut there);
        } else {
            let mut outer = here.advisory_lock(1).unwrap();
            set_instrumentation(&mut *outer, count);
            fail_half_way(&mut outer, &mut there);
            assert!(outer.is_held().unwrap());
        }
        assert!(events() > 0);
        assert_eq!(backend_pid(&mut here), pid);
        assert_eq!(advisory_locks(&database), 0);
    }
}

#[test]
#[parallel]
fn a_pool_knows_of_a_forgotten_guard_beside_the_applications_instrumentation() {
    let database = TestDatabase::new().unwrap();
    let manager = ConnectionManager::<PgConnection>::new(database.url());
    let pool = Pool::builder()
        .max_size(1)
        .test_on_check_out(false)
        .build(LockAwareManager::new(manager))
        .unwrap();
    let mut conn = pool.get().unwrap();
    let (count, events) = counted();
    set_instrumentation(&mut conn, count);
    std::mem::forget(conn.advisory_lock(1).unwrap());
    assert!(events() > 0);
    drop(conn);
    eventually(|| advisory_locks(&database) == 0);
}

#[test]
#[parallel]
fn a_guard_from_before_the_slot_is_given_back_without_having_been_counted() {
    let (database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    here.set_instrumentation(counted().0);
    let mut guard = here.advisory_lock(1).unwrap();
    let (count, events) = counted();
    set_instrumentation(&mut *guard, count);
    guard.release().unwrap();
    assert!(events() > 0);
    fail_half_way(&mut here, &mut there);
    here.advisory_lock(1).unwrap().release().unwrap();
    assert_eq!(advisory_locks(&database), 0);
}

/// Nobody counts the guards then: what the first one holds must not be given away.
#[test]
#[parallel]
fn where_guards_are_not_counted_a_doubt_ends_the_session_and_no_other_one() {
    let database = TestDatabase::new().unwrap();
    let mut there = connect(&database);
    for is_first in [true, false] {
        let (mut here, mut other) = (connect(&database), connect(&database));
        other.set_instrumentation(counted().0);
        let mut others = other.advisory_lock(5).unwrap();
        if is_first {
            here.set_instrumentation(counted().0);
        }
        let mut outer = here.advisory_lock(1).unwrap();
        outer.set_instrumentation(counted().0);
        fail_half_way(&mut outer, &mut there);
        let held = outer.is_held();
        assert!(
            matches!(held, Err(LockError::ConnectionLost { .. })),
            "{held:?}"
        );
        drop(outer);
        // A connection whose guard is gone is in no doubt.
        let mut third = connect(&database);
        third.set_instrumentation(counted().0);
        third.advisory_lock(1).unwrap().release().unwrap();
        fail_half_way(&mut third, &mut there);
        third.batch_execute("SELECT 1").unwrap();
        assert!(others.is_held().unwrap());
    }
}

/// Whoever comes second to the place for instrumentation knows nothing of what was before.
#[test]
#[parallel]
fn a_slot_that_replaces_another_one_gives_no_lock_away_and_keeps_none() {
    let database = TestDatabase::new().unwrap();
    let mut there = connect(&database);
    let nothing = |_: InstrumentationEvent<'_>| ();

    let mut here = connect(&database);
    here.set_instrumentation(nothing);
    let mut outer = here.advisory_lock_all([1, 2]).unwrap();
    set_instrumentation(&mut *outer, nothing);
    fail_half_way(&mut outer, &mut there);
    assert!(outer.is_held().is_err());
    drop(outer);
    eventually(|| advisory_locks(&database) == 0);

    let mut here = connect(&database);
    here.advisory_lock_all([1, 2]).unwrap().release().unwrap();
    here.set_instrumentation(nothing);
    set_instrumentation(&mut here, nothing);
    fail_half_way(&mut here, &mut there);
    assert_eq!(advisory_locks(&database), 0);
    here.batch_execute("RESET lock_timeout").unwrap();
    here.advisory_lock_nowait(2).unwrap().release().unwrap();
}

/// Panics at the events of statements that have this word, before or after they are sent.
struct Panic(&'static str, bool);

impl Instrumentation for Panic {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        let query = match event {
            InstrumentationEvent::StartQuery { query, .. } if self.1 => query,
            InstrumentationEvent::FinishQuery { query, .. } if !self.1 => query,
            _ => return,
        };
        assert!(!query.to_string().contains(self.0), "on purpose");
    }
}

#[test]
#[parallel]
fn an_instrumentation_that_panics_leaves_no_lock_and_makes_no_drop_panic() {
    let database = TestDatabase::new().unwrap();
    for is_first in [true, false] {
        let mut conn = connect(&database);
        set_instrumentation(&mut conn, Panic("pg_advisory_lock", is_first));
        let taken = panic::catch_unwind(AssertUnwindSafe(|| {
            conn.advisory_lock("x").map(drop).unwrap();
        }));
        assert!(taken.is_err());
        eventually(|| advisory_locks(&database) == 0);

        let mut conn = connect(&database);
        let mut guard = conn.advisory_lock("x").unwrap();
        set_instrumentation(&mut *guard, Panic("pg_advisory_unlock", is_first));
        drop(guard);
        eventually(|| advisory_locks(&database) == 0);
    }
}
