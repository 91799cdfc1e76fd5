//! A job queue in ten lines, with `SKIP LOCKED`: `cargo run --example job_queue`.
//!
//! Four workers share twelve jobs. One of them is killed in the middle of a job, which goes back
//! to the queue; every job is done exactly once. The exit code is not 0 if it is not.

#[path = "../tests/support/schema.rs"]
mod schema;

use std::sync::Barrier;
use std::thread;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Integer;
use diesel_locks::LockError;
use diesel_locks::prelude::*;
use diesel_locks_harness::TestDatabase;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use schema::jobs;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
const JOBS: i32 = 12;
const WORKERS: usize = 4;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Takes one job that nobody else has, does it, and returns it; `None` when none is left.
fn work_off_one(
    conn: &mut PgConnection,
    work: impl FnOnce(&mut PgConnection, i32, &str) -> std::result::Result<(), LockError>,
) -> std::result::Result<Option<i32>, LockError> {
    conn.transaction(|conn| {
        let next = jobs::table
            .filter(jobs::done.eq(false))
            .order(jobs::id)
            .limit(1);
        let next = next.select((jobs::id, jobs::payload));
        let Some((id, payload)) = conn
            .select_for_update_skip_locked::<(i32, String), _>(next)?
            .pop()
        else {
            return Ok(None);
        };
        work(conn, id, &payload)?;
        diesel::update(jobs::table.find(id))
            .set(jobs::done.eq(true))
            .execute(conn)?;
        Ok(Some(id))
    })
}

/// Waits until nobody has a job in hand, and says whether one came back.
fn wait_for_others(conn: &mut PgConnection) -> std::result::Result<bool, LockError> {
    conn.transaction(|conn| {
        let in_hand = jobs::table.filter(jobs::done.eq(false)).select(jobs::id);
        Ok(conn.execute_for_update(in_hand)? > 0)
    })
}

fn main() -> Result {
    let database = TestDatabase::new()?.migrated(MIGRATIONS)?;
    let mut conn = PgConnection::establish(database.url())?;
    conn.batch_execute(&format!(
        "CREATE TABLE finished (job integer); \
         INSERT INTO jobs (account_id, payload) \
         SELECT 1, pg_catalog.concat('invoice ', n) FROM pg_catalog.generate_series(1, {JOBS}) AS n"
    ))?;
    println!(
        "{JOBS} jobs, {WORKERS} workers; worker 0 will be killed in the middle of its first.\n"
    );

    // Everybody has a job before the first one is finished.
    let all_busy = Barrier::new(WORKERS);
    let counts = thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|worker| {
                let (database, all_busy) = (&database, &all_busy);
                scope.spawn(move || run_worker(worker, database, all_busy))
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().map_err(|_| "a worker panicked")?)
            .collect::<Result<Vec<usize>>>()
    })?;

    println!();
    for (worker, count) in counts.iter().enumerate() {
        println!("worker {worker} finished {count}");
    }
    let finished: Vec<i32> =
        sql::<Integer>("SELECT job FROM finished ORDER BY job").load(&mut conn)?;
    if finished != (1..=JOBS).collect::<Vec<_>>() {
        return Err(format!("not every job was done exactly once: {finished:?}").into());
    }
    println!("\n✓ every job was done exactly once");
    Ok(())
}

/// Works until no job is left, and returns how many were done.
fn run_worker(worker: usize, database: &TestDatabase, all_busy: &Barrier) -> Result<usize> {
    let mut conn = PgConnection::establish(database.url())?;
    let mut count = 0;
    let mut is_first = true;
    loop {
        let done = work_off_one(&mut conn, |conn, id, payload| {
            println!("worker {worker} has job {id}, {payload}");
            if std::mem::take(&mut is_first) {
                all_busy.wait();
            }
            diesel::sql_query("INSERT INTO finished VALUES ($1)")
                .bind::<Integer, _>(id)
                .execute(conn)?;
            if worker == 0 {
                // The server ends this session: the same as a machine that loses its power.
                conn.batch_execute(
                    "SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())",
                )?;
            }
            Ok(())
        });
        match done {
            Ok(Some(_)) => count += 1,
            Ok(None) if wait_for_others(&mut conn)? => {}
            Ok(None) => return Ok(count),
            Err(LockError::ConnectionLost { .. }) => {
                println!("worker {worker} was killed, and its job is back in the queue");
                return Ok(count);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
