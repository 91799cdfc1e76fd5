//! The locks that PostgreSQL documents for each statement are those that a dry run sees.

use std::panic;

use diesel_locks::{MigrationLock, Touched};

use super::fixture::{ACCESS_EXCLUSIVE, contents, prepared, strongest, touched};
use crate::fixture::{All, Sql};

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
