use std::time::Instant;

use crate::{LockError, Wait};

/// Tells whose time was over when a statement that this crate has limited has failed.
pub(crate) struct Clock {
    wait: Wait,
    begun: Instant,
}

impl Clock {
    pub(crate) fn start(wait: Wait) -> Self {
        Self {
            wait,
            begun: Instant::now(),
        }
    }

    /// A `statement_timeout` of the caller's own that is shorter stays what it is. One that ends
    /// beside its statement is a cancellation to the server.
    pub(crate) fn explain(&self, error: LockError) -> LockError {
        match (error, self.wait) {
            (
                LockError::StatementTimeout { source } | LockError::Canceled { source },
                Wait::Timeout(timeout),
            ) if self.begun.elapsed() >= timeout => LockError::Timeout {
                target: None,
                after: Some(timeout),
                source: Some(source),
            },
            (error, wait) => error.after(wait),
        }
    }
}
