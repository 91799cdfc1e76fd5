//! Many processes that migrate at once, and processes that are killed.

use std::env;
use std::hash::{BuildHasher, RandomState};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::migration::{Migration, MigrationSource, Result};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_locks::{MigrateError, MigrationLock};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::MigrationHarness;

use crate::fixture::{All, Sql, applied, exists, has_note, is_valid};
use crate::support::connect;
use crate::support::second_process::{SecondProcess, say, second_process, this_test};

/// How often the tests of processes are repeated.
fn rounds(usually: usize) -> usize {
    let rounds = env::var("DIESEL_LOCKS_MIGRATION_ROUNDS");
    rounds.map_or(usually, |rounds| rounds.parse().unwrap())
}

/// Fifty, one of which is a concurrent index. That each of them ran once shows in `runs`.
fn fifty() -> All {
    let mut migrations: Vec<Sql> = (0..50)
        .map(|n| {
            let up = format!(
                "CREATE TABLE t{n} (id int); INSERT INTO t{n} SELECT generate_series(1, 100); \
                 INSERT INTO runs VALUES ({n})"
            );
            Sql::new(&format!("{n:03}"), &up)
        })
        .collect();
    migrations[0] = Sql::new("000", "CREATE TABLE runs (n int)");
    migrations[30] = Sql::new("030", "CREATE INDEX CONCURRENTLY t20_id ON t20 (id)").outside();
    All(migrations)
}

fn is_complete(conn: &mut PgConnection) -> bool {
    let expected: Vec<i32> = (0..50).filter(|n| ![0, 30].contains(n)).collect();
    let runs: Vec<i32> =
        diesel::dsl::sql::<diesel::sql_types::Integer>("SELECT n FROM runs ORDER BY n")
            .load(conn)
            .unwrap();
    runs == expected && is_valid(conn, "t20_id") && applied(conn).len() == 50
}

/// The second process: migrates, and tells of it.
fn migrate(url: &str) {
    let mut conn = PgConnection::establish(url).unwrap();
    say("connected");
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    let lock = MigrationLock::new().on_progress(|event| say(&event.to_string()));
    match lock.run_pending(&mut conn, &fifty()) {
        Ok(done) => say(&format!("applied {}", done.len())),
        Err(error) => say(&format!("failed: {error:?}")),
    }
}

#[test]
fn eight_processes_start_at_once_and_each_migration_runs_once() {
    if let Some(url) = second_process() {
        return migrate(&url);
    }
    for _ in 0..rounds(2) {
        let database = TestDatabase::new().unwrap();
        let mut processes: Vec<_> = (0..8)
            .map(|_| SecondProcess::start(&this_test!(), database.url(), &[]))
            .map(SecondProcess::split)
            .collect();
        for (_, words) in &mut processes {
            assert_eq!(words.next().unwrap(), "connected");
        }
        for (running, _) in &mut processes {
            running.tell("go").unwrap();
        }
        let mut ends: Vec<String> = (processes.into_iter())
            .map(|(_running, words)| words.last().unwrap())
            .collect();
        ends.sort();
        assert_eq!(ends[..7], ["applied 0"; 7]);
        assert_eq!(ends[7], "applied 50");
        assert!(is_complete(&mut connect(&database)));
    }
}

#[test]
fn a_process_that_is_killed_leaves_a_schema_that_the_next_one_completes() {
    if let Some(url) = second_process() {
        return migrate(&url);
    }
    let chance = RandomState::new();
    for round in 0..rounds(6) {
        let random = chance.hash_one(round);
        let database = TestDatabase::new().unwrap();
        let process = SecondProcess::start(&this_test!(), database.url(), &[]);
        let (mut running, mut words) = process.split();
        running.tell("go").unwrap();
        // Half of the kills are in the index, or next to it.
        let lines = match random % 2 {
            0 => 2 + usize::try_from(random / 2 % 100).unwrap(),
            _ => 61 + usize::try_from(random / 2 % 3).unwrap(),
        };
        words.by_ref().take(lines).for_each(drop);
        let a_moment = Duration::from_micros(random % 4_000);
        let begun = Instant::now();
        while begun.elapsed() < a_moment {}
        drop(running);

        let conn = &mut connect(&database);
        let lock = MigrationLock::new();
        match lock.run_pending(conn, &fifty()) {
            Ok(_) => {}
            Err(MigrateError::LeftoverIndex { indexes, .. }) => {
                assert_eq!(indexes[0].index, "public.t20_id");
                assert!(exists(conn, "t20_id") && !is_valid(conn, "t20_id"));
                let lock = lock.drop_invalid_indexes(true);
                lock.run_pending(conn, &fifty()).unwrap();
            }
            Err(error) => panic!("round {round} of {chance:?}, {random}: {error:?}"),
        }
        assert!(is_complete(conn), "{random}");
        assert!(!has_note(conn));
    }
}

/// Migrations that two read at once.
struct ReadByTwo<'b>(&'b All, &'b Barrier);

impl MigrationSource<Pg> for ReadByTwo<'_> {
    fn migrations(&self) -> Result<Vec<Box<dyn Migration<Pg>>>> {
        self.1.wait();
        self.0.migrations()
    }
}

#[test]
fn with_diesels_own_run_one_of_two_that_start_at_once_fails() {
    let database = TestDatabase::new().unwrap();
    connect(&database)
        .batch_execute(
            "CREATE TABLE __diesel_schema_migrations (version text PRIMARY KEY, run_on timestamp \
             NOT NULL DEFAULT CURRENT_TIMESTAMP)",
        )
        .unwrap();
    let migrations = All::of([("1", "CREATE TABLE a (id int)")]);
    let both = Barrier::new(2);
    let failed = thread::scope(|scope| {
        let runs: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let source = ReadByTwo(&migrations, &both);
                    connect(&database).run_pending_migrations(source).is_err()
                })
            })
            .collect();
        runs.into_iter()
            .map(|run| run.join().unwrap())
            .filter(|&failed| failed)
            .count()
    });
    assert_eq!(failed, 1);
}
