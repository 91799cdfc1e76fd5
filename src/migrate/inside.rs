//! Migrations that run in a transaction: what fails has changed nothing.

use std::time::Instant;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::attempt::{Attempt, Failure};
use super::held::Held;
use crate::lock_timeout;
use crate::migrate_error::MigrateError;

impl Attempt<'_, '_> {
    pub(super) fn in_transactions<C>(
        &self,
        held: &mut Held<'_, C>,
        begun: Instant,
    ) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        for attempt in 1.. {
            let mut sent = None;
            let done = held.transaction(|conn| {
                let limits = (self.settings.lock_timeout, self.settings.statement_timeout);
                lock_timeout::limited(conn, limits, |conn| {
                    let (done, statements) = self.carry_out(conn);
                    sent = statements;
                    done?;
                    self.note_the_version(conn).map_err(Failure::from)
                })
            });
            let source = match done {
                Ok(()) => return Ok(()),
                Err(Failure::Lock(error)) => return Err(error.into()),
                Err(Failure::Migration(source)) => source,
            };
            self.try_again_after(held, attempt, begun, source, sent.as_deref())?;
        }
        Ok(())
    }
}
