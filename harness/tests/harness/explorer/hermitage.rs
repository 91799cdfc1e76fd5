//! The anomalies of the Hermitage, as functions, at three levels: each is found where PostgreSQL
//! is known to have it, and nowhere else.

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::Integer;
use serial_test::parallel;

use super::tables::{filled, with_tables};

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Integer)]
    value: i32,
}

/// What a transaction does, in order: reads what a query finds, or writes.
type Work = &'static [&'static str];

const ONE: &str = "SELECT value FROM test WHERE id = 1";
const TWO: &str = "SELECT value FROM test WHERE id = 2";

fn run(conn: &mut PgConnection, level: &str, work: Work) -> QueryResult<Vec<i32>> {
    let mut seen = Vec::new();
    conn.batch_execute(&format!("BEGIN ISOLATION LEVEL {level}"))?;
    let (last, statements) = work.split_last().unwrap();
    for statement in statements {
        let done = match statement.starts_with("SELECT") {
            true => sql_query(*statement).load::<Value>(conn).map(|rows| {
                seen.push(rows.iter().map(|row| row.value).sum());
            }),
            false => sql_query(*statement).execute(conn).map(drop),
        };
        if let Err(error) = done {
            conn.batch_execute("ROLLBACK")?;
            return Err(error);
        }
    }
    conn.batch_execute(last)?;
    Ok(seen)
}

/// At which levels an end is found that has all of these words.
fn found(works: &[Work], words: &[&[&str]]) -> [bool; 3] {
    let database =
        with_tables("CREATE TABLE test (id integer PRIMARY KEY, value integer NOT NULL)");
    LEVELS.map(|level| {
        let fill = "DELETE FROM test; INSERT INTO test VALUES (1, 10), (2, 20)";
        let explorer = filled(&database, fill).allow_results(|_| true);
        let named = works.iter().zip(["one", "two", "three"]);
        let explorer = named.fold(explorer, |explorer, (work, name)| {
            explorer.code(name, move |conn| run(conn, level, work))
        });
        let exploration = explorer.explore().unwrap();
        let has_all = |end: &String| {
            words
                .iter()
                .any(|words| words.iter().all(|word| end.contains(word)))
        };
        exploration.outcomes().iter().any(has_all)
    })
}

const NOWHERE: [bool; 3] = [false; 3];
const BELOW_REPEATABLE_READ: [bool; 3] = [true, false, false];
const BELOW_SERIALIZABLE: [bool; 3] = [true, true, false];

#[test]
#[parallel]
fn writes_of_two_transactions_are_not_mixed() {
    let works: [Work; 2] = [
        &[
            "UPDATE test SET value = 11 WHERE id = 1",
            "UPDATE test SET value = 21 WHERE id = 2",
            "COMMIT",
        ],
        &[
            "UPDATE test SET value = 12 WHERE id = 1",
            "UPDATE test SET value = 22 WHERE id = 2",
            "COMMIT",
        ],
    ];
    let mixed: [&[&str]; 2] = [
        &["\"value\": 11", "\"value\": 22"],
        &["\"value\": 12", "\"value\": 21"],
    ];
    assert_eq!(found(&works, &mixed), NOWHERE);
}

#[test]
#[parallel]
fn what_is_rolled_back_or_not_the_last_is_not_read() {
    let read: Work = &[ONE, "COMMIT"];
    let aborted: Work = &["UPDATE test SET value = 101 WHERE id = 1", "ROLLBACK"];
    assert_eq!(found(&[aborted, read], &[&["two: Ok([101])"]]), NOWHERE);
    let twice: Work = &[
        "UPDATE test SET value = 101 WHERE id = 1",
        "UPDATE test SET value = 11 WHERE id = 1",
        "COMMIT",
    ];
    assert_eq!(found(&[twice, read], &[&["two: Ok([101])"]]), NOWHERE);
    let both: [Work; 2] = [
        &["UPDATE test SET value = 11 WHERE id = 1", TWO, "COMMIT"],
        &["UPDATE test SET value = 22 WHERE id = 2", ONE, "COMMIT"],
    ];
    assert_eq!(
        found(&both, &[&["one: Ok([22])", "two: Ok([11])"]]),
        NOWHERE
    );
}

#[test]
#[parallel]
fn an_observed_transaction_does_not_vanish() {
    let works: [Work; 3] = [
        &[
            "UPDATE test SET value = 11 WHERE id = 1",
            "UPDATE test SET value = 19 WHERE id = 2",
            "COMMIT",
        ],
        &[
            "UPDATE test SET value = 12 WHERE id = 1",
            "UPDATE test SET value = 18 WHERE id = 2",
            "COMMIT",
        ],
        &[ONE, TWO, "COMMIT"],
    ];
    assert_eq!(
        found(
            &works,
            &[&["one: Ok", "two: Ok", "three: Ok([12, 19])", "\"value\": 18"]]
        ),
        NOWHERE
    );
}

#[test]
#[parallel]
fn a_predicate_read_twice_changes_below_repeatable_read() {
    const THIRTY: &str = "SELECT value FROM test WHERE value = 30";
    let works: [Work; 2] = [
        &[THIRTY, THIRTY, "COMMIT"],
        &["INSERT INTO test VALUES (3, 30)", "COMMIT"],
    ];
    assert_eq!(
        found(&works, &[&["one: Ok([0, 30])"]]),
        BELOW_REPEATABLE_READ
    );
}

#[test]
#[parallel]
fn an_update_is_lost_below_repeatable_read() {
    let increments: Work = &[ONE, "UPDATE test SET value = 11 WHERE id = 1", "COMMIT"];
    let lost: [&[&str]; 1] = [&["one: Ok([10])", "two: Ok([10])"]];
    assert_eq!(
        found(&[increments, increments], &lost),
        BELOW_REPEATABLE_READ
    );
}

#[test]
#[parallel]
fn reads_are_skewed_below_repeatable_read() {
    let works: [Work; 2] = [
        &[ONE, TWO, "COMMIT"],
        &[
            "UPDATE test SET value = 12 WHERE id = 1",
            "UPDATE test SET value = 18 WHERE id = 2",
            "COMMIT",
        ],
    ];
    assert_eq!(
        found(&works, &[&["one: Ok([10, 18])"]]),
        BELOW_REPEATABLE_READ
    );
}

#[test]
#[parallel]
fn writes_are_skewed_below_serializable() {
    let works: [Work; 2] = [
        &[
            ONE,
            TWO,
            "UPDATE test SET value = 11 WHERE id = 1",
            "COMMIT",
        ],
        &[
            ONE,
            TWO,
            "UPDATE test SET value = 21 WHERE id = 2",
            "COMMIT",
        ],
    ];
    let skewed: [&[&str]; 1] = [&["one: Ok([10, 20])", "two: Ok([10, 20])"]];
    assert_eq!(found(&works, &skewed), BELOW_SERIALIZABLE);
}

#[test]
#[parallel]
fn phantoms_are_missed_below_serializable() {
    let works: [Work; 2] = [
        &[
            "SELECT value FROM test WHERE value % 3 = 0",
            "INSERT INTO test VALUES (3, 30)",
            "COMMIT",
        ],
        &[
            "SELECT value FROM test WHERE value % 3 = 0",
            "INSERT INTO test VALUES (4, 42)",
            "COMMIT",
        ],
    ];
    let missed: [&[&str]; 1] = [&["one: Ok([0])", "two: Ok([0])"]];
    assert_eq!(found(&works, &missed), BELOW_SERIALIZABLE);
}
