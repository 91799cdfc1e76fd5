#![allow(clippy::unwrap_used, reason = "these are tests")]

use std::time::Duration;

use diesel::PgConnection;
use diesel::connection::{Connection, SimpleConnection};
use diesel_locks_harness::TestDatabase;

use super::in_the_way;
use crate::observe::session::SessionInfo;

const TABLES: &str = "\
    CREATE TABLE accounts (id integer PRIMARY KEY, owner text); \
    CREATE TABLE jobs (account_id integer REFERENCES accounts); \
    CREATE TABLE parent (n integer) PARTITION BY RANGE (n); \
    CREATE TABLE part PARTITION OF parent FOR VALUES FROM (1) TO (9) PARTITION BY RANGE (n); \
    CREATE TABLE leaf PARTITION OF part FOR VALUES FROM (1) TO (5); \
    CREATE TABLE sibling PARTITION OF parent FOR VALUES FROM (9) TO (99); \
    CREATE VIEW owners AS SELECT owner FROM accounts; \
    CREATE VIEW first_owner AS SELECT min(owner) FROM owners; \
    CREATE TABLE unrelated (); CREATE SCHEMA \"Other\"; CREATE TABLE \"Other\".\"Table\" ()";

fn names(found: Vec<SessionInfo>) -> Vec<String> {
    found
        .into_iter()
        .filter_map(|it| it.application.or(it.prepared))
        .collect()
}

#[test]
fn those_come_first_who_have_what_was_named_or_what_belongs_to_it() {
    let database = TestDatabase::new().unwrap();
    let connect = || PgConnection::establish(database.url()).unwrap();
    let mut conn = connect();
    conn.batch_execute(TABLES).unwrap();
    let mut holders = Vec::new();
    for table in [
        "accounts",
        "jobs",
        "parent",
        "part",
        "leaf",
        "sibling",
        "unrelated",
        "\"Other\".\"Table\"",
    ] {
        let mut holder = connect();
        let name = table.replace('"', "");
        let mode = "ACCESS SHARE MODE";
        // Without its partitions.
        holder
            .batch_execute(&format!(
                "SET application_name = '{name}'; BEGIN; LOCK TABLE ONLY {table} IN {mode}"
            ))
            .unwrap();
        holders.push(holder);
    }
    let mut idle = connect();
    idle.batch_execute("SET application_name = 'idle'; BEGIN; SELECT 1; CREATE TEMP TABLE mine ()")
        .unwrap();
    let mut ask = |words: &[&str]| {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let mut found = names(in_the_way(&mut conn, &words, Duration::ZERO).unwrap());
        found.sort_unstable();
        found
    };
    for (words, expected) in [
        (
            &["alter", "table", "accounts"][..],
            &["accounts", "jobs"][..],
        ),
        (&["ACCOUNTS", "a.b.c.d", "'", "$$"], &["accounts", "jobs"]),
        (&["accounts_pkey"], &["accounts", "jobs"]),
        (&["jobs"], &["accounts", "jobs"]),
        (&["parent"], &["leaf", "parent", "part", "sibling"]),
        (&["leaf"], &["leaf", "parent", "part"]),
        (&["first_owner"], &["accounts", "jobs"]),
        (&["public.unrelated"], &["unrelated"]),
        (&["\"Other\".\"Table\""], &["Other.Table"]),
    ] {
        assert_eq!(ask(words), expected, "{words:?}");
    }
    // Nobody has anything of what was named: everybody, but who has nothing but a temporary table.
    let everybody = [
        "Other.Table",
        "accounts",
        "jobs",
        "leaf",
        "parent",
        "part",
        "sibling",
        "unrelated",
    ];
    assert_eq!(ask(&["nowhere"]), everybody);
    assert_eq!(ask(&[]), everybody);
}

#[test]
fn a_young_transaction_was_not_in_the_way_and_the_oldest_is_the_first() {
    let database = TestDatabase::new().unwrap();
    let connect = || PgConnection::establish(database.url()).unwrap();
    let [mut conn, mut old, mut young] = [(); 3].map(|()| connect());
    conn.batch_execute(TABLES).unwrap();
    old.batch_execute("SET application_name = 'old'; BEGIN; LOCK TABLE accounts IN SHARE MODE")
        .unwrap();
    young
        .batch_execute("SET application_name = 'young'; BEGIN; LOCK TABLE accounts IN SHARE MODE")
        .unwrap();
    let named = ["accounts".to_owned()];
    let found = in_the_way(&mut conn, &named, Duration::ZERO).unwrap();
    let (first, second) = (found[0].age.unwrap(), found[1].age.unwrap());
    assert!(first > second);
    assert_eq!(names(found), ["old", "young"]);
    let between = in_the_way(&mut conn, &named, Duration::from_secs(3_600)).unwrap();
    assert_eq!(between, []);
    conn.batch_execute("BEGIN; LOCK TABLE accounts IN SHARE MODE")
        .unwrap();
    let found = in_the_way(&mut conn, &named, Duration::ZERO).unwrap();
    assert_eq!(names(found), ["old", "young"]);
}
