use std::cmp::Ordering;

use crate::explorer::model::{Actor, State};

/// A state of the program, and how it was come to. What comes first is looked at first.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) preemptions: usize,
    pub(super) order: Vec<Actor>,
    pub(super) state: State,
    pub(super) sleeping: Vec<Actor>,
    /// How often a run was to find out more.
    pub(super) tries: usize,
    /// How often it was begun again before.
    pub(super) beginning: usize,
}

impl Node {
    pub(super) fn root(state: State, beginning: usize) -> Self {
        Self {
            beginning,
            preemptions: 0,
            order: Vec::new(),
            state,
            sleeping: Vec::new(),
            tries: 0,
        }
    }

    fn rank(&self) -> (usize, &[Actor]) {
        (self.preemptions, &self.order)
    }
}

impl PartialEq for Node {
    fn eq(&self, other: &Self) -> bool {
        self.rank() == other.rank()
    }
}

impl Eq for Node {}

impl PartialOrd for Node {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Node {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank().cmp(&other.rank())
    }
}
