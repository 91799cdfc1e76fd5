use std::thread;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{Condition, MigrateError, MigrationLock, condition};

use crate::support::migrations::All;
use crate::support::standby::Pair;
use crate::support::{backend_pid, eventually, is_blocked};

/// The second waits for whoever has this lock.
fn migrations() -> All {
    All::of([
        (
            "1",
            "CREATE TABLE runs (n int); INSERT INTO runs VALUES (1)",
        ),
        (
            "2",
            "INSERT INTO runs VALUES (2); SELECT pg_advisory_xact_lock(7); CREATE TABLE later ()",
        ),
        ("3", "INSERT INTO runs VALUES (3)"),
    ])
}

fn migrate(conn: &mut PgConnection) -> Result<Vec<String>, MigrateError> {
    let done = MigrationLock::new().run_pending(conn, &migrations())?;
    Ok(done.iter().map(ToString::to_string).collect())
}

fn runs(conn: &mut PgConnection) -> Vec<i32> {
    let runs = diesel::dsl::sql::<diesel::sql_types::Integer>("SELECT n FROM runs ORDER BY n");
    runs.load(conn).unwrap()
}

/// A run that has come as far as the second migration, and goes no further as long as `holder`
/// has its lock.
fn stuck(
    pair: &Pair,
    holder: &mut PgConnection,
) -> thread::JoinHandle<Result<Vec<String>, MigrateError>> {
    holder.batch_execute("SELECT pg_advisory_lock(7)").unwrap();
    let mut conn = pair.connect_to_old();
    conn.batch_execute("SET synchronous_commit = on").unwrap();
    let pid = backend_pid(&mut conn);
    let migrating = thread::spawn(move || migrate(&mut conn));
    eventually(|| is_blocked(holder, pid));
    migrating
}

#[test]
fn migrations_that_lose_their_primary_are_completed_at_the_new_one() {
    let pair = Pair::start();
    let mut holder = pair.connect_to_old();
    let migrating = stuck(&pair, &mut holder);
    let mut new = pair.connect_to_new();
    // What is replicated is not run again.
    eventually(|| new.batch_execute("SELECT FROM runs").is_ok());
    pair.fail_over();
    let error = migrating.join().unwrap().unwrap_err();
    assert_eq!(
        condition(&error),
        Some(Condition::ConnectionLost),
        "{error:?}"
    );
    assert_eq!(migrate(&mut new).unwrap(), ["2", "3"]);
    assert_eq!(runs(&mut new), [1, 2, 3]);
}

#[test]
fn migrations_at_a_primary_that_lives_on_are_of_that_one_alone() {
    let pair = Pair::start();
    let mut holder = pair.connect_to_old();
    let migrating = stuck(&pair, &mut holder);
    let mut new = pair.connect_to_new();
    eventually(|| new.batch_execute("SELECT FROM runs").is_ok());
    pair.standby.promote();
    // The lock around migrations is another one there.
    assert_eq!(migrate(&mut new).unwrap(), ["2", "3"]);
    holder
        .batch_execute("SELECT pg_advisory_unlock(7)")
        .unwrap();
    assert_eq!(migrating.join().unwrap().unwrap(), ["1", "2", "3"]);
    assert_eq!(runs(&mut holder), [1, 2, 3]);
    assert_eq!(runs(&mut new), [1, 2, 3]);
}
