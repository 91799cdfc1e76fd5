use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};

/// The number, or pair of numbers, by which PostgreSQL knows an advisory lock.
///
/// PostgreSQL has two key spaces, one of 64-bit numbers and one of pairs of 32-bit numbers, which
/// never overlap: `Single(1)` and `Pair(0, 1)` are different locks. Keys belong to a database, so
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
        Self::Single(i64::from_be_bytes(sha256_start(name.as_ref())))
    }

    /// The key that `sqlx::postgres::PgAdvisoryLock::new` gives a name: HKDF with SHA-256, read as
    /// a little-endian number.
    ///
    /// ```
    /// use diesel_locks::LockKey;
    ///
    /// // The example of sqlx's own documentation.
    /// let key = LockKey::sqlx("my first Postgres advisory lock!");
    /// assert_eq!(key, LockKey::Single(-5_560_419_505_042_474_287));
    /// ```
    pub fn sqlx(name: impl AsRef<str>) -> Self {
        let mut key = [0; 8];
        // Eight bytes are far below the 8,160 that HKDF can expand to.
        #[expect(clippy::expect_used)]
        Hkdf::<Sha256>::new(None, name.as_ref().as_bytes())
            .expand(b"SQLx (Rust) Postgres advisory lock", &mut key)
            .expect("HKDF expands to eight bytes");
        Self::Single(i64::from_le_bytes(key))
    }

    /// The key that Python's [django-pglock] gives a name: the first eight bytes of its SHA-256
    /// as a little-endian number.
    ///
    /// ```
    /// use diesel_locks::LockKey;
    ///
    /// assert_eq!(LockKey::django_pglock("gold_leader"), LockKey::Single(8_080_023_870_189_217_808));
    /// ```
    ///
    /// [django-pglock]: https://django-pglock.readthedocs.io
    pub fn django_pglock(name: impl AsRef<str>) -> Self {
        Self::Single(i64::from_le_bytes(sha256_start(name.as_ref())))
    }

    /// The key that Ruby's [with_advisory_lock] gives a name: a pair of the lower 31 bits of its
    /// CRC-32 and of the number in `WITH_ADVISORY_LOCK_PREFIX`, which is 0 unless it is set.
    ///
    /// With a prefix, use the first half of this key: `LockKey::Pair(first, prefix)`.
    ///
    /// ```
    /// use diesel_locks::LockKey;
    ///
    /// assert_eq!(LockKey::with_advisory_lock("gold_leader"), LockKey::Pair(1_305_371_505, 0));
    /// ```
    ///
    /// [with_advisory_lock]: https://github.com/ClosureTree/with_advisory_lock
    pub fn with_advisory_lock(name: impl AsRef<str>) -> Self {
        let hash = crc32fast::hash(name.as_ref().as_bytes()) & 0x7fff_ffff;
        Self::Pair(hash.cast_signed(), 0)
    }
}

fn sha256_start(name: &str) -> [u8; 8] {
    let digest: [u8; 32] = Sha256::digest(name).into();
    let [a, b, c, d, e, f, g, h, ..] = digest;
    [a, b, c, d, e, f, g, h]
}

impl From<&str> for LockKey {
    fn from(name: &str) -> Self {
        Self::named(name)
    }
}

impl From<&String> for LockKey {
    fn from(name: &String) -> Self {
        Self::named(name)
    }
}

impl From<String> for LockKey {
    fn from(name: String) -> Self {
        Self::named(name)
    }
}

impl From<i64> for LockKey {
    fn from(key: i64) -> Self {
        Self::Single(key)
    }
}

impl From<(i32, i32)> for LockKey {
    fn from((class, object): (i32, i32)) -> Self {
        Self::Pair(class, object)
    }
}

impl fmt::Display for LockKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Single(key) => write!(f, "{key}"),
            Self::Pair(class, object) => write!(f, "({class}, {object})"),
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

#[cfg(test)]
mod tests {
    use super::LockKey;

    /// Computed by sqlx 0.8.
    #[test]
    fn sqlx_has_the_same_keys() {
        for (name, key) in [
            ("gold_leader", -6_424_875_130_858_838_241),
            ("", 8_559_922_135_585_776_354),
            ("it's \"quoted\"", 9_050_271_258_578_963_817),
            ("日本語", 7_559_688_324_711_292_789),
        ] {
            assert_eq!(LockKey::sqlx(name), LockKey::Single(key), "{name}");
        }
    }

    /// Computed in Python, as the sources of django-pglock 1.8.0 and with_advisory_lock 7.5.0 do.
    #[test]
    fn django_pglock_and_with_advisory_lock_have_the_same_keys() {
        for (name, django, ruby) in [
            ("gold_leader", 8_080_023_870_189_217_808, 1_305_371_505),
            ("", 1_449_310_910_991_872_227, 0),
            ("日本語", -6_643_004_304_765_849_225, 671_830_757),
        ] {
            assert_eq!(
                LockKey::django_pglock(name),
                LockKey::Single(django),
                "{name}"
            );
            assert_eq!(
                LockKey::with_advisory_lock(name),
                LockKey::Pair(ruby, 0),
                "{name}"
            );
        }
    }
}
