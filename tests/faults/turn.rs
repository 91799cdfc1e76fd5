//! What an actor does at one turn. All of it is drawn before anything is done, so that no answer
//! of the server changes what is drawn next.

use std::fmt;
use std::time::Duration;

use diesel_locks::{AdvisoryLock, Wait};

use crate::support::chance::Chance;

/// The locks of a large set, which takes so long that faults come in the middle.
const LARGE: std::ops::Range<i64> = 1_000..1_400;

/// A lock that the hand has nearly all the time: nobody may wait for it for ever.
pub(crate) const HANDS: i64 = 99;

#[derive(Debug)]
pub(crate) struct Turn {
    pub(crate) source: Source,
    /// Whether a connection that has to be opened goes through the proxy.
    pub(crate) through_proxy: bool,
    /// A session's timeout that is far too short.
    pub(crate) limit: Option<Limit>,
    pub(crate) act: Act,
}

/// Where the connection comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Source {
    Plain,
    LockAware,
    Diesels,
    /// A guard with a connection of its own.
    OwnedGuard,
    GuardOfLockAware,
    GuardOfDiesels,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Limit {
    Statement(u32),
    Lock(u32),
}

#[derive(Debug)]
pub(crate) enum Act {
    Guard(GuardPlan),
    WithAdvisoryLock {
        lock: AdvisoryLock,
        fate: Fate,
    },
    Xact {
        lock: AdvisoryLock,
        ending: Ending,
        in_savepoint: bool,
        fate: Fate,
    },
    TransactionWithAdvisoryLock {
        lock: AdvisoryLock,
        ending: Ending,
        in_transaction: bool,
        fate: Fate,
    },
    Rows {
        first: i32,
        last: i32,
        shared: bool,
        ending: Ending,
        fate: Fate,
    },
    Table {
        shared: bool,
        ending: Ending,
        fate: Fate,
    },
}

#[derive(Debug)]
pub(crate) struct GuardPlan {
    pub(crate) locks: Locks,
    pub(crate) ending: Ending,
    pub(crate) transaction: Transaction,
    /// A guard that is taken through this one.
    pub(crate) inner: Option<Box<GuardPlan>>,
    /// Whether the server has one millisecond to let go.
    pub(crate) in_haste: bool,
    pub(crate) end: End,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Ending {
    Block,
    NoWait,
    Timeout(Duration),
    Try,
    /// For rows; all else takes it for `Try`.
    SkipLocked,
}

/// Where a guard's transaction is, if there is one.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Transaction {
    None,
    /// Around the guard, which ends in it.
    Around(Fate),
    /// Within the guard.
    Inside(Fate),
}

/// How a transaction, or other work, ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Fate {
    Commit,
    Rollback,
    /// A statement fails, and its error is passed on.
    Abort,
    /// A statement fails, and nobody cares.
    AbortUnnoticed,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum End {
    Release,
    Drop,
    Panic,
}

#[derive(Clone)]
pub(crate) struct Locks(pub(crate) Vec<AdvisoryLock>);

impl fmt::Debug for Locks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0[..] {
            [first, .., last] if self.0.len() > 8 => {
                write!(f, "[{first} … {last}: {}]", self.0.len())
            }
            few => f
                .debug_list()
                .entries(few.iter().map(ToString::to_string))
                .finish(),
        }
    }
}

impl Turn {
    pub(crate) fn draw(chance: &Chance) -> Self {
        let source = chance.choose(&[
            (8, Source::Plain),
            (6, Source::LockAware),
            (6, Source::Diesels),
            (1, Source::OwnedGuard),
            (2, Source::GuardOfLockAware),
            (2, Source::GuardOfDiesels),
        ]);
        let limit = match chance.below(12) {
            0 => Some(Limit::Statement(1 + chance.below(12))),
            1 => Some(Limit::Lock(1 + chance.below(12))),
            _ => None,
        };
        Self {
            source,
            through_proxy: chance.one_in(3),
            limit,
            act: match source {
                Source::Plain | Source::LockAware | Source::Diesels => Act::draw(chance),
                _ => Act::Guard(GuardPlan::draw(chance, Locks(vec![one(chance)]))),
            },
        }
    }
}

impl Act {
    fn draw(chance: &Chance) -> Self {
        let (ending, fate) = (ending(chance), fate(chance));
        match chance.below(16) {
            0 => Self::WithAdvisoryLock {
                lock: one(chance),
                fate,
            },
            1 | 2 => Self::Xact {
                lock: one_for(chance, ending.wait()),
                ending,
                in_savepoint: chance.one_in(3),
                fate,
            },
            3 | 4 => Self::TransactionWithAdvisoryLock {
                lock: one_for(chance, ending.wait()),
                ending,
                in_transaction: chance.one_in(4),
                fate,
            },
            5 | 6 => {
                let first = 1 + chance.below(6) as i32;
                Self::Rows {
                    first,
                    last: first + chance.below(3) as i32,
                    shared: chance.one_in(3),
                    ending,
                    fate,
                }
            }
            7 => Self::Table {
                shared: chance.one_in(2),
                ending,
                fate,
            },
            _ => Self::Guard(GuardPlan::draw(chance, locks(chance))),
        }
    }
}

impl GuardPlan {
    fn draw(chance: &Chance, locks: Locks) -> Self {
        let inner = chance.one_in(3).then(|| {
            let again = if chance.one_in(4) {
                self::locks(chance)
            } else {
                locks.clone()
            };
            let mut inner = Self::draw(chance, again);
            // One within one is enough.
            inner.inner = None;
            Box::new(inner)
        });
        let transaction = match chance.below(4) {
            0 => Transaction::Around(fate(chance)),
            1 => Transaction::Inside(fate(chance)),
            _ => Transaction::None,
        };
        let ending = ending(chance);
        Self {
            locks: match one_for(chance, ending.wait()) {
                hands if hands == AdvisoryLock::from(HANDS) => Locks(vec![hands]),
                _ => locks,
            },
            ending,
            transaction,
            inner,
            in_haste: chance.one_in(4),
            end: chance.choose(&[(4, End::Release), (3, End::Drop), (1, End::Panic)]),
        }
    }
}

impl Ending {
    pub(crate) fn wait(self) -> Wait {
        match self {
            Self::Block => Wait::Block,
            Self::Timeout(timeout) => Wait::Timeout(timeout),
            Self::NoWait | Self::Try | Self::SkipLocked => Wait::NoWait,
        }
    }
}

fn ending(chance: &Chance) -> Ending {
    chance.choose(&[
        (4, Ending::Block),
        (2, Ending::NoWait),
        (2, Ending::Timeout(brief(chance))),
        (1, Ending::Try),
        (1, Ending::SkipLocked),
    ])
}

fn brief(chance: &Chance) -> Duration {
    Duration::from_millis(1 + u64::from(chance.below(30)))
}

fn fate(chance: &Chance) -> Fate {
    chance.choose(&[
        (4, Fate::Commit),
        (2, Fate::Rollback),
        (2, Fate::Abort),
        (1, Fate::AbortUnnoticed),
    ])
}

/// A lock that others want too: few numbers, pairs, and some of the large set.
fn one(chance: &Chance) -> AdvisoryLock {
    let n = chance.below(4);
    let exclusive = match chance.below(5) {
        0 => AdvisoryLock::exclusive((7, n as i32)),
        1 => AdvisoryLock::exclusive(probe(n)),
        _ => AdvisoryLock::exclusive(i64::from(n)),
    };
    if chance.one_in(3) {
        AdvisoryLock::shared(exclusive.key())
    } else {
        exclusive
    }
}

/// As [`one`], or the hand's lock.
fn one_for(chance: &Chance, wait: Wait) -> AdvisoryLock {
    if wait != Wait::Block && chance.one_in(8) {
        HANDS.into()
    } else {
        one(chance)
    }
}

fn locks(chance: &Chance) -> Locks {
    match chance.below(8) {
        0 | 1 => Locks(LARGE.map(AdvisoryLock::exclusive).collect()),
        2 | 3 => Locks((0..2 + chance.below(4)).map(|_| one(chance)).collect()),
        _ => Locks(vec![one(chance)]),
    }
}

/// One of the few locks of the large set that are contended for, and judged.
fn probe(n: u32) -> i64 {
    match n {
        0 => LARGE.start,
        1 => LARGE.start + 150,
        _ => LARGE.end - 1,
    }
}

/// Whether a section under `lock` is judged: not each of a large set.
pub(crate) fn is_judged(lock: &AdvisoryLock) -> bool {
    match lock.key() {
        diesel_locks::LockKey::Single(key) => {
            !LARGE.contains(&key) || (0..3).any(|n| probe(n) == key)
        }
        diesel_locks::LockKey::Pair(..) => true,
    }
}
