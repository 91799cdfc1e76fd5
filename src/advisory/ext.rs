use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::guard::AdvisoryLockGuard;
use super::xact;
use crate::{AdvisoryLock, AdvisoryLocks, LockError, Wait};

/// Advisory locks on a connection.
///
/// For every synchronous connection to PostgreSQL: `PgConnection`, a `PooledConnection`, and the
/// connection inside a guard. Every method takes the lock by name, number, pair of numbers, or as
/// an [`AdvisoryLock`], and costs one round trip, and a second one the first time that a
/// connection prepares the statement.
///
/// `advisory_lock` and its siblings take a lock of the *session*, which lasts until its guard lets
/// go, inside and outside of transactions. `advisory_xact_lock` and its siblings take a lock of
/// the *transaction*, which ends with it.
///
/// Locks of a session stack: a session that takes a lock which it has already is granted it once
/// more, and has it until both guards are gone. Only other sessions are kept out.
///
/// # Transactions
///
/// A session's lock needs no transaction, and none ends it. Whoever lets go of one inside a
/// transaction lets the next holder in before the commit: let go afterwards, or take a lock of
/// the transaction.
///
/// In an open transaction a failure leaves it aborted, as PostgreSQL does. A refusal by
/// [`try_advisory_lock`](Self::try_advisory_lock) or
/// [`advisory_lock_nowait`](Self::advisory_lock_nowait) is no failure for PostgreSQL: the
/// transaction stays usable.
///
/// After every other error, one more round trip gives back what the failed statement may have
/// taken all the same, and nothing that another guard on the connection holds; inside a
/// transaction that takes three. Where that cannot be proved, such as after a second cancellation,
/// the session is ended: all that is sent on the connection afterwards fails with
/// [`LockError::ConnectionLost`], and a guard outside says so too. A lock of the same key that
/// SQL of one's own has taken in the session counts as no guard's.
///
/// Under REPEATABLE READ and SERIALIZABLE a transaction sees the database as it was when its first
/// statement *began*. If that is the one that waits for the lock, what the last holder did
/// meanwhile is not seen: take a session's lock before the transaction, or use READ COMMITTED.
///
/// As everywhere in PostgreSQL, a closure that swallows the error of a failed statement and
/// returns `Ok` is told that it was committed, although the server has rolled back.
///
/// # Pools
///
/// On a pooled connection the guard must be dropped before the connection is given back, which
/// the borrow checker sees to. `PoolLockExt` takes locks on the pool itself, and a
/// `LockAwareManager` keeps forgotten ones out of it.
///
/// # Poolers
///
/// Through a pooler in transaction mode, such as PgBouncer's, use locks of a *transaction*: they
/// work there. Locks of a session do not, because each statement outside a transaction may reach
/// another session, and because clients that share a session are one to the server: it grants both
/// of them the same lock. Take them on a direct connection, or in the pooler's session mode.
///
/// What can be noticed is an error. [`LockError::SharedSession`]: a session that has another
/// client's mark (the setting `diesel_locks.owner`) and a lock, or a connection that has come to
/// another session than before; nothing is taken. [`LockError::SessionChanged`] or
/// [`LockError::NotHeld`] by `release`: the lock stays with the session that took it until the
/// pooler closes that.
///
/// What stays silent: two clients that share a session are both granted a lock if the first one
/// took it in a transaction that was then rolled back, by SQL of its own, in a set that failed and
/// was cleaned up in another session, or on a connection whose instrumentation is the application's
/// (see [`set_instrumentation`](crate::set_instrumentation)).
///
/// Settings such as `lock_timeout`, or what [`use_english_messages`](crate::use_english_messages)
/// sets, reach whoever is lent the session next. Diesel's prepared statements belong to a session
/// too: they need PgBouncer's `max_prepared_statements`, from 1.21 on and by default from 1.24, or
/// else `set_prepared_statement_cache_size(CacheSize::Disabled)`.
///
/// # Other servers
///
/// Some servers that speak PostgreSQL's protocol accept these functions and do nothing:
/// CockroachDB is one. There every session is granted every lock, and nothing here can notice it.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::{AdvisoryLock, LockError, prelude::*};
/// use diesel_locks_harness::TestDatabase;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = TestDatabase::new()?;
/// let mut here = PgConnection::establish(database.url())?;
/// let mut there = PgConnection::establish(database.url())?;
///
/// let leader = here.advisory_lock_nowait("gold_leader")?;
/// assert!(there.try_advisory_lock("gold_leader")?.is_none());
/// leader.release()?;
///
/// let reader = here.advisory_lock(AdvisoryLock::shared(42))?;
/// assert!(there.try_advisory_lock(AdvisoryLock::shared(42))?.is_some());
/// assert!(matches!(there.advisory_lock_nowait(42), Err(LockError::NotAvailable { .. })));
/// # Ok(())
/// # }
/// ```
pub trait AdvisoryLockExt: LoadConnection<Backend = Pg> + Sized {
    /// Takes `lock`, and waits as `wait` says: the other endings are this one.
    ///
    /// # Errors
    ///
    /// Those of the method whose ending says the same as `wait`.
    fn advisory_lock_wait(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
    ) -> Result<AdvisoryLockGuard<'_, Self>, LockError> {
        AdvisoryLockGuard::acquire(self, lock.into(), wait)
    }

    /// Takes `lock`, and waits until no other session is in the way.
    ///
    /// The wait has no end but the session's own `lock_timeout`.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: the session's `lock_timeout` ended the wait.
    /// [`LockError::Deadlock`]: the holder waits for a lock of this session.
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn advisory_lock(
        &mut self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<AdvisoryLockGuard<'_, Self>, LockError> {
        self.advisory_lock_wait(lock, Wait::Block)
    }

    /// Takes `lock`, or fails at once if another session is in the way.
    ///
    /// # Errors
    ///
    /// [`LockError::NotAvailable`]: another session holds the lock. An open transaction stays
    /// usable.
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn advisory_lock_nowait(
        &mut self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<AdvisoryLockGuard<'_, Self>, LockError> {
        self.advisory_lock_wait(lock, Wait::NoWait)
    }

    /// Takes `lock`, and waits for at most `timeout`, measured by the server.
    ///
    /// Whole milliseconds, rounded up: see [`Wait::Timeout`]. The `lock_timeout` of the session or
    /// transaction is as it was afterwards.
    ///
    /// # Errors
    ///
    /// [`LockError::Timeout`]: another session was in the way for so long.
    /// [`LockError::Deadlock`]: the holder waits for a lock of this session.
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn advisory_lock_timeout(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
    ) -> Result<AdvisoryLockGuard<'_, Self>, LockError> {
        self.advisory_lock_wait(lock, Wait::Timeout(timeout))
    }

    /// Takes `lock`, or gives `None` at once if another session is in the way.
    ///
    /// The compiler does not warn of an unused guard inside an `Option`:
    /// `conn.try_advisory_lock("x")?;` takes the lock and lets go of it again. Bind the guard to a
    /// name.
    ///
    /// # Errors
    ///
    /// [`LockError::TransactionAborted`], [`LockError::ConnectionLost`]: nothing was taken.
    fn try_advisory_lock(
        &mut self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<Option<AdvisoryLockGuard<'_, Self>>, LockError> {
        LockError::unless_not_available(self.advisory_lock_nowait(lock))
    }

    /// Runs `work` under `lock`, and waits for it first.
    ///
    /// Two round trips beyond the work. The lock is let go when `work` returns, in whatever way;
    /// in an aborted transaction, which stays aborted, that takes four.
    ///
    /// ```
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, prelude::*};
    /// use diesel_locks_harness::TestDatabase;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// # let mut conn = PgConnection::establish(database.url())?;
    /// conn.with_advisory_lock("gold_leader", |conn| {
    ///     diesel::sql_query("SELECT 1").execute(conn)?;
    ///     Ok::<_, LockError>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`advisory_lock`](Self::advisory_lock), then that of `work`, then those of
    /// [`release`](AdvisoryLockGuard::release): what `work` returned is lost if the lock was.
    fn with_advisory_lock<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>,
    {
        self.with_advisory_lock_wait(lock, Wait::Block, work)
    }

    /// Runs `work` under `lock`, unless another session is in the way.
    ///
    /// Two round trips beyond the work, or one if the lock is refused.
    ///
    /// # Errors
    ///
    /// Those of [`advisory_lock_nowait`](Self::advisory_lock_nowait), and then as for
    /// [`with_advisory_lock`](Self::with_advisory_lock).
    fn with_advisory_lock_nowait<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>,
    {
        self.with_advisory_lock_wait(lock, Wait::NoWait, work)
    }

    /// Runs `work` under `lock`, and waits for it for at most `timeout` first.
    ///
    /// Two round trips beyond the work.
    ///
    /// # Errors
    ///
    /// Those of [`advisory_lock_timeout`](Self::advisory_lock_timeout), and then as for
    /// [`with_advisory_lock`](Self::with_advisory_lock).
    fn with_advisory_lock_timeout<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>,
    {
        self.with_advisory_lock_wait(lock, Wait::Timeout(timeout), work)
    }

    /// Runs `work` under `lock`, or gives `None` at once if another session is in the way.
    ///
    /// Two round trips beyond the work, or one if the lock is refused.
    ///
    /// # Errors
    ///
    /// Those of [`try_advisory_lock`](Self::try_advisory_lock), and then as for
    /// [`with_advisory_lock`](Self::with_advisory_lock).
    fn try_with_advisory_lock<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Option<T>, E>
    where
        E: From<LockError>,
    {
        match self.try_advisory_lock(lock)? {
            Some(guard) => guard.run(work).map(Some),
            None => Ok(None),
        }
    }

    /// Runs `work` under `lock`, and waits for it as `wait` says: the other endings are this one.
    ///
    /// # Errors
    ///
    /// Those of the method whose ending says the same as `wait`.
    fn with_advisory_lock_wait<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError>,
    {
        self.advisory_lock_wait(lock, wait)?.run(work)
    }

    /// Takes all of `locks`, or none, and waits as `wait` says: the other endings are this one.
    ///
    /// # Errors
    ///
    /// Those of the method whose ending says the same as `wait`.
    fn advisory_lock_all_wait(
        &mut self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
        wait: Wait,
    ) -> Result<AdvisoryLockGuard<'_, Self, AdvisoryLocks>, LockError> {
        AdvisoryLockGuard::acquire(self, AdvisoryLocks::new(locks), wait)
    }

    /// Takes all of `locks`, and waits for each until no other session is in the way.
    ///
    /// One round trip, and one to let go, whatever their number. They are taken in the order of
    /// [`AdvisoryLocks`], so that callers which want some of the same locks cannot deadlock each
    /// other; and if one cannot be had, for whatever reason, none is kept. The server needs one to
    /// two microseconds for each.
    ///
    /// # Errors
    ///
    /// As for [`advisory_lock`](Self::advisory_lock). [`LockError::Timeout`] has the lock that was
    /// in the way.
    fn advisory_lock_all(
        &mut self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
    ) -> Result<AdvisoryLockGuard<'_, Self, AdvisoryLocks>, LockError> {
        self.advisory_lock_all_wait(locks, Wait::Block)
    }

    /// Takes all of `locks`, or fails at once, with none, if another session is in the way.
    ///
    /// One round trip, also when it fails.
    ///
    /// ```
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, LockTarget, prelude::*};
    /// use diesel_locks_harness::TestDatabase;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// # let mut here = PgConnection::establish(database.url())?;
    /// # let mut there = PgConnection::establish(database.url())?;
    /// let both = here.advisory_lock_all_nowait(["ada", "grace"])?;
    /// match there.advisory_lock_all_nowait(["alan", "ada"]) {
    ///     Err(LockError::NotAvailable { target, .. }) => {
    ///         assert_eq!(target, LockTarget::Advisory("ada".into()));
    ///     }
    ///     other => panic!("{other:?}"),
    /// }
    /// both.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`advisory_lock_nowait`](Self::advisory_lock_nowait). [`LockError::NotAvailable`]
    /// has the first lock that was in the way.
    fn advisory_lock_all_nowait(
        &mut self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
    ) -> Result<AdvisoryLockGuard<'_, Self, AdvisoryLocks>, LockError> {
        self.advisory_lock_all_wait(locks, Wait::NoWait)
    }

    /// Takes all of `locks`, and waits for at most `timeout` in all, measured by the server.
    ///
    /// # Errors
    ///
    /// As for [`advisory_lock_timeout`](Self::advisory_lock_timeout). [`LockError::Timeout`] has
    /// the lock that was in the way.
    fn advisory_lock_all_timeout(
        &mut self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
        timeout: Duration,
    ) -> Result<AdvisoryLockGuard<'_, Self, AdvisoryLocks>, LockError> {
        self.advisory_lock_all_wait(locks, Wait::Timeout(timeout))
    }

    /// Takes all of `locks`, or none and gives `None` if another session is in the way.
    ///
    /// One round trip. An unused guard inside an `Option` is not warned of: see
    /// [`try_advisory_lock`](Self::try_advisory_lock).
    ///
    /// # Errors
    ///
    /// As for [`try_advisory_lock`](Self::try_advisory_lock).
    fn try_advisory_lock_all(
        &mut self,
        locks: impl IntoIterator<Item = impl Into<AdvisoryLock>>,
    ) -> Result<Option<AdvisoryLockGuard<'_, Self, AdvisoryLocks>>, LockError> {
        LockError::unless_not_available(self.advisory_lock_all_nowait(locks))
    }

    /// Takes `lock` until the transaction ends, and waits as `wait` says: the other endings are this
    /// one.
    ///
    /// # Errors
    ///
    /// Those of the method whose ending says the same as `wait`.
    fn advisory_xact_lock_wait(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
    ) -> Result<(), LockError> {
        xact::take(self, lock.into(), wait)
    }

    /// Takes `lock` until the transaction ends, and waits until no other session is in the way.
    ///
    /// Nothing can give such a lock back early, so there is no guard, and no round trip to let
    /// go. A rollback to a savepoint gives back the locks that were taken after it.
    ///
    /// # Errors
    ///
    /// [`LockError::NotInTransaction`]: no transaction that Diesel knows of is open; nothing was
    /// sent. Else as for [`advisory_lock`](Self::advisory_lock).
    fn advisory_xact_lock(&mut self, lock: impl Into<AdvisoryLock>) -> Result<(), LockError> {
        self.advisory_xact_lock_wait(lock, Wait::Block)
    }

    /// Takes `lock` until the transaction ends, or fails at once if another session is in the
    /// way. The transaction stays usable.
    ///
    /// # Errors
    ///
    /// [`LockError::NotInTransaction`]: no transaction that Diesel knows of is open; nothing was
    /// sent. Else as for [`advisory_lock_nowait`](Self::advisory_lock_nowait).
    fn advisory_xact_lock_nowait(
        &mut self,
        lock: impl Into<AdvisoryLock>,
    ) -> Result<(), LockError> {
        self.advisory_xact_lock_wait(lock, Wait::NoWait)
    }

    /// Takes `lock` until the transaction ends, and waits for at most `timeout`, measured by the
    /// server.
    ///
    /// Whole milliseconds, rounded up: see [`Wait::Timeout`]. The `lock_timeout` of the session or
    /// transaction is as it was afterwards.
    ///
    /// # Errors
    ///
    /// [`LockError::NotInTransaction`]: no transaction that Diesel knows of is open; nothing was
    /// sent. Else as for [`advisory_lock_timeout`](Self::advisory_lock_timeout).
    fn advisory_xact_lock_timeout(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
    ) -> Result<(), LockError> {
        self.advisory_xact_lock_wait(lock, Wait::Timeout(timeout))
    }

    /// Takes `lock` until the transaction ends, and says whether it was granted; `false` if
    /// another session is in the way, and then the transaction stays usable.
    ///
    /// # Errors
    ///
    /// [`LockError::NotInTransaction`]: no transaction that Diesel knows of is open; nothing was
    /// sent. Else as for [`try_advisory_lock`](Self::try_advisory_lock).
    fn try_advisory_xact_lock(&mut self, lock: impl Into<AdvisoryLock>) -> Result<bool, LockError> {
        LockError::unless_not_available(self.advisory_xact_lock_nowait(lock))
            .map(|granted| granted.is_some())
    }

    /// Runs `work` in a transaction that begins with `lock`, and waits for it first.
    ///
    /// `BEGIN` and the lock travel together: no round trip more than the transaction costs
    /// without the lock. Inside an open transaction this is a savepoint, as Diesel's
    /// `transaction` is, and the lock lasts until the outer one ends, or until this is rolled
    /// back. All else is as for Diesel's `transaction`: an error rolls back, and so does a panic
    /// when the connection is dropped.
    ///
    /// ```
    /// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
    /// use diesel::prelude::*;
    /// use diesel_locks::{LockError, prelude::*};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = database()?;
    /// # let mut conn = PgConnection::establish(database.url())?;
    /// conn.transaction_with_advisory_lock("accounts", |conn| {
    ///     diesel::update(accounts::table).set(accounts::balance.eq(0)).execute(conn)?;
    ///     Ok::<_, LockError>(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`advisory_xact_lock`](Self::advisory_xact_lock), and then nothing is left open;
    /// that of `work`, after a rollback; that of the commit.
    fn transaction_with_advisory_lock<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError> + From<diesel::result::Error>,
    {
        self.transaction_with_advisory_lock_wait(lock, Wait::Block, work)
    }

    /// Runs `work` in a transaction that begins with `lock`, unless another session is in the way.
    ///
    /// One round trip more than
    /// [`transaction_with_advisory_lock`](Self::transaction_with_advisory_lock): a refusal is no
    /// error for PostgreSQL, and the answer has to be looked at.
    ///
    /// # Errors
    ///
    /// As there, and those of [`advisory_xact_lock_nowait`](Self::advisory_xact_lock_nowait).
    fn transaction_with_advisory_lock_nowait<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError> + From<diesel::result::Error>,
    {
        self.transaction_with_advisory_lock_wait(lock, Wait::NoWait, work)
    }

    /// Runs `work` in a transaction that begins with `lock`, and waits for it for at most
    /// `timeout` first. No round trip more than the transaction costs.
    ///
    /// # Errors
    ///
    /// As for [`transaction_with_advisory_lock`](Self::transaction_with_advisory_lock), and those
    /// of [`advisory_xact_lock_timeout`](Self::advisory_xact_lock_timeout).
    fn transaction_with_advisory_lock_timeout<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        timeout: Duration,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError> + From<diesel::result::Error>,
    {
        self.transaction_with_advisory_lock_wait(lock, Wait::Timeout(timeout), work)
    }

    /// Runs `work` in a transaction that begins with `lock`, or gives `None` at once if another
    /// session is in the way.
    ///
    /// One round trip more than
    /// [`transaction_with_advisory_lock`](Self::transaction_with_advisory_lock).
    ///
    /// # Errors
    ///
    /// As there, and those of [`try_advisory_xact_lock`](Self::try_advisory_xact_lock).
    fn try_transaction_with_advisory_lock<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<Option<T>, E>
    where
        E: From<LockError> + From<diesel::result::Error>,
    {
        self.transaction(|conn| match conn.try_advisory_xact_lock(lock)? {
            true => work(conn).map(Some),
            false => Ok(None),
        })
    }

    /// Runs `work` in a transaction that begins with `lock`, and waits for it as `wait` says: the
    /// other endings are this one.
    ///
    /// # Errors
    ///
    /// Those of the method whose ending says the same as `wait`.
    fn transaction_with_advisory_lock_wait<T, E>(
        &mut self,
        lock: impl Into<AdvisoryLock>,
        wait: Wait,
        work: impl FnOnce(&mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<LockError> + From<diesel::result::Error>,
    {
        xact::with_lock(self, lock.into(), wait, work)
    }
}

impl<C: LoadConnection<Backend = Pg>> AdvisoryLockExt for C {}
