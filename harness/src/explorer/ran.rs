use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::ends::Ending;
use super::model::{Next, Taken};
use super::report::Run;
use crate::transcript::Transcript;

/// What came of a schedule.
pub(super) struct Ran {
    pub(super) run: Run,
    pub(super) record: Record,
    pub(super) ending: Ending,
    /// The sessions that have failed as they may.
    pub(super) excused: Vec<usize>,
    pub(super) has_strayed: bool,
    /// The server has chosen whom of several to let go on.
    pub(super) is_chosen: bool,
    /// Another session than the one that closed a circle was ended for it.
    pub(super) is_late: bool,
    /// The session that was ended.
    pub(super) crashed: Option<usize>,
    /// A session has waited for something that is not the server's.
    pub(super) waits_outside: bool,
}

/// What has happened, for what is known of the program.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    pub(super) start: Vec<Option<Arc<Next>>>,
    pub(super) taken: Vec<Taken>,
}

impl Ran {
    pub(super) fn new(only: Option<&[usize]>, transcript: Transcript) -> Self {
        Self {
            run: Run::new(only.map(<[usize]>::to_vec), transcript),
            record: Record::default(),
            ending: Ending::default(),
            excused: Vec::new(),
            has_strayed: false,
            is_chosen: false,
            is_late: false,
            crashed: None,
            waits_outside: false,
        }
    }

    pub(super) fn takes_part(&self, session: usize) -> bool {
        self.run
            .only
            .as_ref()
            .is_none_or(|only| only.contains(&session))
    }
}

/// What is in it is whole, whoever has panicked.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
