use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::relations::{Locks, Relation, State};
use super::report::{Blocks, LockTaken, Touched};
use crate::migrate::words;

/// A migration that was carried out.
pub(super) struct Ran {
    pub(super) took: Duration,
    pub(super) sent: Vec<String>,
}

/// What was seen of one migration.
pub(super) struct Seen {
    ran: Ran,
    /// What it has locked.
    pub(super) locks: Locks,
    /// What was locked before it, and is until the rollback.
    pub(super) locked_before: Locks,
    /// What is locked, as it was before the migration.
    relations: BTreeMap<u32, Relation>,
    rewritten: Vec<String>,
    scanned: Vec<String>,
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
    pub(super) fn of(ran: Ran, before: &State, after: &State) -> Self {
        let locks = (after.locks.difference(&before.locks)).cloned().collect();
        let mut locked_before = before.locks.clone();
        locked_before.retain(|(oid, _)| before.relations.contains_key(oid));
        let relations = (before.locks.union(&after.locks))
            .filter_map(|(oid, _)| Some((*oid, before.relations.get(oid)?.clone())))
            .collect();
        let changed = |is_so: fn(&Relation, &Relation) -> bool| -> Vec<String> {
            let mut names: Vec<String> = (after.relations.iter())
                .filter_map(|(oid, after)| Some((before.relations.get(oid)?, after)))
                .filter(|(before, after)| before.is_table() && is_so(before, after))
                .map(|(before, _)| before.qualified.clone())
                .collect();
            names.sort_unstable();
            names
        };
        Self {
            ran,
            locks,
            locked_before,
            relations,
            rewritten: changed(|before, after| before.filenode != after.filenode),
            scanned: changed(|before, after| before.scans < after.scans),
        }
    }

    /// Whether locks that are held since `base` may hide some of its own.
    pub(super) fn is_hidden(&self, base: &State) -> bool {
        !self.locked_before.is_subset(&base.locks)
    }

    /// Those of `locks` that are on relations that this migration names.
    pub(super) fn named(&self, locks: &Locks) -> Locks {
        let sent = || self.ran.sent.iter().map(|sql| &**sql);
        let is_named = |oid: &u32| {
            let relation = self.relations.get(oid);
            relation.is_some_and(|relation| words::mention(sent(), &relation.name))
        };
        let named = locks.iter().filter(|(oid, _)| is_named(oid));
        named.cloned().collect()
    }

    /// The locks of `unsure` may be taken again.
    pub(super) fn report(self, base: &State, unsure: &Locks) -> Touched {
        // A relation that the migration itself makes is seen by nobody else.
        let known = |oid| self.relations.get(oid).or(base.relations.get(oid));
        let mut locks: Vec<LockTaken> = (self.locks.union(unsure))
            .filter_map(|lock| {
                let relation = known(&lock.0)?;
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
        Touched {
            locks,
            rewritten: self.rewritten,
            scanned: self.scanned,
            took: self.ran.took,
        }
    }
}
