//! A dry run changes nothing, in the database or in the session.

use std::panic::{self, AssertUnwindSafe};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::{MigrationLock, Tried};
use diesel_locks_harness::TestDatabase;

use super::fixture::{prepared, strongest, touched};
use crate::code::Code;
use crate::fixture::{All, Sql, exists, two_tables};
use crate::support::{advisory_locks, connect};

#[test]
fn a_dry_run_inside_a_transaction_leaves_that_as_it_was() {
    let (_database, mut conn) = prepared();
    conn.transaction::<_, diesel::result::Error, _>(|conn| {
        conn.batch_execute("INSERT INTO accounts VALUES (1000, 'me')")?;
        let migrations = All::of([("1", "ALTER TABLE accounts ADD COLUMN email text")]);
        let run = MigrationLock::new().dry_run(conn, &migrations).unwrap();
        assert!(strongest(touched(&run, 0), "accounts").is_some());
        conn.batch_execute("UPDATE accounts SET owner = 'you' WHERE id = 1000")
    })
    .unwrap();
    let owner: String = sql::<Text>("SELECT owner FROM accounts WHERE id = 1000")
        .get_result(&mut conn)
        .unwrap();
    assert_eq!(owner, "you");
}

#[test]
fn a_dry_run_leaves_the_sessions_transactions_as_they_were() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let is_read_only = |conn: &mut PgConnection| {
        sql::<Text>("SHOW default_transaction_read_only")
            .get_result::<String>(conn)
            .unwrap()
    };
    let done = MigrationLock::new()
        .dry_run(&mut conn, &two_tables())
        .unwrap();
    assert!(matches!(done.migrations[0].tried, Tried::Done(_)));
    assert_eq!(is_read_only(&mut conn), "off");
    let panics = Code::new(|_| panic!("at once")).in_transaction();
    let run_it = || MigrationLock::new().dry_run(&mut conn, &panics).map(drop);
    panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
    assert_eq!(is_read_only(&mut conn), "off");
    // Where a migration could not write, the dry run says so.
    conn.batch_execute("CREATE TABLE __diesel_schema_migrations (version text, run_on timestamp)")
        .unwrap();
    conn.batch_execute("SET default_transaction_read_only = on")
        .unwrap();
    let done = MigrationLock::new()
        .dry_run(&mut conn, &two_tables())
        .unwrap();
    assert!(matches!(done.migrations[0].tried, Tried::Failed { .. }));
    assert_eq!(is_read_only(&mut conn), "on");
}

#[test]
fn a_dry_run_of_a_migration_that_ends_its_transaction_changes_nothing() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    for commits in [
        "CREATE TABLE c (id int); COMMIT",
        "COMMIT; CREATE TABLE c (id int)",
        "ROLLBACK; CREATE TABLE c (id int)",
        "ROLLBACK; BEGIN; CREATE TABLE c (id int); COMMIT",
        "COMMIT AND CHAIN; CREATE TABLE c (id int); COMMIT",
        "ROLLBACK; BEGIN",
        "ROLLBACK; BEGIN; CREATE TABLE c (id int)",
    ] {
        let mut migrations = two_tables();
        migrations.0.push(Sql::new("3", commits));
        MigrationLock::new()
            .dry_run(&mut conn, &migrations)
            .unwrap_err();
        let mut other = connect(&database);
        assert!(
            !exists(&mut other, "a") && !exists(&mut other, "c"),
            "{commits}"
        );
        assert_eq!(advisory_locks(&database), 0);
        conn.batch_execute("CREATE TABLE c (id int); DROP TABLE c")
            .unwrap();
    }
}

#[test]
fn a_dry_run_of_a_migration_that_checks_constraints_at_once_is_done() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        ("1", "CREATE TABLE a (id int)"),
        (
            "2",
            "SET CONSTRAINTS ALL IMMEDIATE; CREATE TABLE b (id int)",
        ),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    for report in &run.migrations {
        assert!(matches!(report.tried, Tried::Done(_)), "{run}");
    }
}

#[test]
fn a_role_that_may_make_no_temporary_table_may_try_its_migrations() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(
        "CREATE ROLE makes_no_temporary_table; \
         GRANT ALL ON SCHEMA public TO makes_no_temporary_table; DO $$ BEGIN \
         EXECUTE format('REVOKE TEMPORARY ON DATABASE %I FROM PUBLIC', current_database()); \
         END $$; SET ROLE makes_no_temporary_table",
    )
    .unwrap();
    let migrations = All::of([("1", "CREATE TABLE a (id int)")]);
    let done = MigrationLock::new().dry_run(&mut conn, &migrations);
    conn.batch_execute(
        "RESET ROLE; DROP OWNED BY makes_no_temporary_table; DROP ROLE makes_no_temporary_table",
    )
    .unwrap();
    assert_eq!(done.unwrap().migrations.len(), 1);
}
