//! What migrations would lock.

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel_locks::{Blocks, DryRun, LockTaken, MigrationLock, Touched, Tried};
use diesel_locks_harness::TestDatabase;

use crate::fixture::{All, Sql, exists};
use crate::support::{advisory_locks, connect};

const SCHEMA: &str = "
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

const ACCESS_EXCLUSIVE: &str = "AccessExclusiveLock";
const SHARE_ROW_EXCLUSIVE: &str = "ShareRowExclusiveLock";
const SHARE: &str = "ShareLock";
const SHARE_UPDATE_EXCLUSIVE: &str = "ShareUpdateExclusiveLock";
const ROW_EXCLUSIVE: &str = "RowExclusiveLock";
const ACCESS_SHARE: &str = "AccessShareLock";

/// A statement, the strongest lock that the documentation says it takes on a table, the table, and
/// whether that is rewritten or read.
const STATEMENTS: [(&str, &str, &str, &str); 34] = [
    (
        "ALTER TABLE accounts ADD COLUMN email text",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts ADD COLUMN age int NOT NULL DEFAULT 1",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts ADD COLUMN at timestamptz DEFAULT clock_timestamp()",
        ACCESS_EXCLUSIVE,
        "accounts",
        "rewritten",
    ),
    (
        "ALTER TABLE accounts DROP COLUMN owner",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts ALTER balance TYPE bigint",
        ACCESS_EXCLUSIVE,
        "accounts",
        "rewritten",
    ),
    (
        "ALTER TABLE jobs ALTER note TYPE varchar(20)",
        ACCESS_EXCLUSIVE,
        "jobs",
        "",
    ),
    (
        "ALTER TABLE accounts ALTER owner SET NOT NULL",
        ACCESS_EXCLUSIVE,
        "accounts",
        "scanned",
    ),
    (
        "ALTER TABLE accounts ALTER balance DROP DEFAULT",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts RENAME owner TO holder",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts RENAME TO konten",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts ADD CHECK (balance < 1000)",
        ACCESS_EXCLUSIVE,
        "accounts",
        "scanned",
    ),
    (
        "ALTER TABLE accounts ADD CHECK (balance < 1000) NOT VALID",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts VALIDATE CONSTRAINT positive",
        SHARE_UPDATE_EXCLUSIVE,
        "accounts",
        "scanned",
    ),
    (
        "ALTER TABLE jobs VALIDATE CONSTRAINT jobs_fk",
        SHARE_UPDATE_EXCLUSIVE,
        "jobs",
        "scanned",
    ),
    (
        "ALTER TABLE jobs ADD FOREIGN KEY (id) REFERENCES accounts NOT VALID",
        SHARE_ROW_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE jobs ADD FOREIGN KEY (account) REFERENCES accounts",
        SHARE_ROW_EXCLUSIVE,
        "jobs",
        "scanned",
    ),
    (
        "ALTER TABLE accounts ADD UNIQUE (owner, id)",
        ACCESS_EXCLUSIVE,
        "accounts",
        "scanned",
    ),
    (
        "ALTER TABLE accounts SET (fillfactor = 70)",
        SHARE_UPDATE_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts ALTER owner SET STATISTICS 500",
        SHARE_UPDATE_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts CLUSTER ON accounts_pkey",
        SHARE_UPDATE_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE jobs SET UNLOGGED",
        ACCESS_EXCLUSIVE,
        "jobs",
        "rewritten",
    ),
    (
        "ALTER TABLE accounts ENABLE ROW LEVEL SECURITY",
        ACCESS_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE events ATTACH PARTITION events_1 FOR VALUES FROM (0) TO (9)",
        SHARE_UPDATE_EXCLUSIVE,
        "events",
        "",
    ),
    (
        "CREATE INDEX ON accounts (owner)",
        SHARE,
        "accounts",
        "scanned",
    ),
    ("DROP INDEX jobs_account", ACCESS_EXCLUSIVE, "jobs", ""),
    ("REINDEX TABLE jobs", SHARE, "jobs", "scanned"),
    (
        "CREATE TRIGGER t BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION nothing()",
        SHARE_ROW_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "ALTER TABLE accounts DISABLE TRIGGER USER",
        SHARE_ROW_EXCLUSIVE,
        "accounts",
        "",
    ),
    (
        "COMMENT ON TABLE accounts IS 'money'",
        SHARE_UPDATE_EXCLUSIVE,
        "accounts",
        "",
    ),
    ("DROP TABLE jobs", ACCESS_EXCLUSIVE, "jobs", ""),
    ("TRUNCATE jobs", ACCESS_EXCLUSIVE, "jobs", "rewritten"),
    (
        "REFRESH MATERIALIZED VIEW totals",
        ACCESS_EXCLUSIVE,
        "totals",
        "rewritten",
    ),
    (
        "UPDATE accounts SET balance = 1",
        ROW_EXCLUSIVE,
        "accounts",
        "scanned",
    ),
    (
        "CREATE VIEW v AS SELECT * FROM accounts",
        ACCESS_SHARE,
        "accounts",
        "",
    ),
];

fn touched(run: &DryRun, at: usize) -> &Touched {
    match &run.migrations[at].tried {
        Tried::Done(touched) => touched,
        other => panic!("{}: {other:?}", run.migrations[at].migration),
    }
}

/// The strongest lock on a relation.
fn strongest<'t>(touched: &'t Touched, relation: &str) -> Option<&'t LockTaken> {
    touched
        .locks
        .iter()
        .find(|lock| lock.relation == format!("public.{relation}"))
}

fn check(statement: &(&str, &str, &str, &str), touched: &Touched) {
    let (sql, mode, relation, note) = statement;
    let lock = strongest(touched, relation).unwrap_or_else(|| panic!("{sql}: {touched:?}"));
    assert_eq!(lock.mode, *mode, "{sql}: {touched:?}");
    let name = format!("public.{relation}");
    assert_eq!(
        touched.rewritten.contains(&name),
        *note == "rewritten",
        "{sql}: {touched:?}"
    );
    // What is rewritten is read for that.
    let is_read = touched.scanned.contains(&name) && *note != "rewritten";
    assert_eq!(is_read, *note == "scanned", "{sql}: {touched:?}");
}

/// What a schema is, and what is in it.
fn contents(conn: &mut PgConnection) -> Vec<String> {
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

fn prepared() -> (TestDatabase, PgConnection) {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    conn.batch_execute(SCHEMA).unwrap();
    (database, conn)
}

#[test]
fn each_statement_takes_the_locks_that_are_documented() {
    let (_database, mut conn) = prepared();
    let before = contents(&mut conn);
    for statement in &STATEMENTS {
        let run = MigrationLock::new()
            .dry_run(&mut conn, &All::of([("1", statement.0)]))
            .unwrap();
        check(statement, touched(&run, 0));
        assert_eq!(contents(&mut conn), before, "{}", statement.0);
    }
}

#[test]
fn migrations_of_one_table_are_told_apart() {
    let (_database, mut conn) = prepared();
    let before = contents(&mut conn);
    // Those that can follow each other.
    let all: Vec<_> = (STATEMENTS.iter())
        .filter(|(sql, ..)| {
            !["DROP", "RENAME", "ATTACH"]
                .iter()
                .any(|word| sql.contains(word))
        })
        .collect();
    let migrations = (all.iter().enumerate())
        .map(|(n, (sql, ..))| Sql::new(&format!("{n:02}"), sql))
        .collect();
    let run = MigrationLock::new()
        .dry_run(&mut conn, &All(migrations))
        .unwrap();
    for (at, statement) in all.iter().enumerate() {
        check(statement, touched(&run, at));
    }
    assert_eq!(contents(&mut conn), before);
}

#[test]
fn what_a_lock_blocks_is_said() {
    let (_database, mut conn) = prepared();
    let migrations = All::of([
        ("1", "ALTER TABLE accounts ADD COLUMN email text"),
        ("2", "CREATE INDEX ON jobs (note)"),
        ("3", "ALTER TABLE jobs VALIDATE CONSTRAINT jobs_fk"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    let blocks = |at, relation| strongest(touched(&run, at), relation).unwrap().blocks;
    assert_eq!(blocks(0, "accounts"), Blocks::ReadsAndWrites);
    assert_eq!(blocks(1, "jobs"), Blocks::Writes);
    assert_eq!(blocks(2, "jobs"), Blocks::Neither);
    assert_eq!(blocks(2, "accounts"), Blocks::Neither);
}

#[test]
fn each_kind_of_relation_is_called_as_it_is() {
    let (_database, mut conn) = prepared();
    conn.batch_execute(
        "CREATE TYPE pair AS (a int); CREATE SEQUENCE numbers; \
         CREATE VIEW owners AS SELECT owner FROM accounts; \
         CREATE INDEX events_at ON events (at); \
         CREATE FOREIGN DATA WRAPPER nothing; CREATE SERVER nowhere FOREIGN DATA WRAPPER nothing; \
         CREATE FOREIGN TABLE far (a int) SERVER nowhere",
    )
    .unwrap();
    let kinds = [
        ("ALTER TABLE accounts ADD COLUMN a int", "accounts", "table"),
        ("ALTER TABLE events ADD COLUMN a int", "events", "table"),
        ("DROP INDEX jobs_account", "jobs_account", "index"),
        ("DROP INDEX events_at", "events_at", "index"),
        ("DROP SEQUENCE numbers", "numbers", "sequence"),
        ("DROP VIEW owners", "owners", "view"),
        (
            "DROP MATERIALIZED VIEW totals",
            "totals",
            "materialized view",
        ),
        ("DROP FOREIGN TABLE far", "far", "foreign table"),
        ("ALTER TYPE pair ADD ATTRIBUTE b int", "pair", "type"),
    ];
    let migrations = kinds.iter().zip(1..);
    let migrations = migrations.map(|((sql, ..), n)| Sql::new(&n.to_string(), sql));
    let run = MigrationLock::new()
        .dry_run(&mut conn, &All(migrations.collect()))
        .unwrap();
    for (at, (sql, relation, kind)) in kinds.iter().enumerate() {
        let lock = strongest(touched(&run, at), relation);
        assert_eq!(lock.map(|lock| lock.kind), Some(*kind), "{sql}: {run:?}");
    }
}

#[test]
fn a_migration_of_a_table_that_an_earlier_one_makes_is_shown_as_uncertain() {
    let database = TestDatabase::new().unwrap();
    let mut conn = connect(&database);
    let migrations = All::of([
        ("1", "CREATE TABLE a (id int)"),
        ("2", "ALTER TABLE a ADD COLUMN name text"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    assert!(touched(&run, 0).locks.is_empty(), "{run:?}");
    let lock = strongest(touched(&run, 1), "a").unwrap();
    assert!(lock.is_uncertain && lock.mode == ACCESS_EXCLUSIVE);
    assert!(!exists(&mut conn, "a") && !exists(&mut conn, "__diesel_schema_migrations"));
    assert_eq!(advisory_locks(&database), 0);
}

#[test]
fn what_cannot_be_tried_is_listed_and_the_rest_goes_on() {
    let (_database, mut conn) = prepared();
    let migrations = All(vec![
        Sql::new("1", "CREATE INDEX CONCURRENTLY owners ON accounts (owner)").outside(),
        Sql::new("2", "DROP INDEX owners"),
        Sql::new("3", "ALTER TABLE accounts ADD COLUMN email text"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    assert_eq!(run.migrations[0].tried, Tried::NotInTransaction);
    assert!(
        matches!(&run.migrations[1].tried, Tried::Failed { error, .. } if error.contains("owners"))
    );
    assert!(strongest(touched(&run, 2), "accounts").is_some());
}

#[test]
fn it_is_a_table_for_a_terminal_and_one_for_a_pull_request() {
    let (_database, mut conn) = prepared();
    conn.batch_execute(r#"CREATE TABLE "a|b*" (id int)"#)
        .unwrap();
    let migrations = All(vec![
        Sql::new(
            "1",
            r#"ALTER TABLE "a|b*" ADD COLUMN x int, ALTER id TYPE bigint"#,
        ),
        Sql::new("2", "VACUUM").outside(),
        Sql::new("3", "CREATE TABLE c (id int)"),
    ]);
    let run = MigrationLock::new()
        .dry_run(&mut conn, &migrations)
        .unwrap();
    let text = run.to_string();
    let mut lines = text.lines();
    assert!(
        lines.next().unwrap().starts_with("migration  lock"),
        "{text}"
    );
    let line = lines.next().unwrap();
    let row = r#"1          AccessExclusiveLock  table public."a|b*"  reads and writes  held for"#;
    assert!(
        line.starts_with(row) && line.ends_with("ms, rewritten"),
        "{text}"
    );
    let markdown = run.to_markdown();
    assert!(
        markdown.contains(r#"| 1 | AccessExclusiveLock | table public."a\|b\*" | reads"#),
        "{markdown}"
    );
    assert!(markdown.contains("| 2 | – | – | – | not tried: it runs outside a transaction |"));
    assert!(markdown.contains("| 3 | – | – | – | locks nothing that was there,"));
}

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
fn a_lock_that_the_callers_transaction_has_already_is_shown_as_uncertain() {
    let (_database, mut conn) = prepared();
    conn.transaction::<_, diesel::result::Error, _>(|conn| {
        conn.batch_execute("LOCK TABLE accounts")?;
        let migrations = All::of([
            ("1", "ALTER TABLE accounts ADD COLUMN email text"),
            ("2", "SELECT 1"),
        ]);
        let run = MigrationLock::new().dry_run(conn, &migrations).unwrap();
        let lock = strongest(touched(&run, 0), "accounts").unwrap();
        assert!(lock.is_uncertain && lock.mode == ACCESS_EXCLUSIVE);
        assert!(touched(&run, 1).locks.is_empty(), "{run:?}");
        Ok(())
    })
    .unwrap();
}
