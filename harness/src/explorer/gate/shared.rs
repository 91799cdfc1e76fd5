//! A gate that several threads of a session come to.

use std::cell::RefCell;
use std::sync::{Arc, PoisonError};

use super::threads::is_asleep;
use super::{At, Gate};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Gate>>> = const { RefCell::new(None) };
}

impl Gate {
    /// Whether other threads than the one that stands here may do something.
    pub(in crate::explorer) fn is_shared(&self) -> bool {
        let inner = self.inner();
        !matches!(inner.at, At::Ended(_)) && inner.threads.has_others()
    }

    /// Whether the threads sleep that are not before a statement, as far as the operating system
    /// tells.
    pub(in crate::explorer) fn is_asleep(&self) -> bool {
        let inner = self.inner();
        if inner.keeps_house {
            return false;
        }
        let others = inner.threads.others(inner.sender);
        // Else they might sleep because they wait for it.
        drop(inner);
        others.iter().all(|thread| is_asleep(thread.as_deref()))
    }

    /// Whether two threads have come to statements at once.
    pub(in crate::explorer) fn is_overlapping(&self) -> bool {
        self.inner().is_overlapping
    }

    /// A thread is to be started that does a part of what the session does.
    pub(in crate::explorer) fn expect_thread(&self) {
        self.inner().threads.expect();
    }

    /// It has been started, or will not be.
    pub(in crate::explorer) fn expect_no_thread(&self) {
        self.inner().threads.forget();
        self.changed.notify_all();
    }

    /// Waits until the threads have ended that the session has started.
    pub(in crate::explorer) fn await_threads(&self) {
        let mut inner = self.inner();
        while inner.threads.has_others() && !inner.is_over {
            let waited = self.changed.wait(inner);
            inner = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// Runs something as the session's, on this thread.
pub(in crate::explorer) fn within<T>(gate: &Arc<Gate>, work: impl FnOnce() -> T) -> T {
    struct Leave<'g>(&'g Gate, Option<Arc<Gate>>);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            let before = self.1.take();
            CURRENT.with_borrow_mut(|current| *current = before);
            self.0.inner().threads.leave();
            self.0.changed.notify_all();
        }
    }
    gate.inner().threads.enter();
    let before = CURRENT.with_borrow_mut(|current| current.replace(Arc::clone(gate)));
    let _leave = Leave(gate, before);
    work()
}

/// The session whose thread this is.
pub(in crate::explorer) fn current() -> Option<Arc<Gate>> {
    CURRENT.with_borrow(Option::clone)
}
