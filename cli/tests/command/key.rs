//! The number of a name.

use diesel::prelude::*;
use diesel::sql_types::BigInt;
use diesel_locks_harness::TestDatabase;
use serial_test::parallel;

use crate::support::{diesel_locks, stderr, stdout};

#[test]
#[parallel]
fn the_number_of_a_name_is_that_of_the_library_and_of_the_sql_that_is_shown() {
    let name = r"it's a \name";
    let quiet = diesel_locks().args(["key", "-q", name]).output().unwrap();
    let number: i64 = stdout(&quiet).trim().parse().unwrap();
    assert_eq!(diesel_locks::LockKey::named(name), number.into());

    let output = diesel_locks().args(["key", name]).output().unwrap();
    let sql = stdout(&output)
        .lines()
        .find_map(|line| line.strip_prefix("in SQL"))
        .unwrap();
    let database = TestDatabase::new().unwrap();
    let mut conn = PgConnection::establish(database.url()).unwrap();
    let computed: i64 = diesel::dsl::sql::<BigInt>(&format!("SELECT {sql}"))
        .get_result(&mut conn)
        .unwrap();
    assert_eq!(computed, number);
}

#[test]
#[parallel]
fn the_query_for_holders_finds_the_holder_of_a_negative_pair() {
    let output = diesel_locks().args(["key", "--key", "-7,-42"]).output();
    let output = output.unwrap();
    let query = stdout(&output)
        .lines()
        .find_map(|line| line.strip_prefix("holders"))
        .unwrap();
    let database = TestDatabase::new().unwrap();
    let mut conn = PgConnection::establish(database.url()).unwrap();
    diesel::sql_query("SELECT pg_advisory_lock(-7, -42)")
        .execute(&mut conn)
        .unwrap();
    let held = diesel::sql_query(query.trim().trim_end_matches(';'))
        .execute(&mut conn)
        .unwrap();
    assert_eq!(held, 1);
}

#[test]
#[parallel]
fn what_is_no_key_is_told() {
    let output = diesel_locks().args(["key", "--key", "php:x"]).output();
    let output = output.unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("sqlx:NAME"), "{output:?}");
}
