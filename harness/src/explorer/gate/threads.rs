//! The threads of a session.

use std::fs;
use std::path::{Path, PathBuf};
use std::thread::{self, ThreadId};

/// Those that do what the session does.
#[derive(Default)]
pub(super) struct Threads {
    /// Each with what the operating system calls it.
    entered: Vec<(ThreadId, Option<PathBuf>)>,
    /// How many are to come.
    expected: usize,
}

impl Threads {
    /// This is one of them.
    pub(super) fn enter(&mut self) {
        let path = fs::read_link("/proc/thread-self").ok();
        let path = path.map(|path| Path::new("/proc").join(path));
        self.entered.push((thread::current().id(), path));
    }

    /// This is none any more.
    pub(super) fn leave(&mut self) {
        let own = thread::current().id();
        if let Some(at) = self.entered.iter().rposition(|(id, _)| *id == own) {
            self.entered.remove(at);
        }
    }

    pub(super) fn expect(&mut self) {
        self.expected += 1;
    }

    pub(super) fn forget(&mut self) {
        // It may be of a run that is over.
        self.expected = self.expected.saturating_sub(1);
    }

    /// Whether there is more than one, or will be.
    pub(super) fn has_others(&self) -> bool {
        let first = self.entered.first();
        self.expected > 0
            || first.is_some_and(|(id, _)| self.entered.iter().any(|(other, _)| other != id))
    }

    /// What the operating system calls all but this one.
    pub(super) fn others(&self, but: Option<ThreadId>) -> Vec<Option<PathBuf>> {
        let others = self.entered.iter().filter(|(id, _)| Some(*id) != but);
        others.map(|(_, path)| path.clone()).collect()
    }
}

pub(super) fn is_asleep(thread: Option<&Path>) -> bool {
    let stat = thread.map(|thread| fs::read_to_string(thread.join("stat")));
    match stat {
        // What comes after the name, which is in parentheses.
        Some(Ok(stat)) => stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.trim_start().starts_with('S')),
        _ => true,
    }
}
