//! A session's transaction, as its statements tell.

use super::transaction::Transaction;
use crate::explorer::footprint::{
    Footprint, Kind, Lock, Serializable, Shapes, Statement, Strength,
};
use crate::sessions::IsolationLevel;

/// What a session has done and holds.
#[derive(Debug, Clone, Default)]
pub(super) struct Local {
    transaction: Option<Transaction>,
    /// Advisory locks of the session that it has for certain.
    session_held: Vec<Lock>,
    /// Those that it may have.
    session_locks: Vec<Lock>,
    /// It has done something of which nothing is known, and may have any lock.
    was_unknown: bool,
    /// Nothing is known of what it does from now on, such as after a `SET`.
    is_lost: bool,
}

/// What a statement will do, before it is known how it ends.
#[derive(Debug, Clone)]
pub(super) struct Foreseen {
    pub(super) footprint: Footprint,
    /// The one lock that it may have to wait for, where a wait is as good as coming later.
    pub(super) waits_for: Option<Lock>,
    /// Whether what others do from now on is not known either.
    pub(super) is_lost: bool,
    /// Whether it is several statements.
    is_several: bool,
    after: Local,
}

impl Local {
    /// Nothing is known of a session any more.
    pub(super) fn lost() -> Self {
        Self {
            was_unknown: true,
            is_lost: true,
            ..Self::default()
        }
    }

    /// What the session will do with a statement.
    pub(super) fn foresee(&self, statement: &Statement, shapes: &Shapes) -> Foreseen {
        let mut local = self.clone();
        let mut footprint = Footprint::default();
        let (mut waits_for, mut is_lost) = (None, false);
        let parts = statement.split();
        for part in &parts {
            let mut waits = None;
            footprint.add(local.part(part, shapes, &mut waits, &mut is_lost));
            waits_for = waits;
        }
        let waits_for = waits_for.filter(|_| parts.len() == 1);
        Foreseen {
            footprint,
            waits_for,
            is_lost,
            is_several: parts.len() > 1,
            after: local,
        }
    }

    fn part(
        &mut self,
        statement: &Statement,
        shapes: &Shapes,
        waits: &mut Option<Lock>,
        is_lost: &mut bool,
    ) -> Footprint {
        match statement.kind() {
            Kind::Begin(level) => {
                let begun = level.unwrap_or(shapes.default_level());
                let transaction = self
                    .transaction
                    .get_or_insert_with(|| Transaction::new(begun));
                // What is open already has the level from now on, too.
                transaction.level = level.unwrap_or(transaction.level);
                Footprint::default()
            }
            Kind::SetLevel(level) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.level = level;
                }
                Footprint::default()
            }
            Kind::RollbackTo | Kind::Commit | Kind::Rollback if self.is_lost => {
                self.transaction = None;
                self.unknown()
            }
            Kind::Savepoint | Kind::Release => Footprint::default(),
            Kind::RollbackTo => match &mut self.transaction {
                Some(transaction) => transaction.let_go(),
                None => Footprint::default(),
            },
            Kind::Commit | Kind::Rollback => {
                let commits = statement.kind() == Kind::Commit;
                let transaction = self.transaction.take();
                transaction.map_or_else(Footprint::default, |mut transaction| {
                    transaction.end(commits)
                })
            }
            Kind::Query => match (shapes.touch(statement), self.is_lost) {
                (Some(touch), false) => self.query(touch, shapes, waits),
                (known, _) => {
                    self.is_lost |= known.is_none() && shapes.may_configure(statement);
                    *is_lost |= known.is_none() && shapes.may_define(statement);
                    self.unknown()
                }
            },
            Kind::Other => {
                let word = statement.sql.split_whitespace().next().unwrap_or_default();
                let word = word.trim_end_matches(';').to_lowercase();
                let is_own = ["set", "reset", "discard"].contains(&word.as_str());
                self.is_lost |= is_own;
                // Anything else may have changed what statements mean.
                const HARMLESS: [&str; 12] = [
                    "lock", "copy", "show", "explain", "listen", "notify", "analyze", "vacuum",
                    "fetch", "declare", "close", "truncate",
                ];
                *is_lost |= !is_own && !HARMLESS.contains(&word.as_str());
                self.unknown()
            }
        }
    }

    fn unknown(&mut self) -> Footprint {
        self.was_unknown = true;
        // It may have let go of anything. Not every command takes a snapshot.
        self.session_held.clear();
        if let Some(transaction) = &mut self.transaction {
            transaction.is_unknown = true;
            transaction.is_quiet = false;
            transaction.held.clear();
        }
        Footprint::unknown()
    }

    fn query(
        &mut self,
        touch: crate::explorer::footprint::Touch,
        shapes: &Shapes,
        waits: &mut Option<Lock>,
    ) -> Footprint {
        let mut own = Transaction::new(shapes.default_level());
        let is_alone = self.transaction.is_none();
        let transaction = self.transaction.as_mut().unwrap_or(&mut own);
        let is_first = !std::mem::replace(&mut transaction.has_snapshot, true);
        transaction.is_quiet &= touch.writes.is_empty()
            && touch.locks.is_empty()
            && touch.bumps.is_empty()
            && touch.session_locks.is_empty();
        if touch.is_deferred {
            transaction.defer(&touch);
        }
        let mut footprint = Footprint {
            serializable: match (transaction.level, transaction.is_quiet) {
                (IsolationLevel::Serializable, true) => Serializable::Quiet,
                (IsolationLevel::Serializable, false) => Serializable::Yes,
                _ => Serializable::No,
            },
            ..Footprint::default()
        };
        let mut can_come_later = false;
        match transaction.level {
            IsolationLevel::ReadCommitted => {
                let locked = touch.locks.iter().map(|lock| lock.thing.clone());
                footprint
                    .sees
                    .extend(touch.reads.iter().cloned().chain(locked));
                footprint.sees.extend(touch.writes.iter().cloned());
                can_come_later = true;
            }
            IsolationLevel::RepeatableRead => {
                footprint.sees_all = is_first;
                can_come_later = !is_first;
            }
            IsolationLevel::Serializable => footprint.sees_all = is_first,
        }
        *waits = touch.waits_for.filter(|_| can_come_later);
        footprint.locks.extend(touch.locks.iter().cloned());
        footprint.locks.extend(touch.bumps);
        footprint.locks.extend(touch.session_locks.iter().cloned());
        footprint.lets_go.extend(touch.unlocks);
        self.session_locks.extend(touch.session_locks);
        // An unlock may let go of less than it says.
        self.session_held.retain(|held| {
            !footprint
                .lets_go
                .iter()
                .any(|unlocked| unlocked.thing.meets(&held.thing))
        });
        if is_alone {
            // What is deferred until its end comes with it, too.
            footprint.publishes.extend(touch.writes);
            footprint.lets_go.extend(touch.locks);
        } else if let Some(transaction) = &mut self.transaction {
            // A row of the same key may be another one now: who waits for the old one gets none.
            let replaced = |held: &Lock| {
                let meets = |lock: &Lock| {
                    lock.strength == Strength::Update && lock.thing.meets(&held.thing)
                };
                touch.writes.iter().any(|thing| thing.meets(&held.thing))
                    && touch.locks.iter().any(meets)
            };
            transaction.held.retain(|held| !replaced(held));
            transaction.writes.extend(touch.writes);
            transaction.locks.extend(touch.locks);
        }
        footprint
    }

    /// The session ends when its transaction is committed.
    pub(super) fn commit_and_crash(&self, commit: &Statement, shapes: &Shapes) -> Foreseen {
        let mut foreseen = self.foresee(commit, shapes);
        let left = std::mem::take(&mut foreseen.after);
        foreseen.footprint.unknown |= left.was_unknown;
        foreseen.footprint.lets_go.extend(left.session_locks);
        foreseen
    }

    /// The session ends, and its transaction with it.
    pub(super) fn crash(&self) -> Foreseen {
        let mut footprint = Footprint::default();
        if let Some(transaction) = &self.transaction {
            footprint.add(transaction.clone().let_go());
        }
        // It may have any lock of a session.
        footprint.unknown |= self.is_lost || self.was_unknown;
        footprint.lets_go.extend(self.session_locks.iter().cloned());
        Foreseen {
            footprint,
            waits_for: None,
            is_lost: false,
            is_several: false,
            after: Self::default(),
        }
    }

    /// What it was about has failed, and it may have lost its locks.
    pub(super) fn fail(&mut self) {
        if let Some(transaction) = &mut self.transaction {
            transaction.held.clear();
        }
    }

    /// Whether who does this may have to wait for the session.
    pub(super) fn may_hold_up(&self, footprint: &Footprint) -> bool {
        let own = self.transaction.as_ref();
        let is_unknown = self.was_unknown || own.is_some_and(|own| own.is_unknown);
        let locks = own.into_iter().flat_map(|own| &own.locks);
        let mut locks = locks.chain(&self.session_locks);
        match footprint.unknown {
            true => is_unknown || locks.next().is_some(),
            false => is_unknown || locks.any(|held| footprint.wants(held)),
        }
    }

    /// What the session has, that others would have to wait for.
    pub(super) fn held(&self) -> impl Iterator<Item = &Lock> {
        let held = self
            .transaction
            .iter()
            .flat_map(|transaction| &transaction.held);
        held.chain(&self.session_held)
    }
}

impl Foreseen {
    /// Whether the session has the lock anyway.
    pub(super) fn has(&self, lock: &Lock) -> bool {
        self.after.held().any(|held| held.covers(lock))
    }

    /// What the session is after the statement, which may have failed, and surely has the lock
    /// that it might have waited for.
    pub(super) fn end(mut self, before: &Local, fails: bool, holds: bool) -> (Footprint, Local) {
        if !fails {
            if let Some(lock) = self.waits_for.filter(|_| holds) {
                match &mut self.after.transaction {
                    Some(transaction) if transaction.locks.contains(&lock) => {
                        transaction.held.push(lock);
                    }
                    _ if self.footprint.lets_go.contains(&lock) => {}
                    _ => self.after.session_held.push(lock),
                }
            }
            return (self.footprint, self.after);
        }
        // Whatever it had is gone, or may be. What came after what has failed was not done.
        let mut after = self.after;
        after.is_lost |= self.is_several;
        if let Some(transaction) = &mut after.transaction {
            // A level that could not be set is none.
            transaction.level =
                (before.transaction.as_ref()).map_or(transaction.level, |before| before.level);
            self.footprint.add(transaction.let_go());
        } else if let Some(ended) = &before.transaction {
            self.footprint.add(ended.clone().let_go());
        }
        (self.footprint, after)
    }
}
