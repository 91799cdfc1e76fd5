//! Eight processes that migrate one empty database at once: `cargo run --example migrate
//! --features migrations`.
//!
//! Prints live who migrates and who waits, and what the migrations lock. The exit code is not 0 if
//! any process fails, or a migration is not applied exactly once.

use std::env;
use std::process::{Command, ExitCode};

use diesel::prelude::*;
use diesel_locks::MigrationLock;
use diesel_locks_harness::TestDatabase;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("examples/migrations");
const PROCESSES: usize = 8;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let done = match &arguments[..] {
        [] => show(),
        [url, number] => migrate(url, number),
        _ => Err("there are no arguments".into()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("  ✗ {error}");
            ExitCode::FAILURE
        }
    }
}

fn show() -> Result {
    let database = TestDatabase::new()?;
    let mut conn = PgConnection::establish(database.url())?;
    println!("What the migrations would lock:\n");
    println!("{}", MigrationLock::new().dry_run(&mut conn, MIGRATIONS)?);

    println!("{PROCESSES} processes migrate at once:\n");
    let processes: Vec<_> = (1..=PROCESSES)
        .map(|number| {
            let mut process = Command::new(env::current_exe()?);
            process.args([database.url(), &number.to_string()]).spawn()
        })
        .collect::<std::io::Result<_>>()?;
    for mut process in processes {
        if !process.wait()?.success() {
            return Err("a process has failed".into());
        }
    }
    let left = MigrationLock::new().run_pending(&mut conn, MIGRATIONS)?;
    if !left.is_empty() {
        return Err(format!("{left:?} were left").into());
    }
    println!("\nEach migration was applied once.");
    Ok(())
}

/// What each instance of a service does when it starts.
fn migrate(url: &str, number: &str) -> Result {
    let mut conn = PgConnection::establish(url)?;
    diesel::sql_query(format!("SET application_name = 'instance {number}'")).execute(&mut conn)?;
    MigrationLock::new()
        .on_progress(|event| println!("  instance {number}: {event}"))
        .run_pending(&mut conn, MIGRATIONS)?;
    Ok(())
}
