//! Where a session's thread is held until it is its turn.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::result::{DatabaseErrorKind, Error as DieselError};
use diesel_locks::{Condition, condition};

use super::end::End;
use super::footprint::{Kind, Statement};
use super::model::Next;
use crate::sessions::Execution;
use crate::transcript::What;

thread_local! {
    static CURRENT: RefCell<Option<Arc<Gate>>> = const { RefCell::new(None) };
}

/// The gate of a session: its thread stops here before each step.
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
    /// Whether the thread waits for the server's answer.
    in_query: bool,
    /// The thread, as the operating system calls it.
    thread: Option<PathBuf>,
    has_sent: bool,
    /// How often each label was used.
    labels: HashMap<String, usize>,
    /// Whether the statements so far have left a transaction open.
    is_open: bool,
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

/// What a session's thread panics with to end.
struct Crash;

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

    /// Whether the thread sleeps, as far as the operating system tells.
    pub(super) fn is_asleep(&self) -> bool {
        let stat = self
            .inner()
            .thread
            .as_ref()
            .map(|thread| fs::read_to_string(thread.join("stat")));
        match stat {
            // What comes after the name, which is in parentheses.
            Some(Ok(stat)) => stat
                .rsplit_once(')')
                .is_some_and(|(_, rest)| rest.trim_start().starts_with('S')),
            _ => true,
        }
    }

    /// This is the session's thread.
    fn is_here(&self) {
        let thread = fs::read_link("/proc/thread-self").ok();
        self.inner().thread = thread.map(|thread| Path::new("/proc").join(thread));
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

    /// Has the thread end, as soon as it comes to a step.
    pub(super) fn crash(&self) {
        let mut inner = self.inner();
        inner.is_to_crash = true;
        drop(inner);
        self.changed.notify_all();
    }

    /// Has the thread end instead of doing its next step, and the execution told when it has.
    pub(super) fn crash_now(&self) {
        let mut inner = self.inner();
        inner.at = At::Going;
        inner.in_step = true;
        drop(inner);
        self.crash();
    }

    /// Lets the thread do its next step, and end when that was answered.
    pub(super) fn crash_after(&self) {
        self.inner().is_to_crash_after = true;
        self.release();
    }

    /// The thread has come to a step of the test's own.
    pub(super) fn arrive(&self, label: &str) {
        self.park(Next::new(label, None));
    }

    /// The thread is to begin with code that sends its own statements. So far it touches nothing.
    pub(super) fn start(&self) {
        self.park(Next::new("start", Some(Statement::default())));
    }

    /// The thread has come to a statement.
    fn arrive_at(&self, statement: Statement) {
        let mut inner = self.inner();
        inner.has_sent = true;
        for part in statement.split() {
            match part.kind() {
                Kind::Begin(_) => inner.is_open = true,
                Kind::Commit | Kind::Rollback => inner.is_open = false,
                _ => {}
            }
        }
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
        drop(inner);
        self.park(Next::new(&label, Some(statement)));
        self.inner().in_query = true;
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
            drop(inner);
            panic::resume_unwind(Box::new(Crash));
        }
    }

    fn finish(&self, error: Option<&DieselError>) {
        let mut inner = self.inner();
        inner.in_query = false;
        if let Some(error) = error {
            inner.error = Some(copy(error));
            inner.last_error = Some(copy(error));
        } else if inner.is_to_crash_after && !thread::panicking() {
            drop(inner);
            panic::resume_unwind(Box::new(Crash));
        }
    }

    /// Whether the session has left a transaction open.
    pub(super) fn is_open(&self) -> bool {
        self.inner().is_open
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

/// Runs something as the session's, on this thread.
pub(super) fn within<T>(gate: &Arc<Gate>, work: impl FnOnce() -> T) -> T {
    struct Leave(Option<Arc<Gate>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            let before = self.0.take();
            CURRENT.with_borrow_mut(|current| *current = before);
        }
    }
    gate.is_here();
    let before = CURRENT.with_borrow_mut(|current| current.replace(Arc::clone(gate)));
    let _leave = Leave(before);
    work()
}

/// Whether a panic is the end of a session that was to end.
pub(super) fn is_crash(payload: &(dyn std::any::Any + Send)) -> bool {
    payload.is::<Crash>()
}

fn what(error: Option<&DieselError>) -> What {
    error.map_or(What::Done, |error| What::Failed(error.to_string()))
}

/// What can be kept of an error that is only lent.
fn copy(error: &DieselError) -> DieselError {
    match error {
        DieselError::DatabaseError(kind, information) => {
            let kind = match kind {
                DatabaseErrorKind::UniqueViolation => DatabaseErrorKind::UniqueViolation,
                DatabaseErrorKind::ForeignKeyViolation => DatabaseErrorKind::ForeignKeyViolation,
                DatabaseErrorKind::SerializationFailure => DatabaseErrorKind::SerializationFailure,
                DatabaseErrorKind::NotNullViolation => DatabaseErrorKind::NotNullViolation,
                DatabaseErrorKind::CheckViolation => DatabaseErrorKind::CheckViolation,
                DatabaseErrorKind::ClosedConnection => DatabaseErrorKind::ClosedConnection,
                _ => DatabaseErrorKind::Unknown,
            };
            DieselError::DatabaseError(kind, Box::new(information.message().to_owned()))
        }
        other => {
            DieselError::DatabaseError(DatabaseErrorKind::Unknown, Box::new(other.to_string()))
        }
    }
}

/// How many connections are being opened, on whichever thread.
static CONNECTING: AtomicUsize = AtomicUsize::new(0);

/// Whether a connection is being opened, for which a session's thread may wait.
pub(super) fn is_connecting() -> bool {
    CONNECTING.load(Ordering::Relaxed) > 0
}

/// The instrumentation of the connections that sessions use: it passes every event on.
pub(super) struct Hook<I>(pub(super) Option<I>);

impl<I: Instrumentation> Instrumentation for Hook<I> {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        match &event {
            InstrumentationEvent::StartEstablishConnection { .. } => {
                CONNECTING.fetch_add(1, Ordering::Relaxed);
            }
            InstrumentationEvent::FinishEstablishConnection { .. } => {
                CONNECTING.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        let current = CURRENT.with_borrow(Option::clone);
        if let Some(gate) = current {
            match &event {
                InstrumentationEvent::StartQuery { query, .. } => {
                    let statement = Statement::parse(&query.to_string());
                    if !statement.is_housekeeping() {
                        gate.arrive_at(statement);
                    }
                }
                InstrumentationEvent::FinishQuery { error, .. } => gate.finish(*error),
                _ => {}
            }
        }
        if let Some(application) = &mut self.0 {
            application.on_connection_event(event);
        }
    }
}
