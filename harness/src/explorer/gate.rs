//! Where a session's thread is held until it is its turn.

mod connections;
mod crash;
mod ending;
mod error;
pub(super) mod shared;
mod threads;

use std::collections::HashMap;
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_locks::{Condition, condition};

use self::connections::Connections;
use self::crash::Crash;
pub(super) use self::crash::is_crash;
use self::error::copy;
use self::threads::Threads;
use super::end::End;
use super::footprint::Statement;
use super::model::Next;
use crate::sessions::Execution;
use crate::transcript::What;

/// The gate of a session: its threads stop here before each step.
pub(super) struct Gate {
    session: usize,
    execution: Arc<Execution>,
    /// Whether each statement is a step.
    holds_statements: bool,
    inner: Mutex<Inner>,
    changed: Condvar,
}

#[derive(Default)]
struct Inner {
    at: At,
    is_released: bool,
    /// The thread is to unwind instead of going on.
    is_to_crash: bool,
    /// It is to unwind when the statement that it is about to send was answered.
    is_to_crash_after: bool,
    /// Whether a step is under way, of which the execution knows.
    in_step: bool,
    /// Whether a thread waits for the server's answer.
    in_query: bool,
    /// Whether a thread waits for an answer of which the application does not know.
    keeps_house: bool,
    threads: Threads,
    /// The thread that stands before a statement or waits for its answer.
    sender: Option<ThreadId>,
    /// Another thread has come to a statement meanwhile.
    is_overlapping: bool,
    /// Nothing more will be done.
    is_over: bool,
    /// The session was ended, and has begun again.
    is_again: bool,
    has_sent: bool,
    /// How often each label was used.
    labels: HashMap<String, usize>,
    connections: Connections,
    /// The error of the last statement that failed, in the present step.
    error: Option<DieselError>,
    /// The same, of the whole run.
    last_error: Option<DieselError>,
}

#[derive(Default)]
enum At {
    #[default]
    Going,
    Parked(Arc<Next>),
    Ended(Option<End>),
}

impl Gate {
    pub(super) fn new(session: usize, execution: &Arc<Execution>, holds_statements: bool) -> Self {
        Self {
            session,
            execution: Arc::clone(execution),
            holds_statements,
            inner: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Begins a run.
    pub(super) fn begin(&self) {
        *self.inner() = Inner::default();
    }

    /// What the thread stands before, if it does.
    pub(super) fn parked(&self) -> Option<Arc<Next>> {
        match &self.inner().at {
            At::Parked(next) => Some(Arc::clone(next)),
            _ => None,
        }
    }

    /// Whether a statement of the session's was seen.
    pub(super) fn has_sent(&self) -> bool {
        self.inner().has_sent
    }

    pub(super) fn has_ended(&self) -> bool {
        matches!(self.inner().at, At::Ended(_))
    }

    pub(super) fn is_going(&self) -> bool {
        matches!(self.inner().at, At::Going)
    }

    /// Whether the thread is about something that is not the server's.
    pub(super) fn is_outside(&self) -> bool {
        let inner = self.inner();
        matches!(inner.at, At::Going) && !inner.in_query
    }

    pub(super) fn take_end(&self) -> Option<End> {
        match &mut self.inner().at {
            At::Ended(end) => end.take(),
            _ => None,
        }
    }

    /// Whether the step that has ended was ended by a deadlock.
    pub(super) fn is_victim(&self) -> bool {
        let inner = self.inner();
        let error = inner.error.as_ref();
        error.and_then(|error| condition(error)) == Some(Condition::Deadlock)
    }

    /// Whether the step that has ended has failed by what it makes of its row, and not by what others
    /// do: foreign keys are looked at when it has the row.
    pub(super) fn fails_itself(&self) -> bool {
        let inner = self.inner();
        let is_own = |error: &DieselError| {
            let is_later = matches!(
                error,
                DieselError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _)
            );
            !is_later && condition(error).is_none()
        };
        inner.error.as_ref().is_some_and(is_own)
    }

    /// The last error that the server sent in the step that has ended.
    pub(super) fn take_error(&self) -> Option<DieselError> {
        self.inner().error.take()
    }

    /// The last error that the server sent.
    pub(super) fn take_last_error(&self) -> Option<DieselError> {
        self.inner().last_error.take()
    }

    /// Waits until the thread stands before its first step, or has ended.
    pub(super) fn await_arrival(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let mut inner = self.inner();
        while matches!(inner.at, At::Going) {
            let now = Instant::now();
            if deadline <= now {
                return false;
            }
            let waited = self.changed.wait_timeout(inner, deadline - now);
            inner = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Lets the thread do its next step, which the execution knows already.
    pub(super) fn release(&self) {
        let mut inner = self.inner();
        inner.at = At::Going;
        inner.in_step = true;
        inner.is_released = true;
        inner.error = None;
        drop(inner);
        self.changed.notify_all();
    }

    /// The thread has come to a step of the test's own.
    pub(super) fn arrive(&self, label: &str) {
        self.park(Next::new(label, None));
    }

    /// The thread is to begin with code that sends its own statements. So far it touches nothing.
    pub(super) fn start(&self, label: &str) {
        self.park(Next::new(label, Some(Statement::default())));
    }

    /// The thread has come to a statement.
    pub(super) fn arrive_at(&self, statement: Statement, connection: usize) {
        let mut inner = self.inner();
        let own = thread::current().id();
        if inner.sender.is_some_and(|sender| sender != own) {
            if !thread::panicking() {
                self.refuse(inner);
            }
            return;
        }
        inner.has_sent = true;
        let is_mixed = inner.connections.note(&statement, connection);
        if !self.holds_statements {
            return;
        }
        let label = statement.label();
        let count = inner.labels.entry(label.clone()).or_default();
        *count += 1;
        let label = match *count {
            1 => label,
            count => format!("{label}#{count}"),
        };
        inner.sender = Some(own);
        drop(inner);
        let mut next = Next::new(&label, Some(statement));
        next.is_mixed = is_mixed;
        self.park(next);
        self.inner().in_query = true;
    }

    /// Whether a statement is no step.
    pub(super) fn is_housekeeping(&self, statement: &Statement) -> bool {
        let connections = &self.inner().connections;
        statement.is_housekeeping(connections.is_open(), connections.has_locks())
    }

    /// A connection was closed.
    pub(super) fn note_closed(&self, connection: usize) {
        self.inner().connections.close(connection);
    }

    /// Whether one was closed since that had a transaction open or locks.
    pub(super) fn take_closed(&self) -> bool {
        self.inner().connections.take_closed()
    }

    /// The thread sends something that is no step.
    pub(super) fn keep_house(&self) {
        self.inner().keeps_house = true;
    }

    fn park(&self, next: Next) {
        if thread::panicking() {
            // What is sent while a session is torn down is no step.
            return;
        }
        let mut inner = self.inner();
        inner.is_released = false;
        let ends = std::mem::take(&mut inner.in_step);
        let what = what(inner.error.as_ref());
        drop(inner);
        if ends {
            self.execution.end(self.session, what);
        }
        let mut inner = self.inner();
        inner.at = At::Parked(Arc::new(next));
        self.changed.notify_all();
        while !inner.is_released && !inner.is_to_crash {
            let waited = self.changed.wait(inner);
            inner = waited.unwrap_or_else(PoisonError::into_inner);
        }
        if inner.is_to_crash {
            inner.at = At::Going;
            inner.sender = None;
            drop(inner);
            panic::resume_unwind(Box::new(Crash));
        }
    }

    /// A statement was answered.
    pub(super) fn finish(&self, error: Option<&DieselError>) {
        let mut inner = self.inner();
        // That may be in the midst of a statement.
        let keeps_house = std::mem::take(&mut inner.keeps_house);
        if !keeps_house && inner.sender == Some(thread::current().id()) {
            inner.in_query = false;
            inner.sender = None;
        }
        if let Some(error) = error {
            inner.error = Some(copy(error));
            inner.last_error = Some(copy(error));
        } else if inner.is_to_crash_after && !keeps_house && !thread::panicking() {
            inner.is_to_crash = true;
            drop(inner);
            self.changed.notify_all();
            panic::resume_unwind(Box::new(Crash));
        }
    }

    /// Whether the session has left a transaction open.
    pub(super) fn is_open(&self) -> bool {
        self.inner().connections.is_open()
    }

    /// The thread has done all.
    pub(super) fn end(&self, end: End) {
        let mut inner = self.inner();
        let what = match (&end.panic, &end.error) {
            (Some(message), _) => What::Panicked(message.clone()),
            (None, Some(error)) => What::Failed(crate::chain::words(&**error)),
            (None, None) => what(inner.error.as_ref()),
        };
        let ends = std::mem::take(&mut inner.in_step);
        drop(inner);
        if ends {
            self.execution.end(self.session, what);
        }
        self.inner().at = At::Ended(Some(end));
        self.changed.notify_all();
    }

    /// Nothing panics that has it.
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn what(error: Option<&DieselError>) -> What {
    error.map_or(What::Done, |error| What::Failed(error.to_string()))
}
