//! Transcripts for the renderers' tests.

use std::time::Duration;

use super::events::{Transcript, What};

pub(super) fn note(
    transcript: &mut Transcript,
    session: usize,
    tenths: u64,
    step: &str,
    what: What,
) {
    let at = Duration::from_micros(tenths * 100);
    transcript.note(session, at, step, what);
}

/// A step that ended before anything else happened.
pub(super) fn step(
    transcript: &mut Transcript,
    session: usize,
    tenths: u64,
    step: &str,
    end: What,
) {
    note(transcript, session, tenths, step, What::Started);
    note(transcript, session, tenths, step, end);
}

pub(super) fn waiting(by: &[&str], lock: &str) -> What {
    What::Waiting {
        by: by.iter().map(|&name| name.to_owned()).collect(),
        lock: lock.to_owned(),
    }
}

/// The second waits for the first, and gets the lock.
pub(super) fn handover() -> Transcript {
    let mut transcript = Transcript::default();
    let first = transcript.add_session("first");
    let second = transcript.add_session("second");
    step(&mut transcript, first, 0, "begin", What::Done);
    step(&mut transcript, first, 4, "lock", What::Done);
    note(&mut transcript, second, 6, "lock", What::Started);
    let wait = waiting(&["first"], "ShareLock on transaction");
    note(&mut transcript, second, 14, "lock", wait);
    step(&mut transcript, first, 20, "commit", What::Done);
    note(&mut transcript, second, 21, "lock", What::Done);
    transcript
}

/// Each waits for the other, and the second is told of the deadlock.
pub(super) fn deadlock() -> Transcript {
    let mut transcript = Transcript::default();
    let first = transcript.add_session("first");
    let second = transcript.add_session("second");
    let update = "UPDATE accounts\n    SET balance = 0\n    WHERE id = 2";
    step(&mut transcript, first, 0, "lock 1", What::Done);
    step(&mut transcript, second, 3, "lock 2", What::Done);
    note(&mut transcript, first, 6, update, What::Started);
    let wait = waiting(&["second"], "ShareLock on transaction");
    note(&mut transcript, first, 15, update, wait);
    note(&mut transcript, second, 18, "lock 1", What::Started);
    let wait = waiting(&["first"], "ShareLock on transaction");
    note(&mut transcript, second, 27, "lock 1", wait);
    let error = "deadlock detected\nProcess 71 waits for ShareLock on transaction 741.";
    let end = What::Failed(error.to_owned());
    note(&mut transcript, second, 10_027, "lock 1", end);
    step(&mut transcript, second, 10_029, "rollback", What::Done);
    note(&mut transcript, first, 10_028, update, What::Done);
    transcript
}

/// Nothing in it is easy to write down, and some of its steps never end.
pub(super) fn odd() -> Transcript {
    let mut transcript = Transcript::default();
    let names = [
        "",
        "end",
        "a;b\n#59;: <b>\"x\" & 'y'",
        "ünï\u{1}\u{ffff}",
        "as %%{init: {}}%% %",
    ];
    let label = "end; style x:#35;y\t<script>&\"'\0 {}%% ]]> --> \u{1b}[1m";
    for name in names {
        let session = transcript.add_session(name);
        let error = What::Failed("\n\nx;#<b>:\n\ny".to_owned());
        step(&mut transcript, session, 5, label, error);
        step(
            &mut transcript,
            session,
            5,
            "",
            What::Panicked(String::new()),
        );
        step(
            &mut transcript,
            session,
            4,
            &"x".repeat(100),
            What::TimedOut,
        );
    }
    note(&mut transcript, 1, 10_000_000, "end", What::Started);
    note(
        &mut transcript,
        1,
        10,
        "end",
        waiting(&names, "lock on \"a;b\""),
    );
    note(&mut transcript, 1, 11, "end", waiting(&[], "a: b"));
    note(&mut transcript, 3, 11, "end", waiting(&["nobody"], "a:b"));
    note(
        &mut transcript,
        3,
        11,
        "end",
        What::Failed(label.to_owned()),
    );
    note(&mut transcript, 4, 11, "end", waiting(&names[3..4], "x"));
    note(&mut transcript, 2, 12, "end", What::Started);
    transcript
}
