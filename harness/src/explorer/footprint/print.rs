//! What events touch, and whether two of them depend on each other.

use std::sync::Arc;

/// A relation and one of its rows, or all of them; or an advisory lock.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Thing {
    pub(crate) of: Arc<str>,
    /// None is any.
    pub(crate) row: Option<Arc<str>>,
}

impl Thing {
    pub(crate) fn any(of: &str) -> Self {
        Self {
            of: of.into(),
            row: None,
        }
    }

    pub(crate) fn row(of: &str, row: &str) -> Self {
        Self {
            of: of.into(),
            row: Some(row.into()),
        }
    }

    /// Whether they may be the same.
    pub(crate) fn meets(&self, other: &Self) -> bool {
        let any = self.row.is_none() || other.row.is_none();
        self.of == other.of && (any || self.row == other.row)
    }
}

/// The strength of a lock on a row, as PostgreSQL orders them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Strength {
    KeyShare,
    Share,
    NoKeyUpdate,
    Update,
}

impl Strength {
    pub(crate) fn conflicts(self, other: Self) -> bool {
        let (weaker, stronger) = (self.min(other), self.max(other));
        match stronger {
            Self::Update => true,
            Self::NoKeyUpdate => weaker >= Self::Share,
            Self::Share | Self::KeyShare => false,
        }
    }
}

/// A lock on something.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Lock {
    pub(crate) thing: Thing,
    pub(crate) strength: Strength,
}

impl Lock {
    pub(crate) fn conflicts(&self, other: &Self) -> bool {
        self.strength.conflicts(other.strength) && self.thing.meets(&other.thing)
    }

    /// Whether who has it has the other one, too.
    pub(crate) fn covers(&self, other: &Self) -> bool {
        self.strength >= other.strength && self.thing == other.thing
    }
}

/// Whether an event belongs to a serializable transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Serializable {
    #[default]
    No,
    /// It reads, as everything before it in its transaction.
    Quiet,
    Yes,
}

impl Serializable {
    fn depends(self, other: Self) -> bool {
        let either = |level| self == level || other == level;
        !either(Self::No) && either(Self::Yes)
    }
}

/// What an event touches.
#[derive(Debug, Clone, Default)]
pub(crate) struct Footprint {
    /// It may depend on anything.
    pub(crate) unknown: bool,
    pub(crate) serializable: Serializable,
    /// What it sees of what others have published.
    pub(crate) sees: Vec<Thing>,
    /// It takes a snapshot of everything.
    pub(crate) sees_all: bool,
    pub(crate) locks: Vec<Lock>,
    pub(crate) publishes: Vec<Thing>,
    pub(crate) lets_go: Vec<Lock>,
}

impl Footprint {
    pub(crate) fn unknown() -> Self {
        Self {
            unknown: true,
            ..Self::default()
        }
    }

    /// Both of them.
    pub(crate) fn add(&mut self, more: Self) {
        self.unknown |= more.unknown;
        self.sees_all |= more.sees_all;
        if more.serializable != Serializable::No && self.serializable != Serializable::Yes {
            self.serializable = more.serializable;
        }
        self.sees.extend(more.sees);
        self.locks.extend(more.locks);
        self.publishes.extend(more.publishes);
        self.lets_go.extend(more.lets_go);
    }

    /// Whether the order of these two, of different sessions, may matter.
    pub(crate) fn depends(&self, other: &Self) -> bool {
        self.unknown
            || other.unknown
            || self.serializable.depends(other.serializable)
            || self.sees_of(other)
            || other.sees_of(self)
            || conflict(&self.locks, &other.locks)
            || conflict(&self.locks, &other.lets_go)
            || conflict(&self.lets_go, &other.locks)
    }

    /// Whether it may want what this lock is on.
    pub(crate) fn wants(&self, held: &Lock) -> bool {
        self.locks.iter().any(|lock| lock.conflicts(held))
    }

    fn sees_of(&self, other: &Self) -> bool {
        let published = &other.publishes;
        if self.sees_all {
            return !published.is_empty();
        }
        let meets = |seen: &Thing| published.iter().any(|thing| thing.meets(seen));
        self.sees.iter().any(meets)
    }
}

fn conflict(ones: &[Lock], others: &[Lock]) -> bool {
    let conflicts = |one: &Lock| others.iter().any(|other| other.conflicts(one));
    ones.iter().any(conflicts)
}

/// What a statement touches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Touch {
    pub(crate) reads: Vec<Thing>,
    pub(crate) writes: Vec<Thing>,
    pub(crate) locks: Vec<Lock>,
    /// What it changes for all at once, such as a sequence.
    pub(crate) bumps: Vec<Lock>,
    /// The one lock for which it may wait, before it has done anything: a row by its key, or an
    /// advisory lock.
    pub(crate) waits_for: Option<Lock>,
    /// The row of that lock, to look whether it is there.
    pub(crate) row: Option<RowKey>,
    /// Advisory locks of the session, and whether it takes them or lets them go.
    pub(crate) session_locks: Vec<Lock>,
    pub(crate) unlocks: Vec<Lock>,
    pub(crate) is_deferred: bool,
    /// The tables of which it matters where their rows are.
    pub(crate) scans: Vec<Thing>,
}

/// A row, as it can be asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowKey {
    pub(crate) table: String,
    /// The columns of its primary key.
    pub(crate) columns: Vec<KeyColumn>,
}

impl RowKey {
    /// Its values, as one word.
    pub(crate) fn words(&self) -> String {
        let values = self.columns.iter().map(|column| column.value.as_str());
        // No value has a comma.
        values.collect::<Vec<_>>().join(",")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeyColumn {
    pub(crate) name: String,
    pub(crate) of_type: String,
    pub(crate) value: String,
}
