//! Which of a source's migrations there are to run.

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;

use super::ledger::Ledger;
use crate::migrate_error::MigrateError;

/// The migrations that are not applied, in their order.
pub(super) fn pending<C, S>(
    conn: &mut C,
    ledger: &Ledger,
    source: &S,
) -> Result<Vec<Box<dyn Migration<Pg>>>, MigrateError>
where
    C: LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    let mut pending = source.migrations().map_err(MigrateError::Unreadable)?;
    ledger.ensure(conn)?;
    let applied = ledger.applied(conn)?;
    pending.retain(|migration| !applied.contains(&migration.name().version()));
    pending.sort_unstable_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(pending)
}

/// The migrations that are applied, the last one first.
pub(super) fn applied<C, S>(
    conn: &mut C,
    ledger: &Ledger,
    source: &S,
) -> Result<Vec<Box<dyn Migration<Pg>>>, MigrateError>
where
    C: LoadConnection<Backend = Pg>,
    S: MigrationSource<Pg>,
{
    let mut known = source.migrations().map_err(MigrateError::Unreadable)?;
    let versions = ledger.applied(conn)?;
    (versions.into_iter())
        .map(|version| {
            let at = known.iter().position(|m| m.name().version() == version);
            at.map(|at| known.swap_remove(at))
                .ok_or(MigrateError::UnknownVersion { version })
        })
        .collect()
}

pub(super) fn by_reference(migrations: &[Box<dyn Migration<Pg>>]) -> Vec<&dyn Migration<Pg>> {
    migrations.iter().map(|migration| &**migration).collect()
}
