//! How long a row lock waits, for rows and for their table, and what is in force afterwards.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, LockTarget, RowLock};
use diesel_locks_harness::{TempPostgres, TestDatabase};
use serial_test::parallel;

use super::endings::SHORT;
use super::locks::Account;
use crate::support::schema::{accounts, jobs};
use crate::support::server::signal;
use crate::support::{backend_pid, connect, database, eventually, is_blocked, lock_timeout};

const LONG: Duration = Duration::from_secs(60);

/// A session in whose way nothing is, with a lock timeout of its own.
fn session(database: &TestDatabase) -> PgConnection {
    let mut conn = connect(database);
    conn.batch_execute("SET lock_timeout = '90s'; SET statement_timeout = '100s'")
        .unwrap();
    conn.begin_test_transaction().unwrap();
    conn
}

/// The time limits that are in force.
fn limits(conn: &mut PgConnection) -> (String, String) {
    let statement_timeout = diesel::select(sql::<Text>(
        "pg_catalog.current_setting('statement_timeout')",
    ));
    (
        lock_timeout(conn),
        statement_timeout.get_result(conn).unwrap(),
    )
}

fn assert_as_before(conn: &mut PgConnection) {
    assert_eq!(limits(conn), ("90s".to_owned(), "100s".to_owned()));
}

/// A session that has altered the table and not committed.
fn alter(database: &TestDatabase) -> PgConnection {
    let mut conn = connect(database);
    conn.begin_test_transaction().unwrap();
    conn.batch_execute("ALTER TABLE accounts ADD COLUMN note text")
        .unwrap();
    conn
}

fn relation(target: &Option<LockTarget>) -> Option<&str> {
    match target {
        Some(LockTarget::Row { relation }) => Some(relation),
        _ => None,
    }
}

#[test]
#[parallel]
fn behind_an_alter_table_nothing_waits_that_has_a_limit() {
    let database = database();
    let conn = &mut session(&database);
    // Prepared, so that the wait is in the execution; and what is not waits in the preparation.
    conn.transaction::<(), LockError, _>(|conn| {
        assert_eq!(conn.try_execute_for_update(accounts::table)?, Some(2));
        conn.get_for_update_timeout::<i32, _>(accounts::table.select(accounts::id), LONG)?;
        Err(LockError::NotInTransaction)
    })
    .unwrap_err();
    let altering = alter(&database);
    let one = || accounts::table.find(1).select(accounts::id);

    let begun = Instant::now();
    assert_eq!(conn.try_select_for_update::<i32, _>(one()).unwrap(), None);
    assert_eq!(conn.try_get_for_update::<i32, _>(one()).unwrap(), None);
    assert_eq!(conn.try_execute_for_update(accounts::table).unwrap(), None);
    let shared = one().lock_rows(RowLock::for_share());
    assert_eq!(conn.try_get_locked::<i32, _>(shared).unwrap(), None);
    let shared = one().lock_rows(RowLock::for_share().skip_locked());
    assert_eq!(conn.try_execute_locked(shared).unwrap(), None);
    assert_as_before(conn);

    for query in [
        accounts::table.select(accounts::id).into_boxed(),
        one().into_boxed(),
    ] {
        let late = conn.transaction(|conn| conn.get_for_update_timeout::<i32, _>(query, SHORT));
        let Err(LockError::Timeout { target, after, .. }) = late else {
            panic!("{late:?}");
        };
        assert_eq!((relation(&target), after), (Some("accounts"), Some(SHORT)));
        assert_as_before(conn);
    }

    for attempt in [
        |conn: &mut PgConnection| conn.execute_for_update_nowait(accounts::table),
        |conn: &mut PgConnection| conn.execute_for_update_skip_locked(accounts::table),
        |conn: &mut PgConnection| conn.execute_for_update(accounts::table),
    ] {
        let late = conn.transaction(|conn| conn.with_lock_timeout(SHORT, attempt));
        assert!(matches!(late, Err(LockError::Timeout { .. })), "{late:?}");
        assert_as_before(conn);
    }
    // The session's own limit is 90 s.
    assert!(begun.elapsed() < Duration::from_secs(30));
    drop(altering);
    eventually(|| conn.try_execute_for_update(accounts::table).unwrap() == Some(2));
}

#[test]
#[parallel]
fn behind_an_alter_table_that_waits_itself_a_try_does_not_wait() {
    let database = database();
    let (reader, conn) = (&mut session(&database), &mut session(&database));
    reader
        .select_locked::<i32, _>(
            accounts::table
                .select(accounts::id)
                .lock_rows(RowLock::for_key_share()),
        )
        .unwrap();
    let mut altering = connect(&database);
    let pid = backend_pid(&mut altering);
    thread::scope(|scope| {
        scope.spawn(|| {
            let sql = "BEGIN; ALTER TABLE accounts ADD COLUMN note text; ROLLBACK";
            altering.batch_execute(sql).unwrap();
        });
        eventually(|| is_blocked(conn, pid));
        let begun = Instant::now();
        assert_eq!(conn.try_execute_for_update(accounts::table).unwrap(), None);
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_as_before(conn);
        reader.batch_execute("ROLLBACK").unwrap();
    });
}

#[test]
#[parallel]
fn behind_an_alter_table_nowait_and_skip_locked_wait_for_the_table() {
    let database = database();
    for attempt in [
        |conn: &mut PgConnection| conn.execute_for_update_nowait(accounts::table),
        |conn: &mut PgConnection| conn.execute_for_update_skip_locked(accounts::table),
    ] {
        let altering = alter(&database);
        let (mut conn, mut observer) = (session(&database), connect(&database));
        let pid = backend_pid(&mut conn);
        thread::scope(|scope| {
            let attempt = scope.spawn(move || attempt(&mut conn));
            eventually(|| is_blocked(&mut observer, pid));
            drop(altering);
            assert_eq!(attempt.join().unwrap().unwrap(), 2);
        });
    }
}

#[test]
#[parallel]
fn three_locked_rows_share_one_timeout() {
    let database = database();
    connect(&database)
        .batch_execute("INSERT INTO accounts VALUES (3, 'Edsger', 0)")
        .unwrap();
    let mut holders = [1, 2, 3].map(|id| {
        let mut holder = connect(&database);
        holder.begin_test_transaction().unwrap();
        holder.execute_for_update(accounts::table.find(id)).unwrap();
        Some(holder)
    });
    let timeout = Duration::from_secs(3);
    let mut conn = session(&database);
    let (pid, observer) = (backend_pid(&mut conn), &mut connect(&database));
    thread::scope(|scope| {
        let attempt = scope.spawn(move || {
            let all = accounts::table.order(accounts::id);
            let late =
                conn.transaction(|conn| conn.select_for_update_timeout::<Account, _>(all, timeout));
            assert_as_before(&mut conn);
            (late, Instant::now())
        });
        // A wait for the second row begins late in the time that there is for all of them.
        eventually(|| is_blocked(observer, pid));
        let begun = Instant::now();
        while begun.elapsed() < timeout * 2 / 3 {
            assert!(is_blocked(observer, pid));
        }
        let let_go = Instant::now();
        holders[0] = None;
        let (late, ended) = attempt.join().unwrap();
        let Err(LockError::Timeout { target, after, .. }) = late else {
            panic!("{late:?}");
        };
        assert_eq!(
            (relation(&target), after),
            (Some("accounts"), Some(timeout))
        );
        assert!(ended.duration_since(let_go) < timeout);
    });
}

#[test]
#[parallel]
fn the_limits_are_as_before_however_it_ends() {
    let database = database();
    let conn = &mut session(&database);
    conn.get_for_update_timeout::<Account, _>(accounts::table.find(1), SHORT)
        .unwrap();
    assert_as_before(conn);
    conn.try_get_for_update::<Account, _>(accounts::table.find(1))
        .unwrap();
    assert_as_before(conn);
    // What the server has done and the client cannot read leaves the transaction as it is.
    let unreadable = || accounts::table.select(sql::<diesel::sql_types::Integer>("NULL::integer"));
    for unread in [
        conn.select_for_update_timeout::<i32, _>(unreadable(), SHORT)
            .map(drop),
        conn.try_select_for_update::<i32, _>(unreadable()).map(drop),
        conn.with_lock_timeout(SHORT, |conn| conn.get_for_update::<i32, _>(unreadable()))
            .map(drop),
    ] {
        assert!(matches!(unread, Err(LockError::Database(_))), "{unread:?}");
        assert_as_before(conn);
    }
    // An error of the server, in a savepoint.
    let failing = || accounts::table.select(sql::<diesel::sql_types::Integer>("1 / 0"));
    for failed in [
        conn.try_select_for_update::<i32, _>(failing()).map(drop),
        conn.transaction(|conn| conn.get_for_update_timeout::<i32, _>(failing(), SHORT))
            .map(drop),
        conn.transaction(|conn| {
            conn.with_lock_timeout(SHORT, |conn| conn.get_for_update::<i32, _>(failing()))
        })
        .map(drop),
    ] {
        assert!(matches!(failed, Err(LockError::Database(_))), "{failed:?}");
        assert_as_before(conn);
    }
}

#[test]
#[parallel]
fn a_lock_timeout_is_in_force_for_its_closure_alone() {
    let database = database();
    let conn = &mut session(&database);
    conn.with_lock_timeout(Duration::from_millis(1500), |conn| {
        assert_eq!(limits(conn), ("1500ms".to_owned(), "100s".to_owned()));
        conn.with_lock_timeout(SHORT, |conn| {
            assert_eq!(lock_timeout(conn), "20ms");
            assert_eq!(conn.try_execute_for_update(accounts::table)?, Some(2));
            conn.execute_for_update_timeout(accounts::table, LONG)?;
            assert_eq!(limits(conn), ("20ms".to_owned(), "100s".to_owned()));
            Ok::<_, LockError>(())
        })?;
        assert_eq!(lock_timeout(conn), "1500ms");
        Ok::<_, LockError>(())
    })
    .unwrap();
    assert_as_before(conn);
    let failed = conn.transaction(|conn| {
        conn.with_lock_timeout(SHORT, |conn| {
            conn.batch_execute("SELECT 1 / 0").unwrap_err();
            Ok::<_, LockError>(())
        })
    });
    assert!(
        matches!(failed, Err(LockError::TransactionAborted { .. })),
        "{failed:?}"
    );
    assert_as_before(conn);
}

#[test]
#[parallel]
fn a_timeout_names_the_table_that_the_query_tells() {
    let database = database();
    connect(&database)
        .batch_execute("INSERT INTO jobs (account_id, payload) VALUES (1, 'pay')")
        .unwrap();
    let mut holder = connect(&database);
    holder.begin_test_transaction().unwrap();
    holder.execute_for_update(accounts::table).unwrap();
    holder.execute_for_update(jobs::table).unwrap();
    let conn = &mut session(&database);
    let other = diesel::alias!(accounts as other);
    let join = || accounts::table.inner_join(jobs::table);
    let share = RowLock::for_share();
    let mut told = |attempt: &dyn Fn(&mut PgConnection) -> Result<usize, LockError>| match conn
        .transaction(|conn| attempt(conn))
    {
        Err(LockError::Timeout { target, .. }) => relation(&target).map(str::to_owned),
        other => panic!("{other:?}"),
    };
    let alias = told(&|conn| conn.execute_for_update_timeout(other, SHORT));
    assert_eq!(alias.as_deref(), Some("accounts"));
    let counted = told(&|conn| {
        conn.execute_for_update_timeout(jobs::table.filter(jobs::done.eq(false)), SHORT)
    });
    assert_eq!(counted.as_deref(), Some("jobs"));
    let of =
        told(&|conn| conn.execute_locked_timeout(join().lock_rows(share.of(jobs::table)), SHORT));
    assert_eq!(of.as_deref(), Some("jobs"));
    let one_of_two = told(&|conn| conn.execute_for_update_timeout(join(), SHORT));
    assert_eq!(one_of_two, None);
}

/// The server process is stopped for moments, so that each statement may be the one that takes too
/// long, also the one that puts the limits back.
#[test]
#[parallel]
fn a_timeout_is_a_timeout_whichever_statement_it_ends() {
    // Its processes are on this machine.
    let server = TempPostgres::start().unwrap();
    let mut conn = PgConnection::establish(server.url()).unwrap();
    crate::support::migrate(&mut conn);
    let pid = backend_pid(&mut conn);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // At another moment of a statement each time, for longer than the limit.
            for moment in (0..1_000).step_by(37).cycle() {
                thread::sleep(Duration::from_micros(moment));
                signal("-STOP", &[pid]);
                thread::sleep(Duration::from_millis(2));
                signal("-CONT", &[pid]);
                if is_over.load(Ordering::Relaxed) {
                    return;
                }
            }
        });
        let mut others = Vec::new();
        let (mut late, mut number) = (0, 0);
        let begun = Instant::now();
        while number < 1_000 || (late == 0 && begun.elapsed() < Duration::from_secs(60)) {
            number += 1;
            let locked = conn.transaction(|conn| {
                conn.execute_for_update_timeout(accounts::table, Duration::from_millis(1))
            });
            match locked {
                Ok(_) => {}
                Err(LockError::Timeout { .. }) => late += 1,
                Err(error) => others.push(error),
            }
        }
        is_over.store(true, Ordering::Relaxed);
        assert!(others.is_empty(), "{} of {others:?}", others.len());
        assert!(late > 0);
    });
}
