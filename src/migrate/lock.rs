mod locked;

use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
#[cfg(feature = "watch")]
use diesel::{ConnectionResult, PgConnection};

use super::event::{Direction, MigrationEvent};
use super::ledger;
use super::pending::{applied, by_reference, pending};
#[cfg(feature = "watch")]
use super::settings::Priority;
use super::settings::Settings;
#[cfg(feature = "watch")]
use crate::End;
use crate::Retry;
use crate::migrate_error::MigrateError;

/// Runs Diesel's migrations under a lock, so that N instances of a service can start at once: one
/// of them migrates, and the others wait, and find nothing left to do.
///
/// For every synchronous connection to PostgreSQL, with the feature `migrations`. The lock is an
/// advisory one of the session, on the connection that migrates. It is taken by trying again and
/// again, never by waiting in the server: whoever waits there has a snapshot, for whose end
/// `CREATE INDEX CONCURRENTLY` waits. Which migrations are pending is read under the lock.
///
/// ```
/// use std::time::Duration;
///
/// use diesel::prelude::*;
/// use diesel_locks::MigrationLock;
/// use diesel_locks_harness::TestDatabase;
/// use diesel_migrations::{EmbeddedMigrations, embed_migrations};
///
/// const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// let mut conn = PgConnection::establish(database.url())?;
/// let done = MigrationLock::new()
///     .timeout(Duration::from_secs(60))
///     .lock_timeout(Duration::from_millis(50))
///     .on_progress(|event| println!("{event}"))
///     .run_pending(&mut conn, MIGRATIONS)?;
/// assert_eq!(done.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # Waiting for tables
///
/// An `ALTER TABLE` that waits for one long transaction has everybody else wait behind it. With
/// [`lock_timeout`](Self::lock_timeout) a migration gives up after that long, takes back what it
/// has done, and is tried again after a pause in which traffic flows. Each attempt that fails says
/// who was in the way. A migration takes its locks one after the other, so one with few
/// statements holds up others least.
///
/// # Outside a transaction
///
/// What runs outside a transaction, as `CREATE INDEX CONCURRENTLY` must, has the session's own
/// limits: it holds up nobody while it waits, and a limit would leave an invalid index. It is tried
/// again only if the first lock of its only statement was refused; a text with a `;` inside, a `DO`
/// or a `CALL` may have committed a part of its work, and is not.
///
/// While it runs, a table beside that of Diesel's versions, `__diesel_locks_begun_` and a digest of
/// the lock's name and the role, keeps a note of it. If it is interrupted, the next run of that role
/// finds the note. An index that is invalid is [`MigrateError::LeftoverIndex`], or is dropped: see
/// [`drop_invalid_indexes`](Self::drop_invalid_indexes). If the one index of the migration was
/// finished, but not recorded, it is recorded.
///
/// # Transactions
///
/// In an open transaction, the lock is one of the transaction, so that nobody else begins before
/// the commit; each migration is run in a savepoint, and what fails leaves the transaction usable.
/// Above READ COMMITTED the transaction may not see what others have migrated since it began: then
/// the first migration fails, because its version is there already.
///
/// # Pools
///
/// On a pooled connection the lock is let go before the method returns. Through a pooler in
/// transaction mode it cannot be kept. PgBouncer 1.21 and later is
/// [`LockError::SharedSession`](crate::LockError::SharedSession) before anything is changed, by the
/// names that it gives to prepared statements, unless its `max_prepared_statements` is 0. Of another
/// one nothing shows before it lends a second session; then it is `SessionChanged` or `NotHeld`,
/// before the next migration begins. Migrate on a direct connection.
///
/// # Round trips
///
/// Beside those of the migrations: four for the lock, one for its release, three for the versions,
/// and four for each migration, two more if it has a limit. Outside a transaction about twelve.
#[must_use = "nothing is run before one of the methods that take a connection"]
pub struct MigrationLock<'p> {
    name: String,
    ledger: String,
    pub(super) settings: Settings<'p>,
}

impl<'p> MigrationLock<'p> {
    /// The lock of the database's migrations, waited for up to ten minutes; no limits on what a
    /// migration waits for.
    pub fn new() -> Self {
        Self {
            name: String::new(),
            ledger: ledger::DIESEL.to_owned(),
            settings: Settings::default(),
        }
    }

    /// The lock of one application, where several in one database have migrations of their own, and
    /// need not wait for each other.
    ///
    /// Its name is `migrations of DATABASE: NAME`, and without this `migrations of DATABASE`. The
    /// key is that of [`LockKey::named`](crate::LockKey::named), so that psql can take it too:
    ///
    /// ```sql
    /// SELECT pg_try_advisory_lock(('x' || encode(substr(sha256(convert_to(
    ///     'migrations of ' || current_database(), 'UTF8')), 1, 8), 'hex'))::bit(64)::bigint)
    /// ```
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Of another table of versions than Diesel's.
    pub(super) fn ledger(mut self, ledger: String) -> Self {
        self.ledger = ledger;
        self
    }

    /// How long to wait for the lock, at most: ten minutes, unless this says otherwise. `None` is
    /// without a limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.settings.timeout = timeout.into();
        self
    }

    /// Runs each migration that is in a transaction with PostgreSQL's [`lock_timeout`] at
    /// `timeout`, which is for each lock that it waits for, and again if that is over. Afterwards
    /// the setting is as it was.
    ///
    /// [`lock_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-LOCK-TIMEOUT
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.settings.lock_timeout = Some(timeout);
        self
    }

    /// Runs each migration that is in a transaction with PostgreSQL's [`statement_timeout`] at
    /// `timeout`. A migration that takes longer fails, and is not tried again. Afterwards the setting
    /// is as it was.
    ///
    /// [`statement_timeout`]: https://www.postgresql.org/docs/current/runtime-config-client.html#GUC-STATEMENT-TIMEOUT
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.settings.statement_timeout = Some(timeout);
        self
    }

    /// How often, and how soon, a migration is tried again that was refused a lock, or was ended to
    /// resolve a deadlock: 100 times with pauses of up to two seconds, unless this says otherwise.
    pub fn attempts(mut self, attempts: Retry) -> Self {
        self.settings.attempts = attempts;
        self
    }

    /// Whether an index that an interrupted migration has left is dropped, by
    /// `DROP INDEX CONCURRENTLY`, and the migration run again.
    ///
    /// Only what is in the way of that migration is dropped: an index that it names and that is
    /// invalid, while nobody is building it; and, where a migration of several statements was
    /// interrupted, the index that the next run finds there already and that was not there before it
    /// began.
    pub fn drop_invalid_indexes(mut self, drop: bool) -> Self {
        self.settings.drop_invalid_indexes = drop;
        self
    }

    /// Gives the migrations priority, as [`Prioritized`](crate::Prioritized) does: whoever blocks one of them for longer
    /// than `after` is cancelled or terminated, from a second connection that `connect` opens when
    /// the lock is granted. Superusers' sessions are spared. With the feature `watch`.
    ///
    /// A [`lock_timeout`](Self::lock_timeout) that is shorter than `after` gives up first.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use diesel::prelude::*;
    /// use diesel_locks::{End, MigrationLock};
    /// use diesel_locks_harness::TestDatabase;
    /// use diesel_migrations::{EmbeddedMigrations, embed_migrations};
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// let connect = || PgConnection::establish(database.url());
    /// MigrationLock::new()
    ///     .prioritize(connect, End::Terminate, Duration::from_secs(2))
    ///     .run_pending(&mut connect()?, MIGRATIONS)?;
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "watch")]
    pub fn prioritize(
        mut self,
        connect: impl Fn() -> ConnectionResult<PgConnection> + 'p,
        how: End,
        after: Duration,
    ) -> Self {
        self.settings.priority = Some(Priority {
            connect: Box::new(connect),
            how,
            after,
        });
        self
    }

    /// Tells `report` what happens. A second call takes the place of the first.
    pub fn on_progress(mut self, report: impl FnMut(&MigrationEvent) + 'p) -> Self {
        self.settings.report = RefCell::new(Box::new(report));
        self
    }

    /// Tells standard error what happens, a line each.
    pub fn print_progress(self) -> Self {
        self.on_progress(|event| {
            // There is nobody to tell if nobody can read it.
            let line = event.to_string().replace(char::is_control, " ");
            let _ = writeln!(io::stderr(), "{line}");
        })
    }

    /// Applies all migrations that are pending, in their order, and gives their versions.
    ///
    /// # Errors
    ///
    /// [`MigrateError::Timeout`]: the lock was not granted in time; nothing was changed.
    /// [`MigrateError::Lock`]: it could not be taken, or was lost; the migrations before are applied.
    /// [`MigrateError::Failed`], [`MigrateError::LeftoverIndex`]: a migration failed; those before it
    /// are applied.
    /// [`MigrateError::Unreadable`]: the source has failed; nothing was changed.
    pub fn run_pending<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let pending = pending(held.conn(), ledger, &migrations)?;
            self.run_all(held, ledger, &by_reference(&pending), Direction::Up)
        })
    }

    /// Applies the first migration that is pending.
    ///
    /// # Errors
    ///
    /// [`MigrateError::NoMigration`]: none is pending. Those of [`run_pending`](Self::run_pending).
    pub fn run_next<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let pending = pending(held.conn(), ledger, &migrations)?;
            self.run_one(held, ledger, &pending, Direction::Up)
        })
    }

    /// Applies this one migration, unless it is applied already.
    ///
    /// # Errors
    ///
    /// Those of [`run_pending`](Self::run_pending).
    pub fn run_migration<C>(
        &self,
        conn: &mut C,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        self.run_these(conn, &[migration], Direction::Up)?;
        Ok(migration.name().version().as_owned())
    }

    /// Reverts this one migration, unless it is not applied.
    ///
    /// # Errors
    ///
    /// Those of [`run_pending`](Self::run_pending).
    pub fn revert_migration<C>(
        &self,
        conn: &mut C,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        self.run_these(conn, &[migration], Direction::Down)?;
        Ok(migration.name().version().as_owned())
    }

    /// Reverts the migration that was applied last, by its version.
    ///
    /// # Errors
    ///
    /// [`MigrateError::NoMigration`]: none is applied. [`MigrateError::UnknownVersion`]: the source does
    /// not have it. Those of [`run_pending`](Self::run_pending).
    pub fn revert_last<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let applied = applied(held.conn(), ledger, &migrations)?;
            self.run_one(held, ledger, &applied, Direction::Down)
        })
    }

    /// Reverts all migrations that are applied, the last one first.
    ///
    /// # Errors
    ///
    /// [`MigrateError::UnknownVersion`]: the source does not have one of them; none was reverted. Those
    /// of [`run_pending`](Self::run_pending).
    pub fn revert_all<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let applied = applied(held.conn(), ledger, &migrations)?;
            self.run_all(held, ledger, &by_reference(&applied), Direction::Down)
        })
    }
}

impl Default for MigrationLock<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MigrationLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrationLock")
            .field("name", &self.name)
            .field("timeout", &self.settings.timeout)
            .field("lock_timeout", &self.settings.lock_timeout)
            .field("statement_timeout", &self.settings.statement_timeout)
            .field("attempts", &self.settings.attempts)
            .field("drop_invalid_indexes", &self.settings.drop_invalid_indexes)
            .finish_non_exhaustive()
    }
}
