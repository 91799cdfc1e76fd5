//! Indexes that are invalid or not finished.

use std::time::Duration;
use std::{panic, thread};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::{LeftoverIndex, MigrateError, MigrationLock, Retry};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{ACCOUNTS, All, Sql, exists, is_valid, run};
use crate::support::{backend_pid, connect, eventually, terminate, two_sessions};

pub(crate) const INDEX: &str = "CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)";

pub(crate) fn index(sql: &str) -> All {
    All(vec![Sql::new("1", ACCOUNTS), Sql::new("2", sql).outside()])
}

/// Leaves an invalid index, as a failed `CREATE INDEX CONCURRENTLY` does.
pub(crate) fn leave_invalid(conn: &mut PgConnection, index: &str, table: &str) {
    conn.batch_execute(&format!("INSERT INTO {table} VALUES (-1, 'x'), (-2, 'x')"))
        .unwrap();
    conn.batch_execute(&format!(
        "CREATE UNIQUE INDEX CONCURRENTLY {index} ON {table} (owner)"
    ))
    .unwrap_err();
    conn.batch_execute(&format!("DELETE FROM {table}")).unwrap();
}

/// Two sessions, and an index. The first one keeps a concurrent index from being finished.
pub(crate) fn kept_from_being_finished() -> (TestDatabase, PgConnection, PgConnection) {
    let (database, mut writer, conn) = two_sessions(TestDatabase::new().unwrap());
    writer.batch_execute(ACCOUNTS).unwrap();
    writer
        .batch_execute("CREATE INDEX accounts_owner ON accounts (owner)")
        .unwrap();
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    (database, writer, conn)
}

/// Ends the session that builds the index of `migrations` while it waits for a transaction.
pub(crate) fn interrupt(database: &TestDatabase, migrations: &All) {
    let mut conn = connect(database);
    run(&mut conn, &All(migrations.0[..1].to_vec()));
    let mut writer = connect(database);
    writer
        .batch_execute("BEGIN; INSERT INTO accounts VALUES (1, 'ada')")
        .unwrap();
    let pid = backend_pid(&mut conn);
    thread::scope(|scope| {
        let building = scope.spawn(move || MigrationLock::new().run_pending(&mut conn, migrations));
        let observer = &mut connect(database);
        eventually(|| exists(observer, "accounts_owner"));
        terminate(database, pid);
        building.join().unwrap().unwrap_err();
    });
    writer.batch_execute("COMMIT").unwrap();
    let conn = &mut connect(database);
    assert!(exists(conn, "accounts_owner") && !is_valid(conn, "accounts_owner"));
}

pub(crate) fn thrice() -> MigrationLock<'static> {
    let soon = Retry::new().backoff(Duration::ZERO, Duration::ZERO);
    MigrationLock::new().attempts(soon.attempts(3))
}

pub(crate) fn invalid(conn: &mut PgConnection) -> Vec<String> {
    sql::<Text>("SELECT indexrelid::regclass::text FROM pg_index WHERE NOT indisvalid ORDER BY 1")
        .load(conn)
        .unwrap()
}

pub(crate) fn leftovers(error: MigrateError) -> Vec<LeftoverIndex> {
    match error {
        MigrateError::LeftoverIndex { indexes, .. } => indexes,
        error => panic!("{error:?}"),
    }
}
