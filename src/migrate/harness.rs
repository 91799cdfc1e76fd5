use std::fmt;

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion, Result};
use diesel::pg::Pg;
use diesel_migrations::MigrationHarness;

use super::event::Direction;
use super::ledger::{DIESEL, Ledger, Place};
use super::lock::MigrationLock;

/// A connection whose migrations are run under the lock, made by
/// [`MigrationLock::harness`](crate::MigrationLock::harness).
///
/// Its methods are those of [`MigrationHarness`]. Each that changes something takes the lock, and
/// looks under it what is left to do: a migration that another process has applied meanwhile is not
/// run again. Errors are [`MigrateError`](crate::MigrateError)s in a box.
pub struct LockedHarness<'c, 'p, C> {
    lock: MigrationLock<'p>,
    conn: &'c mut C,
}

impl<'p> MigrationLock<'p> {
    /// A [`MigrationHarness`](diesel_migrations::MigrationHarness) whose methods take the lock, for
    /// code that is written against Diesel's trait.
    ///
    /// ```
    /// use diesel::prelude::*;
    /// use diesel_locks::MigrationLock;
    /// use diesel_locks_harness::TestDatabase;
    /// use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// # let database = TestDatabase::new()?;
    /// let mut conn = PgConnection::establish(database.url())?;
    /// // It was: conn.run_pending_migrations(MIGRATIONS)?;
    /// MigrationLock::new().harness(&mut conn).run_pending_migrations(MIGRATIONS)?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn harness<C>(self, conn: &mut C) -> LockedHarness<'_, 'p, C>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        LockedHarness { lock: self, conn }
    }
}

impl<C> fmt::Debug for LockedHarness<'_, '_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockedHarness")
            .field("lock", &self.lock)
            .finish_non_exhaustive()
    }
}

impl<C> MigrationHarness<Pg> for LockedHarness<'_, '_, C>
where
    C: LoadConnection<Backend = Pg> + 'static,
{
    fn run_pending_migrations<S: MigrationSource<Pg>>(
        &mut self,
        source: S,
    ) -> Result<Vec<MigrationVersion<'_>>> {
        Ok(self.lock.run_pending(self.conn, source)?)
    }

    fn run_migrations(
        &mut self,
        migrations: &[Box<dyn Migration<Pg>>],
    ) -> Result<Vec<MigrationVersion<'_>>> {
        let migrations: Vec<_> = migrations.iter().map(|m| &**m).collect();
        Ok(self.lock.run_these(self.conn, &migrations, Direction::Up)?)
    }

    fn run_next_migration<S: MigrationSource<Pg>>(
        &mut self,
        source: S,
    ) -> Result<MigrationVersion<'_>> {
        Ok(self.lock.run_next(self.conn, source)?)
    }

    fn revert_all_migrations<S: MigrationSource<Pg>>(
        &mut self,
        source: S,
    ) -> Result<Vec<MigrationVersion<'_>>> {
        Ok(self.lock.revert_all(self.conn, source)?)
    }

    fn revert_last_migration<S: MigrationSource<Pg>>(
        &mut self,
        source: S,
    ) -> Result<MigrationVersion<'static>> {
        Ok(self.lock.revert_last(self.conn, source)?)
    }

    fn run_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        Ok(self.lock.run_migration(self.conn, migration)?)
    }

    fn revert_migration(
        &mut self,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>> {
        Ok(self.lock.revert_migration(self.conn, migration)?)
    }

    fn applied_migrations(&mut self) -> Result<Vec<MigrationVersion<'static>>> {
        let place = Place::of(self.conn)?;
        Ok(Ledger::new(DIESEL, "", &place).applied(self.conn)?)
    }
}
