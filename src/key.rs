#[cfg(feature = "interop")]
mod interop;

use std::borrow::Cow;
use std::fmt;

use sha2::{Digest, Sha256};

use crate::names::{self, Numbers};

/// The number, or pair of numbers, by which PostgreSQL knows an advisory lock.
///
/// PostgreSQL has two key spaces, one of 64-bit numbers and one of pairs of 32-bit numbers, which
/// never overlap: `Single(1)` and `Pair(0, 1)` are different locks. Integers of up to 64 bits are
/// `Single`; an `u64` above `i64::MAX` is the same bits. Strings are names. Keys belong to a database, so
/// two databases of one server do not share them. See [*Advisory Locks*], section 13.3.5 of the
/// PostgreSQL documentation.
///
/// ```
/// use diesel_locks::LockKey;
///
/// assert_eq!(LockKey::from(42), LockKey::Single(42));
/// assert_eq!(LockKey::from((7, 42)), LockKey::Pair(7, 42));
/// assert_eq!(LockKey::from("gold_leader"), LockKey::named("gold_leader"));
/// ```
///
/// [*Advisory Locks*]: https://www.postgresql.org/docs/current/explicit-locking.html#ADVISORY-LOCKS
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LockKey {
    /// A key of PostgreSQL's 64-bit key space.
    Single(i64),
    /// A key of PostgreSQL's key space of pairs: often a class of things, and one of them.
    Pair(i32, i32),
}

impl LockKey {
    /// The key of a name: the first eight bytes of its SHA-256 as a big-endian number.
    ///
    /// Every string is a name, the empty one and those with quotes or NUL included. Two names
    /// collide with even odds once there are about five billion of them.
    ///
    /// The derivation is frozen: no release of this crate will change the number that a name has.
    /// It can be computed in SQL too, so that psql and other languages can take part:
    ///
    /// ```sql
    /// SELECT ('x' || encode(substr(sha256(convert_to('gold_leader', 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint
    /// ```
    ///
    /// ```
    /// use diesel_locks::LockKey;
    ///
    /// assert_eq!(LockKey::named("gold_leader"), LockKey::Single(1_164_266_746_182_509_168));
    /// ```
    pub fn named(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        Self::Single(i64::from_be_bytes(sha256_start(name))).shown_as(name)
    }

    /// This key, which is shown by `name` from now on.
    fn shown_as(self, name: &str) -> Self {
        names::remember(self.numbers(), name);
        self
    }

    /// As `pg_locks` has it: `classid`, `objid` and `objsubid`, which tells the key spaces apart.
    pub(crate) fn in_pg_locks(self) -> (u32, u32, i16) {
        match self {
            // The upper half and the lower half.
            Self::Single(key) => ((key >> 32) as u32, key as u32, 1),
            Self::Pair(class, object) => (class.cast_unsigned(), object.cast_unsigned(), 2),
        }
    }

    /// The key that `pg_locks` has so.
    pub(crate) fn from_pg_locks(class: u32, object: u32, space: i16) -> Self {
        match space {
            2 => Self::Pair(class.cast_signed(), object.cast_signed()),
            _ => Self::Single(((u64::from(class) << 32) | u64::from(object)).cast_signed()),
        }
    }

    pub(crate) fn numbers(self) -> Numbers {
        match self {
            Self::Single(key) => (key, None),
            Self::Pair(class, object) => (class.into(), Some(object)),
        }
    }
}

pub(crate) fn sha256_start(name: &str) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    [a, b, c, d, e, f, g, h]
}

macro_rules! names {
    ($($name:ty)*) => {$(
        impl From<$name> for LockKey {
            fn from(name: $name) -> Self {
                Self::named(name)
            }
        }
    )*};
}

names! { &str &&str String &String Box<str> Cow<'_, str> &Cow<'_, str> }

macro_rules! numbers {
    ($($number:ty, $widen:expr;)*) => {$(
        impl From<$number> for LockKey {
            fn from(number: $number) -> Self {
                Self::Single($widen(number))
            }
        }

        impl From<&$number> for LockKey {
            fn from(number: &$number) -> Self {
                Self::from(*number)
            }
        }
    )*};
}

// An `u64` above `i64::MAX` is the same bits.
numbers! {
    i8, i64::from;
    i16, i64::from;
    i32, i64::from;
    i64, i64::from;
    u8, i64::from;
    u16, i64::from;
    u32, i64::from;
    u64, u64::cast_signed;
}

impl From<(i32, i32)> for LockKey {
    fn from((class, object): (i32, i32)) -> Self {
        Self::Pair(class, object)
    }
}

impl From<&(i32, i32)> for LockKey {
    fn from(pair: &(i32, i32)) -> Self {
        Self::from(*pair)
    }
}

impl From<&LockKey> for LockKey {
    fn from(key: &LockKey) -> Self {
        *key
    }
}

/// By its name, where this process has used one for it: `"gold_leader"`, `42` or `(7, 42)`.
impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (names::of(self.numbers()), self) {
            (Some(name), _) => write!(f, "{name:?}"),
            (None, Self::Single(key)) => write!(f, "{key}"),
            (None, Self::Pair(class, object)) => write!(f, "({class}, {object})"),
        }
    }
}

/// An advisory lock: which one, and whether it is shared.
///
/// Every method that takes a lock takes `impl Into<AdvisoryLock>`, and a name, a number or a pair
/// of numbers stands for the exclusive lock of that key:
///
/// ```
/// use diesel_locks::AdvisoryLock;
///
/// assert_eq!(AdvisoryLock::from("gold_leader"), AdvisoryLock::exclusive("gold_leader"));
/// assert_ne!(AdvisoryLock::from(42), AdvisoryLock::shared(42));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AdvisoryLock {
    key: LockKey,
    shared: bool,
}

impl AdvisoryLock {
    /// The lock that one session can hold at a time.
    pub fn exclusive(key: impl Into<LockKey>) -> Self {
        Self {
            key: key.into(),
            shared: false,
        }
    }

    /// The lock that any number of sessions can hold at a time, but not beside an exclusive one.
    pub fn shared(key: impl Into<LockKey>) -> Self {
        Self {
            key: key.into(),
            shared: true,
        }
    }

    /// Its key.
    pub fn key(&self) -> LockKey {
        self.key
    }

    /// Whether several sessions can hold it at a time.
    pub fn is_shared(&self) -> bool {
        self.shared
    }
}

impl<K: Into<LockKey>> From<K> for AdvisoryLock {
    fn from(key: K) -> Self {
        Self::exclusive(key)
    }
}

impl From<&AdvisoryLock> for AdvisoryLock {
    fn from(lock: &AdvisoryLock) -> Self {
        *lock
    }
}

impl fmt::Display for AdvisoryLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = if self.shared { "shared " } else { "" };
        write!(f, "{mode}advisory lock {}", self.key)
    }
}

/// A set of one, for guards.
impl AsRef<[AdvisoryLock]> for AdvisoryLock {
    fn as_ref(&self) -> &[AdvisoryLock] {
        std::slice::from_ref(self)
    }
}

/// Several advisory locks, in the one order in which everybody takes them: sorted, and without
/// duplicates. So two callers that want some of the same locks cannot deadlock each other.
///
/// ```
/// use diesel_locks::{AdvisoryLock, AdvisoryLocks};
///
/// let locks = AdvisoryLocks::new([2, 1, 2]);
/// assert_eq!(locks.as_ref(), [AdvisoryLock::exclusive(1), AdvisoryLock::exclusive(2)]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct AdvisoryLocks(Vec<AdvisoryLock>);

impl AdvisoryLocks {
    /// Sorts the locks, and removes duplicates.
    pub fn new(locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>) -> Self {
        let mut locks: Vec<_> = locks.into_iter().map(Into::into).collect();
        locks.sort_unstable();
        locks.dedup();
        Self(locks)
    }
}

impl AsRef<[AdvisoryLock]> for AdvisoryLocks {
    fn as_ref(&self) -> &[AdvisoryLock] {
        &self.0
    }
}
