//! A transaction, as its statements tell.

use crate::explorer::footprint::{Footprint, Lock, Serializable, Thing, Touch};
use crate::sessions::IsolationLevel;

#[derive(Debug, Clone)]
pub(super) struct Transaction {
    pub(super) level: IsolationLevel,
    pub(super) has_snapshot: bool,
    /// It has written or locked.
    pub(super) is_quiet: bool,
    /// It has done something of which nothing is known.
    pub(super) is_unknown: bool,
    /// What its COMMIT does before it commits: what was deferred.
    deferred: Footprint,
    pub(super) writes: Vec<Thing>,
    pub(super) locks: Vec<Lock>,
    /// Those of the locks that it has for certain.
    pub(super) held: Vec<Lock>,
}

impl Transaction {
    pub(super) fn new(level: IsolationLevel) -> Self {
        Self {
            level,
            has_snapshot: false,
            is_quiet: true,
            is_unknown: false,
            deferred: Footprint::default(),
            writes: Vec::new(),
            locks: Vec::new(),
            held: Vec::new(),
        }
    }

    /// All that the statement touches may be what is looked at once more by the COMMIT.
    pub(super) fn defer(&mut self, touch: &Touch) {
        let locked = touch.locks.iter().map(|lock| &lock.thing);
        let seen = touch.reads.iter().chain(&touch.writes).chain(locked);
        self.deferred.sees.extend(seen.cloned());
        let locks = touch.locks.iter().chain(&touch.bumps);
        self.deferred.locks.extend(locks.cloned());
    }

    /// It may have let go of any of its locks.
    pub(super) fn let_go(&mut self) -> Footprint {
        self.held.clear();
        Footprint {
            unknown: self.is_unknown,
            serializable: self.serializable(),
            lets_go: self.locks.clone(),
            ..Footprint::default()
        }
    }

    pub(super) fn end(&mut self, commits: bool) -> Footprint {
        let mut footprint = self.let_go();
        if commits {
            footprint.add(std::mem::take(&mut self.deferred));
            footprint.publishes.append(&mut self.writes);
        }
        footprint
    }

    fn serializable(&self) -> Serializable {
        match self.level == IsolationLevel::Serializable && self.has_snapshot {
            true => Serializable::Yes,
            false => Serializable::No,
        }
    }
}
