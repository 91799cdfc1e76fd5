//! PostgreSQL's language for isolation tests, run by this crate.

use std::time::{Duration, Instant};

use diesel::{Connection, PgConnection};
use diesel_locks_harness::{SessionError, Spec, SpecRunError, StepProblem, TestDatabase};
use serial_test::parallel;

use crate::support;

/// What isolationtester would print for this text, but for rows.
fn run(text: &str) -> String {
    let database = TestDatabase::new().unwrap();
    let spec = Spec::parse(text).unwrap();
    spec.run(|| PgConnection::establish(database.url()))
        .unwrap()
        .to_string()
}

fn fails(text: &str) -> SpecRunError {
    let database = TestDatabase::new().unwrap();
    let spec = Spec::parse(text).unwrap();
    let spec = spec.timeout(Duration::from_secs(1));
    spec.run(|| PgConnection::establish(database.url()))
        .unwrap_err()
}

const ACCOUNTS: &str = "
    setup    { CREATE TABLE accounts (id int, balance int); }
    setup    { INSERT INTO accounts VALUES (1, 100), (2, 100); }
    teardown { DROP TABLE accounts; }
";

#[test]
#[parallel]
fn a_step_that_waits_completes_when_the_lock_is_free() {
    let text = format!(
        "{ACCOUNTS}
        session s1
        setup       {{ BEGIN; }}
        step read1  {{ SELECT balance FROM accounts WHERE id = 1 FOR UPDATE; }}
        step write1 {{ UPDATE accounts SET balance = 90
                       WHERE id = 1; }}
        step end1   {{ COMMIT; }}
        session s2
        step read2  {{ SELECT balance FROM accounts WHERE id = 1 FOR UPDATE; }}
        step now2   {{ SELECT balance FROM accounts WHERE id = 1 FOR UPDATE NOWAIT; }}
        permutation read1 read2 write1 end1
        permutation read1 now2 write1 end1 now2"
    );
    assert_eq!(
        run(&text),
        "\
Parsed test spec with 2 sessions

starting permutation: read1 read2 write1 end1
step read1: SELECT balance FROM accounts WHERE id = 1 FOR UPDATE;
step read2: SELECT balance FROM accounts WHERE id = 1 FOR UPDATE; <waiting ...>
step write1: UPDATE accounts SET balance = 90
                       WHERE id = 1;
step end1: COMMIT;
step read2: <... completed>

starting permutation: read1 now2 write1 end1 now2
step read1: SELECT balance FROM accounts WHERE id = 1 FOR UPDATE;
step now2: SELECT balance FROM accounts WHERE id = 1 FOR UPDATE NOWAIT;
ERROR:  could not obtain lock on row in relation \"accounts\"
step write1: UPDATE accounts SET balance = 90
                       WHERE id = 1;
step end1: COMMIT;
step now2: SELECT balance FROM accounts WHERE id = 1 FOR UPDATE NOWAIT;
"
    );
}

#[test]
#[parallel]
fn steps_without_permutations_run_in_every_order() {
    let printed = run("
        session s1  step a { SELECT 1; }  step b { }
        session s2  step c { SELECT 2; }");
    let orders: Vec<_> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("starting permutation: "))
        .collect();
    assert_eq!(orders, ["a b c", "a c b", "c a b"]);
    // A step without SQL does nothing, and well.
    assert!(printed.contains("\nstep b: \n"), "{printed}");
    assert!(!printed.contains("ERROR"), "{printed}");
}

#[test]
#[parallel]
fn a_deadlock_ends_the_step_that_notices_it() {
    let printed = run("
        session s1
        setup      { BEGIN; SET LOCAL deadlock_timeout = '60s'; }
        step one1  { SELECT pg_advisory_xact_lock(1); }
        step two1  { SELECT pg_advisory_xact_lock(2); }
        step end1  { COMMIT; }
        session s2
        setup      { BEGIN; SET LOCAL deadlock_timeout = '300ms'; }
        step two2  { SELECT pg_advisory_xact_lock(2); }
        step one2  { SELECT pg_advisory_xact_lock(1); }
        step end2  { COMMIT; }
        permutation one1 two2 two1 one2 end2 end1");
    let expected = "\
step two1: SELECT pg_advisory_xact_lock(2); <waiting ...>
step one2: SELECT pg_advisory_xact_lock(1); <waiting ...>
step one2: <... completed>
ERROR:  deadlock detected
step two1: <... completed>
step end2: COMMIT;
step end1: COMMIT;
";
    assert!(printed.ends_with(expected), "{printed}");
}

#[test]
#[parallel]
fn markers_delay_what_is_reported() {
    let sessions = "
        session s1
        step take1 { SELECT pg_advisory_lock(1); }
        step free1 { SELECT pg_advisory_unlock(1); }
        session s2
        step take2 { SELECT pg_advisory_lock(1), pg_advisory_unlock(1); }
        session s3
        step take3 { SELECT pg_advisory_lock(1), pg_advisory_unlock(1); }
        step quick { SELECT 1; }
        teardown   { SELECT pg_advisory_unlock_all(); }
    ";
    let lines = |permutation: &str| {
        let printed = run(&format!("{sessions} permutation {permutation}"));
        let words = printed.lines().filter_map(|line| {
            let line = line.strip_prefix("step ")?;
            let (name, rest) = line.split_once(": ")?;
            Some(
                match (rest == "<... completed>", rest.ends_with("<waiting ...>")) {
                    (true, _) => format!("{name}!"),
                    (_, true) => format!("{name}…"),
                    _ => name.to_owned(),
                },
            )
        });
        words.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(
        lines("take1 take2 take3 free1"),
        "take1 take2… take3… free1 take2! take3!"
    );
    assert_eq!(
        lines("take1 take2(take3) take3 free1"),
        "take1 take2… take3… free1 take3! take2!"
    );
    // At once, and not only after the next step.
    assert_eq!(
        lines("take1 take2(take3) take3 free1 take1"),
        "take1 take2… take3… free1 take3! take2! take1"
    );
    // It does not wait, but is said to.
    assert_eq!(lines("quick(*) take1 free1"), "quick… take1 quick! free1");
    // It ends before the one that it is to be reported after.
    assert_eq!(
        lines("take1 take2 quick(take2) free1"),
        "take1 take2… quick… free1 take2! quick!"
    );
}

#[test]
#[parallel]
fn steps_that_hold_each_other_up_are_an_error_at_once() {
    let error = fails(
        "session s1  step a { SELECT 1; }
         session s2  step b { SELECT 2; }
         permutation a(*, b) b(a)",
    );
    assert!(
        matches!(
            &error,
            SpecRunError::Session(SessionError::Step {
                problem: StepProblem::HeldUp,
                ..
            })
        ),
        "{error:?}"
    );
}

#[test]
#[parallel]
fn a_permutation_that_can_not_go_on_is_stopped_and_shown() {
    let begun = Instant::now();
    let error = fails(
        "session s1
         step take1 { SELECT pg_advisory_lock(1); }
         session s2
         step take2 { SELECT pg_advisory_lock(1); }
         step more2 { SELECT 2; }
         permutation take1 take2 more2",
    );
    let SpecRunError::Session(SessionError::Step {
        session,
        step,
        problem,
        transcript,
    }) = error
    else {
        panic!("{error:?}");
    };
    assert_eq!((session.as_str(), step.as_str()), ("s2", "take2"));
    assert!(matches!(problem, StepProblem::TimedOut { .. }));
    assert!(
        transcript.to_string().contains("waits for s1"),
        "{transcript}"
    );
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
#[parallel]
fn a_setup_that_fails_is_an_error_and_a_teardown_that_fails_is_told() {
    for (text, which) in [
        (
            "setup { SELECT 1/0; } session s step a { SELECT 1; }",
            "setup",
        ),
        (
            "session s setup { SELECT 1/0; } step a { SELECT 1; }",
            "setup of session s",
        ),
    ] {
        let error = fails(text);
        assert!(
            matches!(&error, SpecRunError::Prepare { what, source }
                if what == which && source.to_string() == "division by zero"),
            "{error:?}"
        );
    }
    let printed = run("
        teardown { SELECT 1/0; }
        session s  step a { SELECT 1; }  teardown { SELECT 2/0; }");
    let expected = "\
step a: SELECT 1;
teardown of session s failed: ERROR:  division by zero
teardown failed: ERROR:  division by zero
";
    assert!(printed.ends_with(expected), "{printed}");
}

#[test]
#[parallel]
fn a_session_that_is_ended_by_a_step_is_told_and_the_others_go_on() {
    let printed = run("
        session s1
        setup     { SELECT pg_advisory_lock(1); }
        step die  { SELECT pg_terminate_backend(pg_backend_pid()); }
        session s2
        step take { SELECT pg_advisory_lock(1); }
        permutation take die");
    let (_, after) = printed.split_once("step die: ").unwrap();
    assert!(
        after.contains("\nserver closed the connection"),
        "{printed}"
    );
    assert!(after.contains("step take: <... completed>"), "{printed}");
}

#[test]
#[parallel]
fn unused_steps_are_told() {
    let printed = run("
        session s  step z { SELECT 1; }  step a { SELECT 2; }  step b { SELECT 3; }
        permutation a");
    assert!(
        printed.starts_with("unused step name: b\nunused step name: z\nParsed test spec with 1 "),
        "{printed}"
    );
}

#[test]
#[parallel]
fn every_permutation_has_a_transcript_of_its_own() {
    let database = TestDatabase::new().unwrap();
    let spec = Spec::parse(
        "session s  step a { SELECT 1; }  step b { SELECT 2; } permutation a permutation b a",
    );
    let transcript = spec
        .unwrap()
        .run(|| PgConnection::establish(database.url()))
        .unwrap();
    let texts: Vec<_> = transcript.permutations().map(ToString::to_string).collect();
    assert_eq!(texts.len(), 2);
    assert!(
        texts[0].contains("a ✓") && !texts[0].contains("b ✓"),
        "{}",
        texts[0]
    );
    assert!(texts[1].find("b ✓") < texts[1].find("a ✓"), "{}", texts[1]);
}

#[test]
#[parallel]
fn a_spec_leaves_no_session_and_no_lock() {
    let database = TestDatabase::new().unwrap();
    let spec = Spec::parse("session s  step a { BEGIN; SELECT pg_advisory_lock(1); }").unwrap();
    spec.run(|| PgConnection::establish(database.url()))
        .unwrap();
    assert_eq!(support::advisory_locks(&database), 0);
    support::eventually(|| support::connections(&database) == 0);
}
