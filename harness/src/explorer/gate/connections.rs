//! The connections that a session uses.

use std::collections::BTreeSet;

use crate::explorer::footprint::{Kind, Statement};

/// What the statements of each have left.
#[derive(Default)]
pub(super) struct Connections {
    /// Those with an open transaction.
    open: BTreeSet<usize>,
    /// Those that may have advisory locks of the session.
    locked: BTreeSet<usize>,
    /// Whether statements of one have come while another had a transaction open.
    is_mixed: bool,
    /// Whether one was closed that had something to let go.
    has_closed: bool,
}

impl Connections {
    /// Takes note of a statement, and says whether it can't be told any more from the statements
    /// of a session alone what belongs to which transaction.
    pub(super) fn note(&mut self, statement: &Statement, connection: usize) -> bool {
        self.is_mixed |= self.open.iter().any(|open| *open != connection);
        for part in statement.split() {
            match part.kind() {
                Kind::Begin(_) => {
                    self.open.insert(connection);
                }
                Kind::Commit | Kind::Rollback => {
                    self.open.remove(&connection);
                }
                _ => {}
            }
        }
        if statement.sql.contains("advisory_lock") {
            self.locked.insert(connection);
        }
        self.is_mixed
    }

    pub(super) fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    pub(super) fn has_locks(&self) -> bool {
        !self.locked.is_empty()
    }

    pub(super) fn close(&mut self, connection: usize) {
        let was_open = self.open.remove(&connection);
        self.has_closed |= self.locked.remove(&connection) || was_open;
    }

    pub(super) fn take_closed(&mut self) -> bool {
        std::mem::take(&mut self.has_closed)
    }
}
