use std::collections::BTreeSet;
use std::time::Duration;

use super::relations::{Relation, State};
use super::report::{Blocks, LockTaken, Touched};
use crate::migrate::words;

/// What was seen of one migration.
pub(super) struct Seen {
    /// The relations that it has locked, each with the mode.
    pub(super) locks: BTreeSet<(u32, String)>,
    pub(super) before: State,
    pub(super) after: State,
    pub(super) took: Duration,
    pub(super) sent: Vec<String>,
}

/// The modes, the strongest first.
const MODES: [&str; 8] = [
    "AccessExclusiveLock",
    "ExclusiveLock",
    "ShareRowExclusiveLock",
    "ShareLock",
    "ShareUpdateExclusiveLock",
    "RowExclusiveLock",
    "RowShareLock",
    "AccessShareLock",
];

/// The smaller, the stronger.
fn strength(mode: &str) -> Option<usize> {
    MODES.iter().position(|known| *known == mode)
}

impl Seen {
    /// The locks of `unsure` may be taken again.
    pub(super) fn report(&self, unsure: &BTreeSet<(u32, String)>) -> Touched {
        // A relation that the migration itself makes is seen by nobody else.
        let known = |oid: u32| self.before.relations.get(&oid);
        let mut locks: Vec<LockTaken> = (self.locks.union(unsure))
            .filter_map(|lock| {
                let relation = known(lock.0)?;
                Some(LockTaken {
                    mode: lock.1.clone(),
                    relation: relation.qualified.clone(),
                    kind: relation.kind(),
                    blocks: Blocks::by(&lock.1),
                    is_uncertain: unsure.contains(lock),
                })
            })
            .collect();
        locks.sort_by_key(|lock| {
            let strength = strength(&lock.mode);
            (strength, lock.kind != "table", lock.relation.clone())
        });
        // Beside a stronger one, one that may be taken says nothing.
        let mut named = BTreeSet::new();
        locks.retain(|lock| named.insert(lock.relation.clone()) || !lock.is_uncertain);
        let changed = |is_so: fn(&Relation, &Relation) -> bool| -> Vec<String> {
            let mut names: Vec<String> = (self.after.relations.iter())
                .filter_map(|(oid, after)| Some((known(*oid)?, after)))
                .filter(|(before, after)| before.is_table() && is_so(before, after))
                .map(|(before, _)| before.qualified.clone())
                .collect();
            names.sort_unstable();
            names
        };
        Touched {
            locks,
            rewritten: changed(|before, after| before.filenode != after.filenode),
            scanned: changed(|before, after| before.scans < after.scans),
            took: self.took,
        }
    }

    /// What the migrations before this one have locked, and hold until the rollback.
    pub(super) fn locked_before(&self, base: &BTreeSet<(u32, String)>) -> BTreeSet<(u32, String)> {
        let before = self.before.locks.difference(base);
        before
            .filter(|(oid, _)| self.before.relations.contains_key(oid))
            .cloned()
            .collect()
    }

    /// Those of them that are on relations that this one names.
    pub(super) fn locked_before_and_named(
        &self,
        base: &BTreeSet<(u32, String)>,
    ) -> BTreeSet<(u32, String)> {
        let sent = || self.sent.iter().map(|sql| &**sql);
        let mut locks = self.locked_before(base);
        locks.retain(|(oid, _)| {
            let relation = self.before.relations.get(oid);
            relation.is_some_and(|relation| words::mention(sent(), &relation.name))
        });
        locks
    }
}
