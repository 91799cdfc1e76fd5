//! What a lock costs: round trips, counted on the wire, and allocations, counted in the process.

use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, RowLock, TableLockMode, Wait, WaitGraph};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::parallel;

use crate::support;
use crate::support::proxy::Proxy;
use crate::support::schema::{accounts, jobs};

/// A server of its own behind a proxy that counts its answers.
struct Counted {
    server: TempPostgres,
    proxy: Proxy,
}

impl Counted {
    fn start() -> Self {
        let server = TempPostgres::start().unwrap();
        let proxy = Proxy::before(&server);
        Self { server, proxy }
    }

    fn connect(&self) -> PgConnection {
        PgConnection::establish(&self.proxy.url()).unwrap()
    }

    /// The round trips of the second time, when the statements are prepared.
    fn count(&self, mut work: impl FnMut()) -> usize {
        work();
        let before = self.proxy.answers();
        work();
        self.proxy.answers() - before
    }
}

#[test]
#[parallel]
fn a_lock_costs_one_round_trip_and_so_does_its_release() {
    let proxy = Counted::start();
    let conn = &mut proxy.connect();
    let mut elsewhere = PgConnection::establish(proxy.server.url()).unwrap();
    let _held = elsewhere.advisory_lock("held").unwrap();
    let minute = Duration::from_secs(60);
    let ten = || (1..=10).map(|key| AdvisoryLock::shared((key, 0)));

    let pair = proxy.count(|| conn.advisory_lock("x").unwrap().release().unwrap());
    assert_eq!(pair, 2);
    assert_eq!(
        proxy.count(|| drop(conn.advisory_lock_nowait((1, 2)).unwrap())),
        2
    );
    assert_eq!(
        proxy.count(|| drop(conn.advisory_lock_timeout("x", minute).unwrap())),
        2
    );
    assert_eq!(
        proxy.count(|| drop(conn.try_advisory_lock("held").unwrap())),
        1
    );
    assert_eq!(
        proxy.count(|| conn
            .with_advisory_lock("x", |_| Ok::<_, LockError>(()))
            .unwrap()),
        2
    );
    assert_eq!(
        proxy.count(|| drop(conn.advisory_lock_all(ten()).unwrap())),
        2
    );
    assert_eq!(
        proxy.count(|| drop(conn.advisory_lock_all_nowait(ten()).unwrap())),
        2
    );
    let timeout = || drop(conn.advisory_lock_all_timeout(ten(), minute).unwrap());
    assert_eq!(proxy.count(timeout), 2);
    assert_eq!(
        proxy.count(|| drop(conn.try_advisory_lock_all(["a", "held"]).unwrap())),
        1
    );
    let mut guard = conn.advisory_lock("x").unwrap();
    assert_eq!(proxy.count(|| assert!(guard.is_held().unwrap())), 1);
    guard.release().unwrap();

    let begin_and_commit = 2;
    let conn = &mut *conn;
    let mut in_transaction = |work: fn(&mut PgConnection) -> Result<(), LockError>| {
        proxy.count(|| conn.transaction(work).unwrap()) - begin_and_commit
    };
    assert_eq!(in_transaction(|_| Ok(())), 0);
    assert_eq!(in_transaction(|conn| conn.advisory_xact_lock("x")), 1);
    assert_eq!(
        in_transaction(|conn| conn.advisory_xact_lock_nowait("x")),
        1
    );
    assert_eq!(
        in_transaction(|conn| conn.try_advisory_xact_lock("x").map(drop)),
        1
    );
    let timeout =
        |conn: &mut PgConnection| conn.advisory_xact_lock_timeout("x", Duration::from_secs(60));
    assert_eq!(in_transaction(timeout), 1);
}

#[test]
#[parallel]
fn what_a_failed_lock_may_have_left_costs_one_more_and_a_release_in_an_aborted_transaction_four() {
    let proxy = Counted::start();
    let conn = &mut proxy.connect();
    let mut elsewhere = PgConnection::establish(proxy.server.url()).unwrap();
    let _held = elsewhere.advisory_lock("held").unwrap();
    let late = |conn: &mut PgConnection| {
        let limit = Duration::from_millis(5);
        conn.advisory_lock_timeout("held", limit).map(drop)
    };
    assert_eq!(proxy.count(|| drop(late(conn).unwrap_err())), 1 + 1);
    let begin_and_rollback = 2;
    let inside = proxy.count(|| drop(conn.transaction(late).unwrap_err()));
    assert_eq!(inside - begin_and_rollback, 1 + 3);

    let failing = 1;
    let fail =
        |conn: &mut PgConnection| conn.batch_execute("SELECT 1 / 0").map_err(LockError::from);
    let by_hand = |conn: &mut PgConnection| {
        let mut guard = conn.advisory_lock("x")?;
        let failed = fail(&mut guard);
        guard.release()?;
        failed
    };
    let by_closure = |conn: &mut PgConnection| conn.with_advisory_lock("x", fail);
    for locked in [&by_hand as &dyn Fn(&mut _) -> _, &by_closure] {
        let all = proxy.count(|| drop(conn.transaction(locked).unwrap_err()));
        assert_eq!(all - begin_and_rollback - failing, 1 + 4);
    }
}

#[diesel::declare_sql_function]
extern "SQL" {
    /// Diesel's own way to call it.
    fn pg_try_advisory_lock(key: BigInt) -> Bool;
    /// Diesel's own way to call it.
    fn pg_advisory_unlock(key: BigInt) -> Bool;
}

#[test]
#[parallel]
fn a_lock_and_its_release_allocate_no_more_than_diesel_does_for_them() {
    let database = TestDatabase::new().unwrap();
    let conn = &mut support::connect(&database);
    let diesel = |conn: &mut PgConnection| {
        let lock = diesel::select(pg_try_advisory_lock(42));
        assert!(lock.get_result::<bool>(conn).unwrap());
        let unlock = diesel::select(pg_advisory_unlock(42));
        assert!(unlock.get_result::<bool>(conn).unwrap());
    };
    let guard = |conn: &mut PgConnection| conn.advisory_lock(42).unwrap().release().unwrap();
    diesel(conn);
    guard(conn);
    let by_diesel = allocation_counter::measure(|| diesel(conn)).count_total;
    let by_guard = allocation_counter::measure(|| guard(conn)).count_total;
    // One more bind: the backend pid.
    assert!(by_guard <= by_diesel + 1, "{by_guard} against {by_diesel}");
}

#[test]
#[parallel]
fn a_transaction_that_begins_with_a_lock_costs_no_more_than_one_without() {
    let proxy = Counted::start();
    let conn = &mut proxy.connect();
    let mut with_lock = |wait| {
        proxy.count(|| {
            conn.transaction_with_advisory_lock_wait("x", wait, |_| Ok::<_, LockError>(()))
                .unwrap();
        })
    };
    assert_eq!(with_lock(Wait::Block), 2);
    assert_eq!(with_lock(Wait::Timeout(Duration::from_secs(60))), 2);
    assert_eq!(with_lock(Wait::NoWait), 3);
}

#[test]
#[parallel]
fn tables_are_locked_in_one_round_trip_and_tried_in_three() {
    let proxy = Counted::start();
    let conn = &mut proxy.connect();
    conn.begin_test_transaction().unwrap();
    conn.batch_execute("CREATE TABLE accounts (id int); CREATE TABLE jobs (id int)")
        .unwrap();
    let (both, mode) = ((accounts::table, jobs::table), TableLockMode::Share);
    for wait in [
        Wait::Block,
        Wait::NoWait,
        Wait::Timeout(Duration::from_secs(60)),
    ] {
        let flights = proxy.count(|| conn.lock_table_wait(both, mode, wait).unwrap());
        assert_eq!(flights, 1, "{wait:?}");
    }
    let flights = proxy.count(|| assert!(conn.try_lock_table(both, mode).unwrap()));
    assert_eq!(flights, 3);
}

#[test]
#[parallel]
fn a_row_lock_costs_no_more_than_the_select_and_two_for_a_limit() {
    let proxy = Counted::start();
    let conn = &mut proxy.connect();
    support::migrate(conn);
    conn.begin_test_transaction().unwrap();
    let all = || accounts::table.select(accounts::id);
    let shared = || all().lock_rows(RowLock::for_share());
    macro_rules! costs {
        ($count:literal: $($work:expr;)*) => {$(
            let count = proxy.count(|| { $work(&mut *conn).unwrap(); });
            assert_eq!(count, $count, "{}", stringify!($work));
        )*};
    }
    type Conn<'a> = &'a mut PgConnection;
    costs! { 1:
        |conn: Conn<'_>| all().load::<i32>(conn);
        |conn: Conn<'_>| conn.select_for_update::<i32, _>(all());
        |conn: Conn<'_>| conn.select_for_update_nowait::<i32, _>(all());
        |conn: Conn<'_>| conn.get_for_update_nowait::<i32, _>(all());
        |conn: Conn<'_>| conn.execute_for_update_nowait(all());
        |conn: Conn<'_>| conn.select_for_update_skip_locked::<i32, _>(all());
        |conn: Conn<'_>| conn.select_locked_nowait::<i32, _>(shared());
        |conn: Conn<'_>| conn.execute_locked(shared());
    }
    // A timeout of its own at each call, and no statement that is prepared anew.
    let mut milliseconds = 60_000;
    let mut timeout = || {
        milliseconds += 1;
        Duration::from_millis(milliseconds)
    };
    costs! { 3:
        |conn: Conn<'_>| conn.select_for_update_timeout::<i32, _>(all(), timeout());
        |conn: Conn<'_>| conn.execute_locked_timeout(shared(), timeout());
        |conn: Conn<'_>| conn.try_select_for_update::<i32, _>(all());
        |conn: Conn<'_>| conn.try_execute_locked(shared());
        |conn: Conn<'_>| conn.with_lock_timeout(timeout(), |conn| {
            conn.select_for_update_nowait::<i32, _>(all())
        });
    }
    // A refusal, too: the rollback to the savepoint is the third.
    let mut elsewhere = PgConnection::establish(proxy.server.url()).unwrap();
    conn.batch_execute("ROLLBACK; BEGIN").unwrap();
    elsewhere.begin_test_transaction().unwrap();
    elsewhere.execute_for_update(accounts::table).unwrap();
    costs! { 3: |conn: Conn<'_>| conn.try_execute_for_update(all()); }
}

#[test]
#[parallel]
fn a_look_costs_one_round_trip_and_a_graph_a_second_one_if_anybody_waits() {
    let proxy = Counted::start();
    let conn = &mut proxy.connect();
    let connect = || PgConnection::establish(proxy.server.url()).unwrap();
    let mut holder = connect();
    let held = holder.advisory_lock("held").unwrap();
    assert_eq!(proxy.count(|| drop(conn.locks().unwrap())), 1);
    assert_eq!(proxy.count(|| drop(conn.lock_waits().unwrap())), 1);
    assert_eq!(proxy.count(|| drop(WaitGraph::load(conn).unwrap())), 1);

    thread::scope(|scope| {
        for waiting in [1, 5] {
            for mut waiter in (0..waiting).map(|_| connect()) {
                scope.spawn(move || waiter.advisory_lock("held").unwrap().release().unwrap());
            }
            let edges = |conn: &mut PgConnection| conn.lock_waits().unwrap().len();
            support::eventually(|| edges(conn) >= waiting);
            assert_eq!(proxy.count(|| drop(WaitGraph::load(conn).unwrap())), 2);
        }
        held.release().unwrap();
    });
}
