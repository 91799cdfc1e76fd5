//! A deadlock, as text, as a diagram for Mermaid, and as a picture:
//! `cargo run --example transcript -- picture.svg`
//!
//! Starts a private PostgreSQL server, or uses that of `DATABASE_URL`.

use std::error::Error;
use std::{env, fs};

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{Pending, Scenario, TestDatabase};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

#[path = "../tests/support/schema.rs"]
mod schema;

use schema::accounts;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!();

fn lock_account(id: i32) -> impl FnOnce(&mut PgConnection) -> Result<(), LockError> + Send {
    move |conn| conn.execute_for_update(accounts::table.find(id)).map(drop)
}

fn main() -> Result<(), Box<dyn Error>> {
    let database = TestDatabase::new()?.migrated(MIGRATIONS)?;
    let scenario = Scenario::new(|| PgConnection::establish(database.url()));
    let first = scenario.session("first")?;
    let second = scenario.session("second")?;

    first.begin()?;
    second.begin()?;
    first.run("lock 1", lock_account(1))?;
    second.run("lock 2", lock_account(2))?;
    let mut waits = first.start("lock 2", lock_account(2));
    waits.wait_blocked()?;
    // Whoever closes the circle finds it, and soon.
    let closes = second.start("lock 1", lock_account(1));
    let ended = [waits, closes].map(Pending::join);
    assert!(ended[0].is_ok() && ended[1].is_err());
    second.rollback()?;
    first.commit()?;

    let transcript = scenario.transcript();
    println!("{transcript}\n\n{}", transcript.to_mermaid());
    if let Some(file) = env::args_os().nth(1) {
        fs::write(file, transcript.to_svg())?;
    }
    Ok(())
}
