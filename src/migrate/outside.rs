//! Migrations that run outside a transaction: what they have done stays done, whether or not they
//! are recorded, or interrupted.

mod ended;

use std::time::Instant;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use self::ended::Ended;
use super::attempt::{Attempt, Failure};
use super::event::MigrationEvent;
use super::held::Held;
use super::index::{self, Index};
use crate::Condition;
use crate::migrate_error::{Boxed, MigrateError, condition};

/// How often what is left of an interrupted run is cleared away for another attempt.
const CLEARINGS: u32 = 3;

impl Attempt<'_, '_> {
    pub(super) fn outside<C>(
        &self,
        held: &mut Held<'_, C>,
        begun: Instant,
    ) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        held.verify()?;
        let mut before = index::all(held.conn())?;
        let interrupted = self.ledger.note(held.conn(), &self.version())?;
        if interrupted.is_none() {
            held.transaction::<_, MigrateError>(|conn| {
                Ok(self.ledger.make_note(conn, &self.version(), &before)?)
            })?;
        }
        let mut attempt = 1;
        let mut clearings = 0;
        let mut dropped: Vec<Index> = Vec::new();
        loop {
            let (done, sent) = self.carry_out(held.conn());
            let source = match done {
                Ok(()) => None,
                Err(Failure::Migration(source)) => Some(source),
                Err(Failure::Lock(error)) => return Err(error.into()),
            };
            let now = match index::all(held.conn()) {
                Ok(now) => now,
                // The session is gone, which the migration's own error says best.
                Err(error) => return Err(self.failed(attempt, source.unwrap_or(error.into()))),
            };
            let ended = Ended {
                source: source.as_ref(),
                sent: sent.as_deref(),
                before: &before,
                now: &now,
            };
            let leftovers = ended.leftovers(held.conn(), interrupted.as_ref())?;
            if leftovers.is_empty() {
                let was_done = (interrupted.as_ref())
                    .is_some_and(|note| ended.was_done_before(note))
                    || ended.was_done_by_dropping(&dropped);
                let is_one_statement = ended.is_one_statement();
                let Some(source) = source else {
                    return self.record(held);
                };
                if was_done {
                    return self.recover(held);
                }
                if !is_one_statement {
                    return Err(self.failed(attempt, source));
                }
                self.again(held, attempt, begun, source, sent.as_deref())?;
                attempt += 1;
                continue;
            }
            let are_new = (leftovers.iter()).all(|index| ended.is_new(index));
            if !self.settings.drop_invalid_indexes {
                return Err(self.left(&leftovers, source));
            }
            self.clear_away(held, &leftovers)?;
            clearings += 1;
            if are_new || clearings == CLEARINGS {
                // Another attempt would end as this one did.
                return Err(match source {
                    Some(source) => self.failed(attempt, source),
                    None => self.left(&leftovers, None),
                });
            }
            dropped.extend(leftovers);
            before = index::all(held.conn())?;
        }
    }

    /// Waits for the next attempt at what has changed nothing, or says why there is none.
    fn again<C>(
        &self,
        held: &mut Held<'_, C>,
        attempt: u32,
        begun: Instant,
        source: Boxed,
        sent: Option<&[String]>,
    ) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        let again = match condition(&*source) {
            Some(Condition::Timeout) => self.try_again_after(held, attempt, begun, source, sent),
            _ => Err(self.failed(attempt, source)),
        };
        if again.is_err() {
            // It has changed nothing, so that the next run need not look after it.
            self.drop_note(held)?;
        }
        again
    }

    fn clear_away<C>(&self, held: &mut Held<'_, C>, leftovers: &[Index]) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        for index in leftovers {
            index::drop_concurrently(held.conn(), index)?;
            self.settings.tell(&MigrationEvent::DroppedIndex {
                index: index.leftover(),
            });
        }
        Ok(())
    }

    /// Records what an interrupted run has done.
    fn recover<C>(&self, held: &mut Held<'_, C>) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        self.record(held)?;
        self.settings.tell(&MigrationEvent::Recovered {
            migration: self.name(),
        });
        Ok(())
    }

    fn failed(&self, attempts: u32, source: Boxed) -> MigrateError {
        MigrateError::Failed {
            migration: self.name(),
            attempts,
            in_the_way: Vec::new(),
            source,
        }
    }

    fn left(&self, indexes: &[Index], source: Option<Boxed>) -> MigrateError {
        MigrateError::LeftoverIndex {
            migration: self.name(),
            indexes: indexes.iter().map(Index::leftover).collect(),
            source,
        }
    }

    fn record<C>(&self, held: &mut Held<'_, C>) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        held.transaction(|conn| {
            self.note_the_version(conn)?;
            Ok(self.ledger.drop_note(conn)?)
        })
    }

    fn drop_note<C>(&self, held: &mut Held<'_, C>) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        Ok(self.ledger.drop_note(held.conn())?)
    }
}
