use std::fmt;

use diesel::connection::LoadConnection;
use diesel::migration::{self, Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;
use diesel_migrations::EmbeddedMigrations;

use super::ledger::Ledger;
use super::lock::MigrationLock;
use crate::migrate_error::MigrateError;

/// The tables that a library brings along, as migrations of its own.
///
/// They are recorded in a table of the library's, `__NAME_schema_migrations`, beside the one in
/// which Diesel records the application's: versions of the two never meet, and Diesel's command
/// does not stumble over migrations that it does not know. (A digest takes the place of a name of
/// more than 43 bytes, and of `diesel`.) Run them as often as you like, from as many processes: each
/// is applied once.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks::LibraryMigrations;
/// use diesel_locks_harness::TestDatabase;
/// use diesel_migrations::embed_migrations;
///
/// const MIGRATIONS: LibraryMigrations =
///     LibraryMigrations::new("bank", embed_migrations!("migrations"));
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = TestDatabase::new()?;
/// let mut conn = PgConnection::establish(database.url())?;
/// assert_eq!(MIGRATIONS.run_pending(&mut conn)?.len(), 1);
/// assert_eq!(MIGRATIONS.run_pending(&mut conn)?.len(), 0);
/// # Ok(())
/// # }
/// ```
pub struct LibraryMigrations {
    library: &'static str,
    migrations: EmbeddedMigrations,
}

impl LibraryMigrations {
    /// The migrations of a library of this name.
    pub const fn new(library: &'static str, migrations: EmbeddedMigrations) -> Self {
        Self {
            library,
            migrations,
        }
    }

    /// Applies those that are pending: [`MigrationLock::run_pending`] of [`lock`](Self::lock).
    ///
    /// # Errors
    ///
    /// Those of [`MigrationLock::run_pending`].
    pub fn run_pending<C>(
        &self,
        conn: &mut C,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        self.lock().run_pending(conn, self)
    }

    /// Reverts all of them: [`MigrationLock::revert_all`] of [`lock`](Self::lock).
    ///
    /// # Errors
    ///
    /// Those of [`MigrationLock::revert_all`].
    pub fn revert_all<C>(
        &self,
        conn: &mut C,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        self.lock().revert_all(conn, self)
    }

    /// The lock of the library's own name, with the library's own table of versions: for whoever
    /// wants to set its limits, or see its progress: `MIGRATIONS.lock().run_pending(conn, &MIGRATIONS)`.
    pub fn lock(&self) -> MigrationLock<'static> {
        MigrationLock::new()
            .name(self.library)
            .ledger(Ledger::of_library(self.library))
    }
}

impl MigrationSource<Pg> for &LibraryMigrations {
    fn migrations(&self) -> migration::Result<Vec<Box<dyn Migration<Pg>>>> {
        self.migrations.migrations()
    }
}

impl fmt::Debug for LibraryMigrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibraryMigrations")
            .field("library", &self.library)
            .finish_non_exhaustive()
    }
}
