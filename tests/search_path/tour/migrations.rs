use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::migration::MigrationSource;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{End, LibraryMigrations, LockError, MigrateError, MigrationLock, Retry};
use diesel_migrations::{MigrationHarness, embed_migrations};

use super::{SHORT, Tour};
use crate::support::migrations::{All, Sql};

const LIBRARY: LibraryMigrations =
    LibraryMigrations::new("library", embed_migrations!("tests/search_path/migrations"));

pub(super) fn go(tour: &Tour<'_>) {
    let conn = &mut tour.connect();
    let migrations = All(vec![
        Sql::new("91", "CREATE TABLE public.a (id pg_catalog.int4)").down("DROP TABLE public.a"),
        Sql::new("92", "CREATE INDEX CONCURRENTLY a_id ON public.a (id)")
            .outside()
            .down("DROP INDEX CONCURRENTLY public.a_id"),
        // The schema's own, which is applied where nothing comes before it in the path.
        Sql::new("20261121000000", "SELECT 1"),
    ]);
    let lock = MigrationLock::new()
        .name("tour")
        .lock_timeout(Duration::from_secs(60))
        .statement_timeout(Duration::from_secs(60));
    lock.dry_run(conn, &migrations).unwrap();
    lock.run_next(conn, &migrations).unwrap();
    lock.run_pending(conn, &migrations).unwrap();
    lock.revert_last(conn, &migrations).unwrap();
    lock.revert_all(conn, &migrations).unwrap();
    let all = (&migrations).migrations().unwrap();
    lock.run_migration(conn, &*all[0]).unwrap();
    lock.revert_migration(conn, &*all[0]).unwrap();
    MigrationLock::new()
        .prioritize(|| tour.try_connect(), End::Cancel, SHORT)
        .run_pending(conn, &All(vec![]))
        .unwrap();
    let mut harness = MigrationLock::new().harness(conn);
    harness.run_pending_migrations(&migrations).unwrap();
    harness.revert_all_migrations(&migrations).unwrap();
    LIBRARY.run_pending(conn).unwrap();
    LIBRARY.revert_all(conn).unwrap();
    conn.transaction(|conn| lock.run_pending(conn, &All(vec![])))
        .unwrap();

    refused(tour, conn, &migrations);
    interrupted(tour, conn, &migrations);
}

/// Somebody has the lock, or that of a table.
fn refused(tour: &Tour<'_>, conn: &mut PgConnection, migrations: &All) {
    let mut other = tour.connect();
    let begun = MigrationLock::new().on_progress(|_| {
        let lock = MigrationLock::new().timeout(SHORT);
        let error = lock.run_pending(&mut other, migrations).unwrap_err();
        assert!(matches!(error, MigrateError::Timeout { .. }));
    });
    begun.run_pending(conn, migrations).unwrap();
    drop(begun);

    // Outside a transaction it would wait for the other one's without end.
    MigrationLock::new().revert_last(conn, migrations).unwrap();
    other
        .batch_execute("BEGIN; LOCK TABLE public.a IN ACCESS SHARE MODE")
        .unwrap();
    let lock = MigrationLock::new()
        .lock_timeout(SHORT)
        .attempts(Retry::new().attempts(2));
    let error = lock.revert_all(conn, migrations).unwrap_err();
    assert!(matches!(error, MigrateError::Failed { attempts: 2, .. }));
    other.batch_execute("ROLLBACK").unwrap();

    let guard = other.advisory_lock_nowait("tour").unwrap();
    let error = conn.advisory_lock_nowait("tour").map(drop).unwrap_err();
    assert!(matches!(error, LockError::NotAvailable { .. }));
    assert_eq!(error.holders(conn).unwrap().len(), 1);
    guard.release().unwrap();
}

/// An index was left behind.
fn interrupted(tour: &Tour<'_>, conn: &mut PgConnection, migrations: &All) {
    conn.batch_execute("INSERT INTO public.a VALUES (1), (1)")
        .unwrap();
    let unique = "CREATE UNIQUE INDEX CONCURRENTLY a_id ON public.a (id)";
    let unique = All(vec![
        migrations.0[0].clone(),
        Sql::new("92", unique).outside(),
    ]);
    let error = MigrationLock::new().run_pending(conn, &unique).unwrap_err();
    assert!(matches!(error, MigrateError::LeftoverIndex { .. }));
    let lock = MigrationLock::new().drop_invalid_indexes(true);
    lock.run_pending(&mut tour.connect(), migrations).unwrap();
    lock.revert_all(conn, migrations).unwrap();
}
