#[path = "../../../tests/support/migrations.rs"]
#[allow(dead_code, reason = "the tests' migrations can do more than be run")]
mod sources;

use std::error::Error;
use std::sync::Barrier;
use std::thread;
use std::time::Instant;

use diesel::prelude::*;
use diesel_locks::MigrationLock;
use diesel_locks_harness::TestDatabase;
use diesel_migrations::MigrationHarness;
use sources::{All, Sql};

use crate::compare::{Comparison, Run, Table};
use crate::server::Server;

const MIGRATIONS: usize = 50;

pub(super) fn measure(server: &Server) -> Result<Vec<Table>, Box<dyn Error>> {
    let comparison = Comparison::new(
        format!("{MIGRATIONS} migrations of an empty database"),
        5,
        1,
    )
    .note("Each creates a table.")
    .way("one instance, Diesel's run_pending_migrations", |_| {
        Ok(on_an_empty_database(1, |conn| {
            conn.run_pending_migrations(&tables())
                .expect("the migrations");
        }))
    })
    .way("one instance, MigrationLock", |_| {
        Ok(on_an_empty_database(1, locked))
    })
    .way("eight instances at once, MigrationLock", |_| {
        Ok(on_an_empty_database(8, locked))
    });
    Ok(vec![comparison.measure(server)?])
}

fn locked(conn: &mut PgConnection) {
    let done = MigrationLock::new().run_pending(conn, &tables());
    done.expect("the migrations");
}

fn on_an_empty_database(instances: usize, migrate: fn(&mut PgConnection)) -> Run<'static> {
    Box::new(move |_| {
        let database = TestDatabase::new().expect("the database");
        let start = Barrier::new(instances + 1);
        thread::scope(|scope| {
            for _ in 0..instances {
                scope.spawn(|| {
                    let mut conn = PgConnection::establish(database.url()).expect("the connection");
                    start.wait();
                    migrate(&mut conn);
                });
            }
            start.wait();
            Instant::now()
        })
        .elapsed()
        .as_nanos() as f64
    })
}

fn tables() -> All {
    let table = |nth| {
        let (version, create) = (format!("{nth:02}"), format!("CREATE TABLE t{nth} (id int)"));
        Sql::new(&version, &create)
    };
    All((0..MIGRATIONS).map(table).collect())
}
