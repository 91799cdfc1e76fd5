//! What a lock costs: round trips, counted on the wire, and allocations, counted in the process.

mod support;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, RowLock, Wait};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use support::schema::accounts;

/// A proxy before a server of its own, that counts the server's answers.
struct Proxy {
    server: TempPostgres,
    directory: PathBuf,
    answers: Arc<AtomicUsize>,
}

impl Proxy {
    fn start() -> Self {
        let server = TempPostgres::start().unwrap();
        let directory = server.directory().with_extension("proxy");
        std::fs::create_dir(&directory).unwrap();
        let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
        let answers = Arc::new(AtomicUsize::new(0));
        let (counter, socket) = (
            Arc::clone(&answers),
            server.directory().join(".s.PGSQL.5432"),
        );
        thread::spawn(move || {
            let (client, _) = listener.accept().unwrap();
            let server = UnixStream::connect(socket).unwrap();
            let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            thread::spawn(move || pass_on(from, to, |_| ()));
            // Every message has a type and a length; ReadyForQuery ends an answer.
            let (mut seen, mut rest) = (Vec::new(), 0);
            pass_on(server, client, |bytes| {
                for &byte in bytes {
                    if rest > 0 {
                        rest -= 1;
                        continue;
                    }
                    seen.push(byte);
                    if let [kind, a, b, c, d] = seen[..] {
                        rest = u32::from_be_bytes([a, b, c, d]) - 4;
                        counter.fetch_add(usize::from(kind == b'Z'), Ordering::SeqCst);
                        seen.clear();
                    }
                }
            });
        });
        Self {
            server,
            directory,
            answers,
        }
    }

    fn connect(&self) -> PgConnection {
        let socket = self.directory.to_str().unwrap();
        let url = format!("host={socket} port=5432 user=postgres dbname=postgres");
        PgConnection::establish(&url).unwrap()
    }

    /// The round trips of the second time, when the statements are prepared.
    fn count(&self, mut work: impl FnMut()) -> usize {
        work();
        let before = self.answers.load(Ordering::SeqCst);
        work();
        self.answers.load(Ordering::SeqCst) - before
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.directory).unwrap();
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, mut look: impl FnMut(&[u8])) {
    let mut buffer = [0; 8192];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        look(&buffer[..length]);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

#[test]
fn a_lock_costs_one_round_trip_and_so_does_its_release() {
    let proxy = Proxy::start();
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

#[diesel::declare_sql_function]
extern "SQL" {
    /// Diesel's own way to call it.
    fn pg_try_advisory_lock(key: BigInt) -> Bool;
    /// Diesel's own way to call it.
    fn pg_advisory_unlock(key: BigInt) -> Bool;
}

#[test]
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
fn a_transaction_that_begins_with_a_lock_costs_no_more_than_one_without() {
    let proxy = Proxy::start();
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
fn a_row_lock_costs_no_more_than_the_select_and_two_for_a_limit() {
    let proxy = Proxy::start();
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
