//! The keys that other ecosystems give a name, so that a lock can be shared with them.

use hkdf::Hkdf;
use sha2::Sha256;

use super::{LockKey, sha256_start};

/// Keys of other ecosystems, with the feature `interop`.
impl LockKey {
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
        let (mut key, name) = ([0; 8], name.as_ref());
        // Eight bytes are far below the 8,160 that HKDF can expand to.
        #[expect(clippy::expect_used)]
        Hkdf::<Sha256>::new(None, name.as_bytes())
            .expand(b"SQLx (Rust) Postgres advisory lock", &mut key)
            .expect("HKDF expands to eight bytes");
        Self::Single(i64::from_le_bytes(key)).shown_as(name)
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
        let name = name.as_ref();
        Self::Single(i64::from_le_bytes(sha256_start(name))).shown_as(name)
    }

    /// The key that Ruby's [with_advisory_lock] gives a name: a pair of the lower 31 bits of its
    /// CRC-32 and of the number in `WITH_ADVISORY_LOCK_PREFIX`, which is 0 unless it is set.
    ///
    /// With a prefix, use the first half of this key: `LockKey::Pair(first, prefix)`. What is a
    /// number in Ruby is no name: `with_advisory_lock(42)` is `LockKey::Pair(42, 0)`.
    ///
    /// ```
    /// use diesel_locks::LockKey;
    ///
    /// assert_eq!(LockKey::ruby_with_advisory_lock("gold_leader"), LockKey::Pair(1_305_371_505, 0));
    /// ```
    ///
    /// [with_advisory_lock]: https://github.com/ClosureTree/with_advisory_lock
    pub fn ruby_with_advisory_lock(name: impl AsRef<str>) -> Self {
        let name = name.as_ref();
        let hash = crc32fast::hash(name.as_bytes()) & 0x7fff_ffff;
        Self::Pair(hash.cast_signed(), 0).shown_as(name)
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
                LockKey::ruby_with_advisory_lock(name),
                LockKey::Pair(ruby, 0),
                "{name}"
            );
        }
    }
}
