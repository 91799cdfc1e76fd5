//! The line at which an assertion panics.

use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};

use std::sync::Arc;

use diesel::prelude::*;
use diesel_locks::{LockError, prelude::*};
use diesel_locks_harness::{LockAttempt, Scenario, assert_conflicts};
use serial_test::serial;

use crate::support::database;

/// Where a panic was, and what it said.
type Seen = (String, u32, String);

thread_local! {
    /// The hook is the whole process's; what it has seen is the test's own.
    static LAST: RefCell<Option<Seen>> = const { RefCell::new(None) };
}

fn note(info: &PanicHookInfo<'_>) {
    if let (Some(location), Some(message)) = (info.location(), info.payload().downcast_ref()) {
        let seen = (
            location.file().into(),
            location.line(),
            String::clone(message),
        );
        LAST.set(Some(seen));
    }
}

/// The line of an assertion, and the panic that it ended with.
macro_rules! panic_of {
    ($assertion:expr) => {{
        let _ = panic::catch_unwind(AssertUnwindSafe(|| $assertion));
        (line!(), LAST.take())
    }};
}

fn lock(conn: &mut PgConnection) -> Result<(), LockError> {
    conn.advisory_xact_lock(42)
}

#[test]
#[serial]
fn an_assertion_panics_at_its_callers_line_with_the_transcript() {
    let database = database();
    let connect = || PgConnection::establish(database.url());
    let refuse = || Err::<PgConnection, _>("no server");
    let scenario = Scenario::new(connect);
    let [first, second] = ["first", "second"].map(|name| scenario.session(name).unwrap());
    first.begin().unwrap();
    second.begin().unwrap();
    let attempt = [LockAttempt::new("7", |conn: &mut PgConnection| {
        conn.advisory_xact_lock(7)
    })];

    let hook = Arc::new(panic::take_hook());
    let before = Arc::clone(&hook);
    // Whatever else panics meanwhile is told as ever.
    panic::set_hook(Box::new(move |info| {
        note(info);
        before(info);
    }));
    let panics = [
        panic_of!(first.assert_blocks("lock", lock)),
        panic_of!(first.assert_fails_with("lock", lock, |_| true)),
        panic_of!(second.assert_does_not_block("lock", lock)),
        panic_of!(scenario.assert_deadlock([first.start("lock", lock)])),
        panic_of!(assert_conflicts(connect, attempt, "nothing")),
        panic_of!(assert_conflicts(refuse, [], "")),
    ];
    panic::set_hook(Box::new(move |info| hook(info)));

    let messages = panics.map(|(line, panic)| {
        let (file, at, message) = panic.unwrap();
        assert_eq!((&*file, at), (file!(), line), "{message}");
        message
    });
    let [steps @ .., matrix, refused] = &messages;
    let transcript = scenario.transcript().to_string();
    for message in steps {
        // It has what had happened until then, below a head and a rule as wide as that needs.
        let shown: Vec<_> = message.lines().skip(3).collect();
        assert!(shown[0].contains("begin ✓"), "{message}");
        let rows = transcript.lines().skip(2).take(shown.len());
        assert_eq!(rows.collect::<Vec<_>>(), shown, "{message}");
    }
    assert_eq!(
        matrix,
        "the locks conflict otherwise than expected\nexpected:\nnothing\nfound:\n\
         | requested \\ held | 7 |\n|------------------|---|\n| 7                | X |"
    );
    // Where there is no transcript, there is the cause.
    assert_eq!(refused, "session \"holder\" could not connect: no server");
}
