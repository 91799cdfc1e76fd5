use std::time::Instant;

use diesel::connection::LoadConnection;
use diesel::migration::MigrationVersion;
use diesel::pg::Pg;

use super::attempt::Attempt;
use super::event::MigrationEvent;
use super::held::Held;
use crate::migrate_error::MigrateError;

impl Attempt<'_, '_> {
    /// Runs the migration, and again as often as it is worth it.
    pub(super) fn run<C>(
        &self,
        held: &mut Held<'_, C>,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        let begun = Instant::now();
        // Whatever runs inside the caller's transaction is a part of it.
        if self.migration.metadata().run_in_transaction() || held.is_in_transaction() {
            self.in_transactions(held, begun)?;
        } else {
            self.outside(held, begun)?;
        }
        self.settings.tell(&MigrationEvent::Done {
            migration: self.name(),
            direction: self.direction,
            took: begun.elapsed(),
        });
        Ok(self.version())
    }
}
