use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::event::MigrationEvent;
use super::held::Held;
use super::settings::{Priority, Settings};
use crate::migrate_error::MigrateError;
use crate::{LockError, Prioritized};

/// Runs `work` with the priority that is wanted, and tells of everybody who was in the way.
pub(super) fn with_priority<C, T>(
    settings: &Settings<'_>,
    held: &mut Held<'_, C>,
    work: impl FnOnce(&mut Held<'_, C>) -> Result<T, MigrateError>,
) -> Result<T, MigrateError>
where
    C: LoadConnection<Backend = Pg>,
{
    let Some(Priority {
        connect,
        how,
        after,
    }) = &settings.priority
    else {
        return work(held);
    };
    let second = connect().map_err(LockError::from)?;
    let priority = Prioritized::start(held.conn(), second, *how, *after)?;
    let done = work(held);
    // Where the second connection has failed meanwhile, the migrations are what counts.
    let ends = priority.ends();
    for session in priority.stop().unwrap_or(ends) {
        settings.tell(&MigrationEvent::InTheWay { session });
    }
    done
}
