use std::time::Duration;

use super::words;

/// What happened in a test's sessions, in order, with times.
///
/// It is for reading: in a failed test's output, or in a document. Everything in it was noted
/// while the test ran, so showing it costs no round trip to the server.
///
/// As text (`{transcript}`), each session has a column. A step is one row if nothing happened in
/// any session while it ran. A step that the server saw to wait has a bar until it ends:
///
/// ```text
///       ms │ first    │ second
/// ─────────┼──────────┼────────────────────────────────────────────
///      0.0 │ begin ✓  │
///      0.4 │ lock ✓   │
///      0.6 │          │ lock …
///      1.4 │          │ ┃ waits for first: ShareLock on transaction
///      2.0 │ commit ✓ │ ┃
///      2.1 │          │ ┗ lock ✓
/// ```
///
/// A time is that of the row's begin, in milliseconds since the test's.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    pub(super) sessions: Vec<String>,
    pub(super) events: Vec<Event>,
}

#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) session: usize,
    pub(super) at: Duration,
    pub(super) step: String,
    pub(super) what: What,
}

/// What became of a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    /// It was sent off.
    Started,
    /// The server said that it waits.
    Waiting {
        /// For these sessions.
        by: Vec<String>,
        /// For this lock, such as `ShareLock on transaction`.
        lock: String,
    },
    /// It ended well.
    Done,
    /// It ended with this error, which may have several lines.
    Failed(String),
    /// It panicked with this message.
    Panicked(String),
    /// The time limit was over, and it was cancelled.
    TimedOut,
}

impl What {
    pub(super) fn is_end(&self) -> bool {
        !matches!(self, Self::Started | Self::Waiting { .. })
    }
}

impl Transcript {
    /// One more column. The answer is its number, for [`note`](Self::note).
    pub(crate) fn add_session(&mut self, name: &str) -> usize {
        self.sessions.push(name.to_owned());
        self.sessions.len() - 1
    }

    /// One more event, to be shown after those before it, whatever its time.
    pub(crate) fn note(&mut self, session: usize, at: Duration, step: &str, what: What) {
        self.events.push(Event {
            session,
            at,
            step: step.to_owned(),
            what,
        });
    }

    /// The sessions' names, for the heads of the columns.
    pub(super) fn names(&self) -> Vec<String> {
        let names = self.sessions.iter();
        names.map(|name| words::shown_name(name)).collect()
    }
}
