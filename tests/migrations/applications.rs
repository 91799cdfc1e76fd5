//! Several applications, or several roles, in one database.

use std::sync::Barrier;
use std::thread;

use diesel::connection::SimpleConnection;
use diesel_locks::{LibraryMigrations, MigrationLock};
use diesel_locks_harness::TestDatabase;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};

use crate::code::Code;
use crate::fixture::{All, Sql, has_note, leave_note, outside, run};
use crate::support::{connect, two_sessions};

#[test]
fn two_applications_with_locks_of_their_own_start_at_once_on_an_empty_database() {
    for _ in 0..20 {
        let database = TestDatabase::new().unwrap();
        let names = ["billing", "shipping", "storage", "web"];
        let all = Barrier::new(names.len());
        thread::scope(|scope| {
            let runs = names.map(|name| {
                let (all, database) = (&all, &database);
                scope.spawn(move || {
                    let mut conn = connect(database);
                    let table = format!("CREATE TABLE {name} (id int)");
                    let migration = All(vec![Sql::new(name, &table)]);
                    all.wait();
                    MigrationLock::new()
                        .name(name)
                        .run_pending(&mut conn, &migration)
                })
            });
            for run in runs {
                assert_eq!(run.join().unwrap().unwrap().len(), 1);
            }
        });
    }
}

#[test]
fn two_applications_build_indexes_at_once() {
    let database = TestDatabase::new().unwrap();
    run(&mut connect(&database), &All(vec![]));
    let names = ["billing", "shipping", "storage", "web"];
    let all = Barrier::new(names.len());
    for name in names {
        let table = format!("CREATE TABLE {name} (id int)");
        connect(&database).batch_execute(&table).unwrap();
    }
    thread::scope(|scope| {
        let runs = names.map(|name| {
            let (all, database) = (&all, &database);
            scope.spawn(move || {
                let mut conn = connect(database);
                let migrations = (0..10)
                    .map(|n| {
                        let index = format!("CREATE INDEX CONCURRENTLY {name}_{n} ON {name} (id)");
                        Sql::new(&format!("{name}_{n}"), &index).outside()
                    })
                    .collect();
                all.wait();
                MigrationLock::new()
                    .name(name)
                    .run_pending(&mut conn, &All(migrations))
            })
        });
        for run in runs {
            assert_eq!(run.join().unwrap().unwrap().len(), 10);
        }
    });
    let conn = &mut connect(&database);
    assert!(!has_note(conn));
}

#[test]
fn the_note_of_one_application_survives_the_migrations_of_another() {
    let (_database, mut here, mut there) = two_sessions(TestDatabase::new().unwrap());
    here.batch_execute("CREATE TABLE accounts (id int PRIMARY KEY, owner text)")
        .unwrap();
    here.batch_execute("CREATE TABLE jobs (id int)").unwrap();
    let billing = || MigrationLock::new().name("billing");
    // Ends after the index, before its record.
    let dies = Code::new(|conn| {
        conn.batch_execute("CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)")?;
        Ok(conn.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())")?)
    });
    billing().run_pending(&mut here, &dies).unwrap_err();
    let jobs = All(vec![
        Sql::new("7", "CREATE INDEX CONCURRENTLY jobs_id ON jobs (id)").outside(),
    ]);
    MigrationLock::new()
        .name("shipping")
        .run_pending(&mut there, &jobs)
        .unwrap();
    let index = outside("CREATE INDEX CONCURRENTLY accounts_owner ON accounts (owner)");
    assert_eq!(billing().run_pending(&mut there, &index).unwrap().len(), 1);
}

#[test]
fn the_note_that_another_role_has_left_is_in_nobodys_way() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    run(&mut conn, &All(vec![]));
    leave_note(&mut conn, "2", &[]);
    conn.batch_execute(
        "CREATE ROLE another_role; GRANT ALL ON SCHEMA public TO another_role; \
         GRANT ALL ON __diesel_schema_migrations TO another_role; SET ROLE another_role",
    )
    .unwrap();
    assert_eq!(run(&mut conn, &outside("SELECT 1")), ["2"]);
    conn.batch_execute("RESET ROLE; DROP OWNED BY another_role; DROP ROLE another_role")
        .unwrap();
}

#[test]
fn the_name_of_an_application_may_be_any_text() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let long = "shipping and storage, of the whole north and of the west";
    for (at, name) in ["\0", "'\"", long, &format!("{long}!")]
        .into_iter()
        .enumerate()
    {
        let migration = All(vec![Sql::new(&at.to_string(), "SELECT 1").outside()]);
        let done = MigrationLock::new()
            .name(name)
            .run_pending(&mut conn, &migration);
        assert_eq!(done.unwrap().len(), 1);
    }
    assert!(!has_note(&mut conn));
}

#[test]
fn libraries_with_names_that_are_long_or_diesels_keep_their_versions_apart() {
    const LONG: &str = "a library whose name is very much longer than those of most tables";
    const ALIKE: &str = "a library whose name is very much longer than those of most tables, too";
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");
    for library in ["diesel", LONG, ALIKE] {
        let library = LibraryMigrations::new(library, MIGRATIONS);
        assert_eq!(library.run_pending(&mut conn).unwrap().len(), 1);
        conn.batch_execute("DROP TABLE jobs, accounts").unwrap();
    }
    let application = All::of([("20261121000000", "SELECT 1")]);
    assert_eq!(run(&mut conn, &application).len(), 1);
}
