use std::error::Error;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::steps::{Step, StepResult};
use crate::panics;
use crate::sessions::Pending;

type BoxError = Box<dyn Error + Send + Sync>;

/// Where a session is in its steps.
pub(super) struct Position<S> {
    pub(super) state: Arc<Mutex<S>>,
    pub(super) next: usize,
    /// The step that it does, with its name.
    pub(super) pending: Option<(String, Pending<(), BoxError>)>,
    pub(super) failed: bool,
}

impl<S: Default> Position<S> {
    pub(super) fn new() -> Self {
        Self {
            state: Arc::default(),
            next: 0,
            pending: None,
            failed: false,
        }
    }
}

/// A step as its session does it: one that fails has its transaction rolled back at once, so that
/// nobody waits for it.
pub(super) fn job<C, S>(step: Step<C, S>, state: Arc<Mutex<S>>) -> impl FnOnce(&mut C) -> StepResult
where
    C: LoadConnection<Backend = Pg>,
{
    move |conn| {
        let done = panic::catch_unwind(AssertUnwindSafe(|| step(conn, &mut lock(&state))));
        if !matches!(done, Ok(Ok(()))) {
            // On a connection that is lost there is nothing to roll back.
            let _ = conn.batch_execute("ROLLBACK");
        }
        done.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }
}

/// Makes an error of a panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> StepResult<T>) -> StepResult<T> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(panics::message(&*payload).into()))
}

/// A state that a panic has left is as good as one that an error has left.
pub(super) fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
