//! Locks through PgBouncer in its three modes. In transaction mode it lends a server session for
//! each transaction, in statement mode for each statement.
//!
//! Needs PgBouncer's program (Debian: `apt-get install pgbouncer`), and therefore runs only when
//! it is asked for: `cargo test --test pgbouncer`.

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use diesel::connection::{CacheSize, SimpleConnection};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Error, Pool};
use diesel_locks::prelude::*;
use diesel_locks::{
    AdvisoryLock, AdvisoryLockGuard, LockAwareManager, LockError, MigrateError, MigrationEvent,
    MigrationLock, TableLockMode,
};
use schema::gold;
use support::migrations::{All, Sql};
use support::pooler::PgBouncer;

mod schema {
    diesel::table! { gold { id -> Integer, } }
}

#[test]
fn a_transactions_lock_works() {
    let pgbouncer = PgBouncer::start();
    let (mut here, mut there) = (pgbouncer.connect(), pgbouncer.connect());
    here.transaction_with_advisory_lock("x", |here| {
        assert!(!there.transaction(|there| there.try_advisory_xact_lock("x"))?);
        here.advisory_xact_lock("y")
    })
    .unwrap();
    there
        .transaction(|there| there.advisory_xact_lock_nowait("x"))
        .unwrap();
}

#[test]
fn rows_and_tables_are_locked_in_transaction_mode() {
    let pgbouncer = PgBouncer::start();
    let (mut here, mut there) = (pgbouncer.connect(), pgbouncer.connect());
    here.batch_execute("CREATE TABLE gold (id int PRIMARY KEY); INSERT INTO gold VALUES (1)")
        .unwrap();
    here.transaction::<_, LockError, _>(|here| {
        here.execute_for_update(gold::table.find(1))?;
        let refused = there
            .transaction(|there| there.lock_table_nowait(gold::table, TableLockMode::Exclusive));
        assert!(refused.unwrap_err().is_contention());
        let refused =
            there.transaction(|there| there.execute_for_update_nowait(gold::table.find(1)));
        assert!(refused.unwrap_err().is_contention());
        Ok(())
    })
    .unwrap();
}

#[test]
fn statement_mode_has_no_transactions() {
    let pgbouncer = PgBouncer::start_with("statement", 1);
    let work = |_: &mut PgConnection| -> Result<(), LockError> { unreachable!("no transaction") };
    assert!(pgbouncer.connect().transaction(work).is_err());
    let refused = pgbouncer
        .connect()
        .transaction_with_advisory_lock("x", work);
    assert!(refused.is_err());
}

/// Lets another client keep the session that has the lock, for a transaction, and releases.
fn release_elsewhere<L: AsRef<[AdvisoryLock]>>(
    pgbouncer: &PgBouncer,
    guard: AdvisoryLockGuard<'_, PgConnection, L>,
) {
    let mut other = pgbouncer.connect();
    other.batch_execute("BEGIN; SELECT 1").unwrap();
    let error = guard.release().unwrap_err();
    assert!(
        matches!(error, LockError::SessionChanged { locked_by, now, .. } if locked_by != now),
        "{error:?}"
    );
}

#[test]
fn a_sessions_lock_that_is_left_behind_is_not_silent() {
    for lock in [AdvisoryLock::exclusive("x"), AdvisoryLock::shared((1, 2))] {
        let pgbouncer = PgBouncer::start();
        let mut conn = pgbouncer.connect();
        release_elsewhere(&pgbouncer, conn.advisory_lock(lock).unwrap());
    }
    let pgbouncer = PgBouncer::start();
    let mut conn = pgbouncer.connect();
    release_elsewhere(&pgbouncer, conn.advisory_lock_all(["x", "y"]).unwrap());
}

#[test]
fn a_sessions_lock_whose_session_is_gone_is_not_held() {
    let pgbouncer = PgBouncer::start();
    let mut conn = pgbouncer.connect();
    let mut guard = conn.advisory_lock("x").unwrap();
    guard
        .batch_execute("SELECT pg_advisory_unlock_all()")
        .unwrap();
    assert!(matches!(guard.release(), Err(LockError::NotHeld { .. })));
}

#[test]
fn whoever_shares_a_session_with_a_holder_is_refused_every_lock() {
    for mode in ["transaction", "statement"] {
        let pgbouncer = PgBouncer::start_with(mode, 1);
        let (mut here, mut there) = (pgbouncer.connect(), pgbouncer.connect());
        let mut guard = here.advisory_lock("x").unwrap();
        for lock in ["x", "y"] {
            let refused = [
                there.advisory_lock(lock).map(drop),
                there.advisory_lock_nowait(lock).map(drop),
                there.try_advisory_lock(lock).map(drop),
                (there.advisory_lock_timeout(lock, std::time::Duration::from_secs(5))).map(drop),
                there.advisory_lock_all([lock, "z"]).map(drop),
                there.advisory_lock_all_nowait([lock, "z"]).map(drop),
            ];
            for refused in refused {
                let error = refused.unwrap_err();
                assert!(
                    matches!(error, LockError::SharedSession { .. }),
                    "{error:?}"
                );
                assert!(!error.is_contention() && !error.is_retryable());
            }
        }
        // The holder itself is not disturbed.
        assert!(guard.is_held().unwrap());
        guard.advisory_lock("x").unwrap().release().unwrap();
        guard.release().unwrap();
        for _ in 0..3 {
            there.advisory_lock_nowait("x").unwrap().release().unwrap();
            here.advisory_lock_all(["x", "y"])
                .unwrap()
                .release()
                .unwrap();
        }
    }
}

#[test]
fn a_lock_that_a_client_has_left_behind_refuses_whoever_comes_to_its_session() {
    let pgbouncer = PgBouncer::start_with("transaction", 1);
    let mut here = pgbouncer.connect();
    std::mem::forget(here.advisory_lock("x").unwrap());
    drop(here);
    let error = pgbouncer
        .connect()
        .advisory_lock("x")
        .map(drop)
        .unwrap_err();
    assert!(
        matches!(error, LockError::SharedSession { .. }),
        "{error:?}"
    );
}

#[test]
fn a_connection_that_has_moved_to_another_session_is_refused() {
    let pgbouncer = PgBouncer::start_with("transaction", 2);
    let mut here = pgbouncer.connect();
    here.advisory_lock("x").unwrap().release().unwrap();
    // Another client keeps that session.
    let mut other = pgbouncer.connect();
    other.batch_execute("BEGIN; SELECT 1").unwrap();
    let error = here.advisory_lock("x").map(drop).unwrap_err();
    assert!(
        matches!(error, LockError::SharedSession { .. }),
        "{error:?}"
    );
    other.batch_execute("COMMIT").unwrap();
    // Nothing is left of it.
    let mut direct = PgConnection::establish(pgbouncer.server.url()).unwrap();
    assert!(direct.try_advisory_lock("x").unwrap().is_some());
}

#[derive(Debug)]
struct NoPreparedStatements;

impl CustomizeConnection<PgConnection, Error> for NoPreparedStatements {
    fn on_acquire(&self, conn: &mut PgConnection) -> Result<(), Error> {
        conn.set_prepared_statement_cache_size(CacheSize::Disabled);
        Ok(())
    }
}

#[test]
fn a_pool_that_cleans_up_leaves_the_locks_of_other_clients_alone() {
    let pgbouncer = PgBouncer::start_with("transaction", 1);
    let mut conn = pgbouncer.connect();
    let mut guard = conn.advisory_lock("x").unwrap();
    let manager = ConnectionManager::<PgConnection>::new(pgbouncer.url());
    let pool = Pool::builder()
        .max_size(1)
        .connection_customizer(Box::new(NoPreparedStatements))
        .build(LockAwareManager::new(manager))
        .unwrap();
    for _ in 0..2 {
        drop(pool.get().unwrap());
    }
    assert!(guard.is_held().unwrap());
}

/// Eight clients enter one section again and again, and nobody is in it beside another.
fn enter_again_and_again(mode: &str, sessions: usize) -> (usize, usize) {
    let pgbouncer = PgBouncer::start_with(mode, sessions);
    let is_inside = AtomicBool::new(false);
    let (entered, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let enter = |conn: &mut PgConnection| -> Result<(), LockError> {
        let mut guard = conn.advisory_lock_nowait("x")?;
        assert!(
            !is_inside.swap(true, Ordering::SeqCst),
            "{mode}, {sessions}"
        );
        // Another client may be lent the session meanwhile.
        let looked = guard.batch_execute("SELECT 1");
        thread::yield_now();
        is_inside.store(false, Ordering::SeqCst);
        looked?;
        guard.release()?;
        entered.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let clients = if mode == "session" { sessions } else { 8 };
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut conn = pgbouncer.connect();
                for _ in 0..200 {
                    let Err(error) = enter(&mut conn) else {
                        continue;
                    };
                    refused.fetch_add(1, Ordering::Relaxed);
                    assert!(
                        matches!(
                            error,
                            LockError::NotAvailable { .. }
                                | LockError::SharedSession { .. }
                                | LockError::SessionChanged { .. }
                                | LockError::ConnectionLost { .. }
                        ),
                        "{error:?}"
                    );
                }
            });
        }
    });
    (entered.into_inner(), refused.into_inner())
}

#[test]
fn no_two_clients_are_in_one_section_in_any_mode() {
    for mode in ["transaction", "statement"] {
        let (entered, refused) = enter_again_and_again(mode, 1);
        assert!(entered > 0 && refused > 0);
        enter_again_and_again(mode, 4);
    }
    let (entered, refused) = enter_again_and_again("session", 1);
    assert_eq!((entered, refused), (200, 0));
    let (entered, _) = enter_again_and_again("session", 4);
    assert!(entered > 0);
}

fn three_tables() -> All {
    All(vec![
        Sql::new("1", "CREATE TABLE a (id int)"),
        Sql::new("2", "CREATE TABLE b (id int)"),
        Sql::new("3", "CREATE TABLE c (id int)").outside(),
    ])
}

#[test]
fn whoever_shares_a_session_with_a_migration_is_refused_before_anything_is_changed() {
    let pgbouncer = PgBouncer::start_with("transaction", 1);
    let (mut here, mut there) = (pgbouncer.connect(), pgbouncer.connect());
    let mut refusals = Vec::new();
    let lock = MigrationLock::new().on_progress(|event| {
        if let MigrationEvent::Began { .. } = event {
            let refused = MigrationLock::new().run_pending(&mut there, &three_tables());
            refusals.push(refused.unwrap_err());
        }
    });
    assert_eq!(
        lock.run_pending(&mut here, &three_tables()).unwrap().len(),
        3
    );
    drop(lock);
    assert_eq!(refusals.len(), 3);
    for error in refusals {
        assert!(
            matches!(error, MigrateError::Lock(LockError::SharedSession { .. })),
            "{error}"
        );
    }
}

#[test]
fn a_migration_that_comes_to_another_session_is_not_begun() {
    for (after, left) in [("1", "b"), ("2", "c")] {
        let pgbouncer = PgBouncer::start();
        let mut conn = pgbouncer.connect();
        let mut other = pgbouncer.connect();
        let lock = MigrationLock::new().on_progress(|event| {
            if let MigrationEvent::Done { migration, .. } = event
                && migration == after
            {
                // Takes the session that has the lock.
                other.batch_execute("BEGIN; SELECT 1").unwrap();
            }
        });
        let error = lock.run_pending(&mut conn, &three_tables()).unwrap_err();
        drop(lock);
        assert!(
            matches!(error, MigrateError::Lock(LockError::SessionChanged { .. })),
            "{error}"
        );
        let mut direct = PgConnection::establish(pgbouncer.server.url()).unwrap();
        direct
            .batch_execute(&format!("CREATE TABLE {left} (id int)"))
            .unwrap();
    }
}

#[test]
fn a_pooler_that_names_prepared_statements_is_noticed_before_anything_is_changed() {
    // As PgBouncer does since 1.21 in transaction mode, if it is asked to keep any.
    for (mode, is_noticed) in [("transaction", true), ("session", false)] {
        let pgbouncer = PgBouncer::start_with(mode, 4);
        let mut conn = PgConnection::establish(&pgbouncer.url()).unwrap();
        if !pgbouncer.names_prepared_statements() {
            conn.batch_execute(if is_noticed {
                "PREPARE \"PGBOUNCER_1\" AS SELECT 1"
            } else {
                "SELECT 1"
            })
            .unwrap();
        }
        let done = MigrationLock::new().run_pending(&mut conn, &three_tables());
        if !is_noticed {
            assert_eq!(done.unwrap().len(), 3);
            continue;
        }
        let error = done.unwrap_err();
        assert!(
            matches!(error, MigrateError::Lock(LockError::SharedSession { .. })),
            "{error}"
        );
        let mut direct = PgConnection::establish(pgbouncer.server.url()).unwrap();
        direct.batch_execute("CREATE TABLE a (id int)").unwrap();
        let free = direct.advisory_lock_nowait("migrations of postgres");
        free.unwrap().release().unwrap();
    }
}
