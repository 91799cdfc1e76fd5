//! What a test shows that ends in an error of the harness.

use std::error::Error;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel_locks::{Condition, LockError, condition};
use diesel_locks_harness::{Contention, Explorer, HarnessError, Scenario, Spec, Steps};
use serial_test::parallel;

use crate::support::database;

fn nowhere() -> ConnectionResult<PgConnection> {
    PgConnection::establish("postgres://nobody@127.0.0.1:1/none")
}

fn divide(conn: &mut PgConnection) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT 1 / 0")?)
}

#[test]
#[parallel]
fn debug_is_the_sentence_with_its_causes() {
    let ran = Contention::new(nowhere).run(|_| Ok::<_, LockError>(()));
    let shown = format!("{:?}", ran.unwrap_err());
    let expected = "contender 0 could not connect\n\nCaused by:\n    ";
    assert!(shown.starts_with(expected), "{shown}");
    assert!(shown.contains("127.0.0.1"), "{shown}");

    let opened = Scenario::new(nowhere).session("first");
    let shown = format!("{:?}", HarnessError::from(opened.unwrap_err()));
    let expected = "session \"first\" could not connect\n\nCaused by:\n    ";
    assert!(shown.starts_with(expected), "{shown}");

    let shown = format!("{:?}", Spec::parse("session").unwrap_err());
    assert_eq!(
        shown,
        "line 1, column 8: expected the name of a session, found the end of the file"
    );
}

#[test]
#[parallel]
fn debug_of_a_step_that_came_to_no_end_has_the_transcript() {
    let database = database();
    let scenario = Scenario::new(|| PgConnection::establish(database.url()));
    let first = scenario.session("first").unwrap();
    let ran = first.run("boom", |_| -> Result<(), LockError> { panic!("no idea") });
    let shown = format!("{:?}", ran.unwrap_err());
    let sentence = "step \"boom\" of session \"first\" panicked: no idea\n";
    assert!(shown.starts_with(sentence), "{shown}");
    assert!(shown.contains("│ boom ✗"), "{shown}");
}

#[test]
#[parallel]
fn an_error_of_a_step_is_told_with_its_sources_wherever_it_is_told() {
    let database = database();
    let scenario = Scenario::new(|| PgConnection::establish(database.url()));
    let first = scenario.session("first").unwrap();
    let words = "the database reported an error: division by zero";

    let error = first.run("divide", divide).unwrap_err();
    assert_eq!(error.to_string(), format!("the step failed: {words}"));
    assert_eq!(format!("{error:?}"), format!("the step failed: {words}"));

    let boxed =
        |conn: &mut PgConnection| -> Result<(), Box<dyn Error + Send + Sync>> { Ok(divide(conn)?) };
    let error = first.run("divide in a box", boxed).unwrap_err();
    assert_eq!(error.to_string(), format!("the step failed: {words}"));

    let found = first.try_assert_fails_with("divide", divide, LockError::is_contention);
    let error = found.unwrap_err().to_string();
    let sentence = format!("failed otherwise than expected: {words}\n");
    assert!(error.contains(&sentence), "{error}");

    let told = scenario.transcript().to_string();
    let told: Vec<_> = told
        .split_whitespace()
        .filter(|word| *word != "│")
        .collect();
    assert_eq!(told.join(" ").matches(words).count(), 3, "{told:?}");
}

#[test]
#[parallel]
fn a_cause_can_be_asked_for_through_the_errors_of_the_harness() {
    let database = database();
    let explored = Explorer::<PgConnection>::new(|| PgConnection::establish(database.url()))
        .session("only", Steps::<_, ()>::new())
        .setup(|_| Err("no tables".into()))
        .explore();
    let error = HarnessError::from(explored.unwrap_err());
    assert_eq!(condition(&error), None);

    let spec = Spec::parse(
        "setup { DO $$BEGIN RAISE 'x' USING ERRCODE = '40001'; END$$; } session s step a {}",
    );
    let ran = spec
        .unwrap()
        .run(|| PgConnection::establish(database.url()));
    let error: Box<dyn Error> = HarnessError::from(ran.unwrap_err()).into();
    assert_eq!(condition(&*error), Some(Condition::SerializationFailure));
}
