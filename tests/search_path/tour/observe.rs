//! A look at the locks, and ending who is in the way.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::observed::{lock_waits, locks, sessions};
use diesel_locks::prelude::*;
use diesel_locks::{
    End, LockError, LockInfo, LockNames, LockWait, Prioritized, SessionInfo, TableLockMode,
    WaitGraph,
};

use super::{LONG, SHORT, Tour, fails};
use crate::support::backend_pid;
use crate::support::schema::{accounts, jobs};

pub(super) fn go(tour: &Tour) {
    looks(tour);
    holders(tour);
    ends(tour);
    watches(tour);
    names(tour);
}

fn looks(tour: &Tour) {
    let (mut holder, mut waiter) = (tour.connect(), tour.connect());
    let mut observer = tour.connect();
    let held = holder
        .advisory_lock(diesel_locks::AdvisoryLock::shared((7, -7)))
        .unwrap();
    let canceled = tour.when_waiting(
        &mut waiter,
        |waiter| waiter.advisory_lock_timeout((7, -7), LONG).map(drop),
        |pid| {
            assert!(observer.locks().unwrap().len() > 3);
            assert_eq!(observer.lock_waits().unwrap()[0].blockers.len(), 2);
            assert_eq!(observer.blocked_by(pid).unwrap().len(), 2);
            let graph = WaitGraph::load(&mut observer).unwrap();
            assert_eq!(graph.edges().count(), 2);
            let _: Vec<LockInfo> = locks::table.observed().load(&mut observer).unwrap();
            let _: Vec<LockWait> = lock_waits::table.observed().load(&mut observer).unwrap();
            let _: Vec<SessionInfo> = sessions::table.observed().load(&mut observer).unwrap();
            // The prepared transaction stays.
            tour.signal("pg_cancel_backend", pid);
        },
    );
    fails!(canceled, Canceled);
    drop(held);
}

fn holders(tour: &Tour) {
    let (mut there, mut conn) = (tour.connect(), tour.connect());
    let held = there.advisory_lock(3).unwrap();
    let refused = conn.advisory_lock_nowait(3).map(drop).unwrap_err();
    assert_eq!(refused.holders(&mut conn).unwrap().len(), 1);
    drop(held);
    there
        .batch_execute("BEGIN; LOCK TABLE accounts; SELECT FROM jobs FOR UPDATE")
        .unwrap();
    let mode = TableLockMode::AccessShare;
    let table = conn.transaction(|conn| conn.lock_table_nowait(accounts::table, mode));
    let both = (accounts::table, jobs::table);
    let several = conn.transaction(|conn| conn.lock_table_timeout(both, mode, SHORT));
    let any = conn.transaction::<_, LockError, _>(|conn| {
        conn.with_lock_timeout(SHORT, |conn| {
            conn.batch_execute("LOCK TABLE accounts")
                .map_err(LockError::from)
        })
    });
    for error in [table, several, any] {
        assert_eq!(error.unwrap_err().holders(&mut conn).unwrap().len(), 1);
    }
    there
        .batch_execute("ROLLBACK; BEGIN; SELECT FROM accounts FOR UPDATE")
        .unwrap();
    let row = conn.transaction(|conn| conn.execute_for_update_nowait(accounts::table));
    assert_eq!(row.unwrap_err().holders(&mut conn).unwrap().len(), 1);
}

fn ends(tour: &Tour) {
    let (mut holder, mut waiter) = (tour.connect(), tour.connect());
    let mut observer = tour.connect();
    // A superuser's session is spared.
    let held = holder.advisory_lock(4).unwrap();
    tour.when_waiting(
        &mut waiter,
        |waiter| waiter.advisory_lock(4).map(drop),
        |pid| {
            assert!(!observer.cancel_blockers_of(pid).unwrap()[0].is_ended());
            assert!(!observer.terminate_blockers_of(pid).unwrap()[0].is_ended());
            let none = observer.end_blockers_of(pid, End::Cancel, |_| false);
            assert_eq!(none.unwrap(), []);
            let blockers = observer.blocked_by(pid).unwrap();
            let ends = observer.end_sessions(blockers, End::Terminate).unwrap();
            assert!(!ends[0].is_ended());
            drop(held);
        },
    )
    .unwrap();
    holder
        .batch_execute("SET SESSION AUTHORIZATION nobody_special")
        .unwrap();
    let pid = backend_pid(&mut holder);
    let all: Vec<SessionInfo> = sessions::table.observed().load(&mut observer).unwrap();
    let session = all.into_iter().filter(|session| session.pid == pid);
    for how in [End::Cancel, End::Terminate] {
        observer.end_sessions(session.clone(), how).unwrap();
    }
}

fn watches(tour: &Tour) {
    let (mut holder, mut waiter) = (tour.connect(), tour.connect());
    let held = holder.advisory_lock(5).unwrap();
    let priority = Prioritized::start(&mut waiter, tour.connect(), End::Cancel, SHORT).unwrap();
    let none =
        Prioritized::start_filtered(&mut waiter, tour.connect(), End::Cancel, SHORT, |_| false)
            .unwrap();
    let mut held = Some(held);
    tour.when_waiting(
        &mut waiter,
        |waiter| {
            let tell = |_: &diesel_locks::Waiting| drop(held.take());
            waiter.on_wait(
                SHORT,
                || tour.try_connect().ok(),
                tell,
                |waiter| waiter.advisory_lock(5).map(drop),
            )
        },
        |_| (),
    )
    .unwrap();
    priority.stop().unwrap();
    assert_eq!(none.stop().unwrap(), []);
}

fn names(tour: &Tour) {
    let conn = &mut tour.connect();
    LockNames::new(["of the tour"]).register(conn).unwrap();
    assert!(LockNames::load(conn).unwrap());
    conn.batch_execute("TABLE diesel_locks.lock_holders")
        .unwrap();
}
