//! Both ideas of this crate on a real server: `cargo run --example contention`.
//!
//! Starts a private PostgreSQL server (or uses that of `DATABASE_URL`), lets threads and processes
//! contend for locks, and prints what happened. The exit code is not 0 if anything is not as it
//! should be.

#[path = "../tests/support/schema.rs"]
mod schema;

use std::env;
use std::process::{Command, ExitCode};
use std::time::Instant;

use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};
use diesel_locks_harness::{Contention, Outcome, TestDatabase};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use schema::accounts;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let second_process = env::args().skip(1).collect::<Vec<_>>();
    let done = match &second_process[..] {
        [] => show(),
        [url] => follow(url),
        _ => Err("the only argument is a database's URL".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\n  ✗ {error}");
            let mut cause = error.source();
            while let Some(error) = cause {
                eprintln!("    because: {error}");
                cause = error.source();
            }
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result {
    let begun = Instant::now();
    let database = TestDatabase::new()?.migrated(MIGRATIONS)?;
    println!(
        "A PostgreSQL server with a migrated database, in {:.1?}.",
        begun.elapsed()
    );

    title("Two threads, one account, FOR UPDATE NOWAIT");
    let contention = Contention::new(|| PgConnection::establish(database.url()));
    let begun = Instant::now();
    let outcome = contention.run(|conn| {
        conn.execute_for_update_nowait(accounts::table.find(1))
            .map(drop)
    })?;
    one_is_refused(&outcome, begun)?;

    title("Two threads, one advisory lock");
    let begun = Instant::now();
    let outcome = contention.run_scoped(|conn, hold| {
        let leader = conn.advisory_lock_nowait("gold_leader")?;
        hold.until_settled();
        leader.release()
    })?;
    one_is_refused(&outcome, begun)?;

    title("Two threads, and the second one waits");
    let begun = Instant::now();
    let outcome = contention.run_scoped(|conn, hold| {
        let leader = conn.advisory_lock("gold_leader")?;
        hold.until_settled();
        leader.release()
    })?;
    println!("  {outcome}, in {:.1?}", begun.elapsed());
    check(
        (outcome.granted(), outcome.waited()) == (1, 1),
        "the server saw one thread wait for the other",
    )?;
    check(
        matches!(outcome.afterwards(), [Ok(())]),
        "it got the lock when the other let go",
    )?;

    title("A lock inside its own scope");
    let mut leader = OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait)?;
    let accounts: i64 = accounts::table.count().get_result(&mut *leader)?;
    check(accounts == 2, "a query ran under the lock")?;
    let second = OwnedAdvisoryLockGuard::connect(database.url(), "gold_leader", Wait::NoWait);
    match second {
        Err(error @ LockError::NotAvailable { .. }) => println!("  second lock: {error}"),
        other => return Err(format!("a second lock inside the scope: {other:?}").into()),
    }
    check(leader.is_held()?, "the first lock is still held")?;

    title("Another process");
    let refused = start_follower(database.url())?;
    check(!refused, "it was refused while this process held the lock")?;
    leader.release()?;
    println!("  process {}: released gold_leader", std::process::id());
    let granted = start_follower(database.url())?;
    check(granted, "it got the lock afterwards")?;

    println!("\nAll as it should be.");
    Ok(())
}

fn title(title: &str) {
    println!("\n{title}");
}

fn check(fact: bool, what: &str) -> Result {
    if !fact {
        return Err(format!("this is not so: {what}").into());
    }
    println!("  ✓ {what}");
    Ok(())
}

fn one_is_refused(outcome: &Outcome<LockError>, begun: Instant) -> Result {
    println!("  {outcome}, in {:.1?}", begun.elapsed());
    for error in outcome.errors() {
        println!("  refused: {error}");
    }
    check(
        outcome.granted() == 1 && matches!(outcome.errors(), [LockError::NotAvailable { .. }]),
        "one thread got it, and held it until the other had failed",
    )
}

/// Starts this program again, and returns whether the lock was granted to it.
fn start_follower(url: &str) -> Result<bool> {
    let status = Command::new(env::current_exe()?).arg(url).status()?;
    match status.code() {
        Some(0) => Ok(true),
        Some(code) if code == i32::from(REFUSED) => Ok(false),
        _ => Err(format!("the other process ended with {status}").into()),
    }
}

/// The exit code of a process that was refused the lock.
const REFUSED: u8 = 3;

/// The other process: tries to take the lock, and says how that went.
fn follow(url: &str) -> Result {
    let me = format!("  process {}", std::process::id());
    match OwnedAdvisoryLockGuard::connect(url, "gold_leader", Wait::NoWait) {
        Ok(leader) => {
            println!("{me}: granted gold_leader");
            leader.release()?;
            Ok(())
        }
        Err(error @ LockError::NotAvailable { .. }) => {
            println!("{me}: {error}");
            std::process::exit(REFUSED.into());
        }
        Err(error) => Err(error.into()),
    }
}
