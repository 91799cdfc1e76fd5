//! Sessions that are ended on their way.

use super::connections::Connections;
use std::panic;
use std::sync::{MutexGuard, PoisonError};

use super::crash::Crash;
use super::{At, Gate, Inner};

impl Gate {
    /// Has the threads end for good, as soon as they come to a step.
    pub(in crate::explorer) fn stop(&self) {
        let mut inner = self.inner();
        inner.is_over = true;
        inner.is_to_crash = true;
        drop(inner);
        self.changed.notify_all();
    }

    /// Has the thread end instead of doing its next step, and the execution told when it has.
    pub(in crate::explorer) fn crash_now(&self) {
        let mut inner = self.inner();
        inner.at = At::Going;
        inner.in_step = true;
        inner.is_to_crash = true;
        drop(inner);
        self.changed.notify_all();
    }

    /// The session that was ended begins again, unless all is over. Says whether it does.
    pub(in crate::explorer) fn revive(&self) -> bool {
        let mut inner = self.inner();
        if !inner.is_over {
            inner.is_to_crash = false;
            inner.is_to_crash_after = false;
            inner.is_again = true;
            inner.connections = Connections::default();
            inner.last_error = None;
        }
        !inner.is_over
    }

    /// Whether the session was ended before, and has begun again.
    pub(in crate::explorer) fn is_again(&self) -> bool {
        self.inner().is_again
    }

    /// Whether the session was ended.
    pub(in crate::explorer) fn is_crashing(&self) -> bool {
        self.inner().is_to_crash
    }

    /// Lets the thread do its next step, and end when that was answered.
    pub(in crate::explorer) fn crash_after(&self) {
        self.inner().is_to_crash_after = true;
        self.release();
    }

    /// Another thread is before a statement: which of them is first, nobody has said.
    pub(super) fn refuse(&self, mut inner: MutexGuard<'_, Inner>) {
        inner.is_overlapping = true;
        while !inner.is_to_crash {
            let waited = self.changed.wait(inner);
            inner = waited.unwrap_or_else(PoisonError::into_inner);
        }
        drop(inner);
        panic::resume_unwind(Box::new(Crash));
    }
}
