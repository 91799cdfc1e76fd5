use std::ops::Range;

use super::interleavings::Interleavings;

/// What a file of the language of PostgreSQL's isolation tests says.
#[derive(Debug, Clone, Default)]
pub(super) struct Script {
    pub(super) setups: Vec<String>,
    pub(super) teardown: Option<String>,
    pub(super) sessions: Vec<ScriptSession>,
    /// Of all sessions, in the order of the file.
    pub(super) steps: Vec<ScriptStep>,
    /// As in the file: none, if all are meant.
    pub(super) permutations: Vec<Vec<ScriptEntry>>,
}

#[derive(Debug, Clone)]
pub(super) struct ScriptSession {
    pub(super) name: String,
    pub(super) setup: Option<String>,
    pub(super) teardown: Option<String>,
    /// Where its steps are among those of all sessions.
    pub(super) steps: Range<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct ScriptStep {
    pub(super) name: String,
    pub(super) session: usize,
    pub(super) sql: String,
}

/// A step in a permutation, with its markers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ScriptEntry {
    pub(super) step: usize,
    /// The marker `*`.
    pub(super) waits_at_first: bool,
    /// The steps that have to complete first: of other sessions, and in this permutation.
    pub(super) not_before: Vec<usize>,
}

impl ScriptEntry {
    pub(super) fn unmarked(step: usize) -> Self {
        Self {
            step,
            waits_at_first: false,
            not_before: Vec::new(),
        }
    }
}

impl Script {
    /// The names of the steps that no permutation of the file uses, sorted.
    pub(super) fn unused_steps(&self) -> Vec<String> {
        let used = |step: &usize| {
            let mut entries = self.permutations.iter().flatten();
            self.permutations.is_empty() || entries.any(|entry| entry.step == *step)
        };
        let unused = (0..self.steps.len()).filter(|step| !used(step));
        let mut names: Vec<_> = unused.map(|step| self.steps[step].name.clone()).collect();
        names.sort();
        names
    }

    /// The permutations of the file, or else all of them.
    pub(super) fn permutations(&self) -> impl Iterator<Item = Vec<ScriptEntry>> {
        let sessions = || self.sessions.iter().map(|session| session.steps.clone());
        let all = self
            .permutations
            .is_empty()
            .then(|| Interleavings::new(sessions()))
            .into_iter()
            .flatten()
            .map(|order| order.into_iter().map(ScriptEntry::unmarked).collect());
        self.permutations.iter().cloned().chain(all)
    }
}
