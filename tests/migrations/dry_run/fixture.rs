//! A schema for dry runs, and what one has seen.

use std::panic;

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::{DryRun, LockTaken, Touched, Tried};
use diesel_locks_harness::TestDatabase;

use crate::support::connect;

pub(crate) const SCHEMA: &str = "
    CREATE TABLE accounts (id int PRIMARY KEY, owner text, balance int NOT NULL DEFAULT 0);
    ALTER TABLE accounts ADD CONSTRAINT positive CHECK (balance >= 0) NOT VALID;
    CREATE TABLE jobs (id int PRIMARY KEY, account int, note varchar(10));
    CREATE INDEX jobs_account ON jobs (account);
    ALTER TABLE jobs ADD CONSTRAINT jobs_fk FOREIGN KEY (account) REFERENCES accounts NOT VALID;
    CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM accounts;
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TABLE events (at int) PARTITION BY RANGE (at);
    CREATE TABLE events_1 (at int);
    INSERT INTO accounts SELECT n, 'ada', 0 FROM generate_series(1, 100) n;
    INSERT INTO jobs SELECT n, n, 'x' FROM generate_series(1, 100) n;
";

pub(crate) fn prepared() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(SCHEMA).unwrap();
    (database, conn)
}

/// What a schema is, and what is in it.
pub(crate) fn contents(conn: &mut PgConnection) -> Vec<String> {
    sql::<Text>(
        "SELECT format('%s %s %s %s %s', c.oid, c.relname, relfilenode, reloptions, relchecks) \
         FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public' \
         UNION ALL SELECT format('%s %s', attrelid, attname) FROM pg_attribute WHERE attnum > 0 \
         UNION ALL SELECT format('%s %s', conname, convalidated) FROM pg_constraint \
         UNION ALL SELECT accounts::text FROM accounts UNION ALL SELECT jobs::text FROM jobs \
         ORDER BY 1",
    )
    .load(conn)
    .unwrap()
}

pub(crate) fn touched(run: &DryRun, at: usize) -> &Touched {
    match &run.migrations[at].tried {
        Tried::Done(touched) => touched,
        other => panic!("{}: {other:?}", run.migrations[at].migration),
    }
}

/// The strongest lock on a relation.
pub(crate) fn strongest<'t>(touched: &'t Touched, relation: &str) -> Option<&'t LockTaken> {
    touched
        .locks
        .iter()
        .find(|lock| lock.relation == format!("public.{relation}"))
}

pub(crate) const ACCESS_EXCLUSIVE: &str = "AccessExclusiveLock";
