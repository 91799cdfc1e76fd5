//! What the connections of sessions tell, on the thread that uses them.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::connection::{Instrumentation, InstrumentationEvent};

use super::footprint::Statement;
use super::gate::shared;

/// How many connections are being opened, on whichever thread.
static CONNECTING: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// Whether the application's instrumentation is being told of an event.
    static PASSES_ON: Cell<bool> = const { Cell::new(false) };

    /// Whether a hook was told of an event, since that was asked.
    static IS_TOLD: Cell<bool> = const { Cell::new(false) };
}

/// Uses a connection, and says whether there is a hook in it, as in one that a pool has lent to an
/// exploration before.
pub(super) fn is_told<T>(connection_is_used: impl FnOnce() -> T) -> (T, bool) {
    IS_TOLD.set(false);
    let used = connection_is_used();
    (used, IS_TOLD.get())
}

/// Whether a connection is being opened, for which a session's thread may wait.
pub(super) fn is_connecting() -> bool {
    CONNECTING.load(Ordering::Relaxed) > 0
}

/// The instrumentation of the connections that sessions use: it passes every event on. One in which
/// there is another, as where a session's connection is opened while connections are seen, is told
/// of each event by the outer one, and counts it once.
pub(super) struct Hook<I> {
    application: Option<I>,
    /// Which connection it is.
    number: usize,
}

impl<I> Hook<I> {
    pub(super) fn new(application: Option<I>) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            application,
            number,
        }
    }
}

impl<I> Drop for Hook<I> {
    fn drop(&mut self) {
        if let Some(gate) = shared::current() {
            gate.note_closed(self.number);
        }
    }
}

impl<I: Instrumentation> Instrumentation for Hook<I> {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        IS_TOLD.set(true);
        match &event {
            InstrumentationEvent::StartEstablishConnection { .. } => {
                CONNECTING.fetch_add(1, Ordering::Relaxed);
            }
            InstrumentationEvent::FinishEstablishConnection { .. } => {
                CONNECTING.fetch_sub(1, Ordering::Relaxed);
            }
            _ => {}
        }
        let is_outer = !PASSES_ON.get();
        if let Some(gate) = shared::current().filter(|_| is_outer) {
            match &event {
                InstrumentationEvent::StartQuery { query, .. } => {
                    let statement = Statement::parse(&query.to_string());
                    match gate.is_housekeeping(&statement) {
                        true => gate.keep_house(),
                        false => gate.arrive_at(statement, self.number),
                    }
                }
                InstrumentationEvent::FinishQuery { error, .. } => gate.finish(*error),
                _ => {}
            }
        }
        if let Some(application) = &mut self.application {
            let _passing = Passing(PASSES_ON.replace(true));
            application.on_connection_event(event);
        }
    }
}

/// Restores what was, however the application's instrumentation ends.
struct Passing(bool);

impl Drop for Passing {
    fn drop(&mut self) {
        PASSES_ON.set(self.0);
    }
}
