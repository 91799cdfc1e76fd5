//! The default instrumentation, while code runs that opens its connections itself.

use std::sync::{Mutex, PoisonError};

use diesel::connection::{
    Instrumentation, get_default_instrumentation, set_default_instrumentation,
};

use super::hook::Hook;

type Provider = fn() -> Option<Box<dyn Instrumentation>>;

/// How many want it, and the application's own.
static INSTALLED: Mutex<(usize, Option<Provider>)> = Mutex::new((0, None));

/// Has the statements of connections seen that are opened while this value lives, on whichever
/// thread: by [`Explorer::call`](crate::Explorer::call).
///
/// It sets Diesel's default instrumentation, of which the process has one. That of the application,
/// if it has one, is told by [`with`](Self::with) and goes on working.
#[derive(Debug)]
#[must_use = "connections are seen while it lives"]
pub struct SeenConnections(());

impl SeenConnections {
    /// For an application without a default instrumentation of its own.
    pub fn new() -> Self {
        Self::install(None)
    }

    /// The same, with what the application has given to Diesel's `set_default_instrumentation`. It
    /// is set again when the last of these values is gone.
    pub fn with(application: Provider) -> Self {
        Self::install(Some(application))
    }

    fn install(application: Option<Provider>) -> Self {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        installed.0 += 1;
        installed.1 = application.or(installed.1);
        // It fails where a provider has panicked: then there is nothing to be seen.
        let _ = set_default_instrumentation(provide);
        Self(())
    }

    /// Whether the application has an instrumentation of which nobody has told.
    pub(super) fn is_in_the_way() -> bool {
        let installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        installed.0 == 0 && get_default_instrumentation().is_some()
    }
}

impl Default for SeenConnections {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for SeenConnections {
    fn drop(&mut self) {
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        installed.0 -= 1;
        if installed.0 == 0 {
            let _ = set_default_instrumentation(installed.1.take().unwrap_or(|| None));
        }
    }
}

fn provide() -> Option<Box<dyn Instrumentation>> {
    let application = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner).1;
    Some(Box::new(Hook::new(
        application.and_then(|provide| provide()),
    )))
}
