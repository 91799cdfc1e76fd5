//! What the tests share: the schema, a migrated database, and a look at the server.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "no test uses all of it"
)]

pub(crate) mod chance;
pub(crate) mod directory;
pub(crate) mod migrations;
pub(crate) mod pooler;
pub(crate) mod proxy;
pub(crate) mod schema;
pub(crate) mod second_process;
pub(crate) mod server;
pub(crate) mod standby;

use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, Pool};
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

pub(crate) fn database() -> TestDatabase {
    TestDatabase::new().unwrap().migrated(MIGRATIONS).unwrap()
}

/// Gives a database the schema that the tests use.
pub(crate) fn migrate(conn: &mut PgConnection) {
    conn.run_pending_migrations(MIGRATIONS).unwrap();
}

pub(crate) fn connect(database: &TestDatabase) -> PgConnection {
    PgConnection::establish(database.url()).unwrap()
}

pub(crate) type PgPool = Pool<ConnectionManager<PgConnection>>;

/// Diesel's own pool.
pub(crate) fn pool(database: &TestDatabase, size: u32) -> PgPool {
    let manager = ConnectionManager::new(database.url());
    Pool::builder().max_size(size).build(manager).unwrap()
}

/// A database, and two sessions of it.
pub(crate) fn two_sessions(database: TestDatabase) -> (TestDatabase, PgConnection, PgConnection) {
    let (here, there) = (connect(&database), connect(&database));
    (database, here, there)
}

pub(crate) fn backend_pid<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> i32 {
    diesel::select(sql::<Integer>("pg_catalog.pg_backend_pid()"))
        .get_result(conn)
        .unwrap()
}

/// The lock timeout that is in force, in the words of whoever set it.
pub(crate) fn lock_timeout<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> String {
    diesel::select(sql::<Text>("pg_catalog.current_setting('lock_timeout')"))
        .get_result(conn)
        .unwrap()
}

/// Ends another session, and returns when the server has.
pub(crate) fn terminate(database: &TestDatabase, pid: i32) {
    let conn = &mut connect(database);
    let ended: bool = diesel::select(
        sql::<Bool>("pg_catalog.pg_terminate_backend(")
            .bind::<Integer, _>(pid)
            .sql(")"),
    )
    .get_result(conn)
    .unwrap();
    assert!(ended);
    // PostgreSQL 13 has no such call that waits.
    eventually(|| !is_connected(conn, pid));
}

fn is_connected(conn: &mut PgConnection, pid: i32) -> bool {
    diesel::select(
        sql::<Bool>(
            "EXISTS (SELECT FROM pg_catalog.pg_stat_activity \
             WHERE pid OPERATOR(pg_catalog.=) ",
        )
        .bind::<Integer, _>(pid)
        .sql(")"),
    )
    .get_result(conn)
    .unwrap()
}

/// Asks until it is so: the server ends a session a moment after its client has closed it.
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(20), "it is not so");
    }
}

/// Whether a session waits for a lock.
pub(crate) fn is_blocked(conn: &mut PgConnection, pid: i32) -> bool {
    diesel::select(
        sql::<Bool>("pg_catalog.cardinality(pg_catalog.pg_blocking_pids(")
            .bind::<Integer, _>(pid)
            .sql(")) OPERATOR(pg_catalog.>) 0"),
    )
    .get_result(conn)
    .unwrap()
}

/// Whether a session waits for a table.
pub(crate) fn waits_for_a_table(database: &TestDatabase, pid: i32) -> bool {
    diesel::select(
        sql::<Bool>(
            "EXISTS (SELECT FROM pg_catalog.pg_locks WHERE locktype OPERATOR(pg_catalog.=) \
             'relation' AND NOT granted AND pid OPERATOR(pg_catalog.=) ",
        )
        .bind::<Integer, _>(pid)
        .sql(")"),
    )
    .get_result(&mut connect(database))
    .unwrap()
}

/// How many advisory locks are held, or waited for, in the database.
pub(crate) fn advisory_locks(database: &TestDatabase) -> i64 {
    sql::<BigInt>(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_locks JOIN pg_catalog.pg_database \
         ON pg_database.oid OPERATOR(pg_catalog.=) pg_locks.database \
         WHERE locktype OPERATOR(pg_catalog.=) 'advisory' \
         AND datname OPERATOR(pg_catalog.=) pg_catalog.current_database()",
    )
    .get_result(&mut connect(database))
    .unwrap()
}

/// How many other connections the database has.
pub(crate) fn connections(database: &TestDatabase) -> i64 {
    sql::<BigInt>(
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity \
         WHERE datname OPERATOR(pg_catalog.=) pg_catalog.current_database() \
         AND pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid()",
    )
    .get_result(&mut connect(database))
    .unwrap()
}
