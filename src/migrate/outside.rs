//! Migrations that run outside a transaction: what they have done stays done, whether or not they
//! are recorded, or interrupted.

mod ended;

use std::ops::ControlFlow;
use std::time::Instant;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use self::ended::Ended;
use super::attempt::{Attempt, Failure};
use super::event::MigrationEvent;
use super::held::Held;
use super::index::{self, Index};
use super::ledger::Note;
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
        let before = index::all(held.conn())?;
        let interrupted = self.ledger.note(held.conn(), &self.version())?;
        if interrupted.is_none() {
            held.transaction::<_, MigrateError>(|conn| {
                Ok(self.ledger.make_note(conn, &self.version(), &before)?)
            })?;
        }
        let mut tries = Tries {
            of: self,
            begun,
            interrupted,
            before,
            number: 1,
            clearings: 0,
            dropped: Vec::new(),
        };
        while tries.one(held)?.is_continue() {}
        Ok(())
    }
}

/// What one try at a migration leaves for the next one.
struct Tries<'a, 'p> {
    of: &'a Attempt<'a, 'p>,
    begun: Instant,
    /// What a run before this one has noted, that was interrupted.
    interrupted: Option<Note>,
    /// The indexes that there are before the next try.
    before: Vec<Index>,
    /// Counted from 1; what follows a clearing is the same one.
    number: u32,
    clearings: u32,
    dropped: Vec<Index>,
}

impl Tries<'_, '_> {
    /// Breaks when the migration is done and recorded.
    fn one<C>(&mut self, held: &mut Held<'_, C>) -> Result<ControlFlow<()>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        let (done, sent) = self.of.carry_out(held.conn());
        let source = match done {
            Ok(()) => None,
            Err(Failure::Migration(source)) => Some(source),
            Err(Failure::Lock(error)) => return Err(error.into()),
        };
        let now = match index::all(held.conn()) {
            Ok(now) => now,
            // The session is gone, which the migration's own error says best.
            Err(error) => {
                let source = source.unwrap_or(error.into());
                return Err(self.of.failed(self.number, source));
            }
        };
        let ended = Ended {
            source: source.as_ref(),
            sent: sent.as_deref(),
            before: &self.before,
            now: &now,
        };
        let leftovers = ended.leftovers(held.conn(), self.interrupted.as_ref())?;
        if !leftovers.is_empty() {
            let are_new = leftovers.iter().all(|index| ended.is_new(index));
            self.clear_away(held, leftovers, are_new, source)?;
            return Ok(ControlFlow::Continue(()));
        }
        let was_done = (self.interrupted.as_ref()).is_some_and(|note| ended.was_done_before(note))
            || ended.was_done_by_dropping(&self.dropped);
        let is_one_statement = ended.is_one_statement();
        let Some(source) = source else {
            return self.of.record(held).map(ControlFlow::Break);
        };
        if was_done {
            return self.of.recover(held).map(ControlFlow::Break);
        }
        if !is_one_statement {
            return Err(self.of.failed(self.number, source));
        }
        (self.of).again(held, self.number, self.begun, source, sent.as_deref())?;
        self.number += 1;
        Ok(ControlFlow::Continue(()))
    }

    /// Makes way for another try, where that is wanted and may end in another way.
    fn clear_away<C>(
        &mut self,
        held: &mut Held<'_, C>,
        leftovers: Vec<Index>,
        are_new: bool,
        source: Option<Boxed>,
    ) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        if !self.of.settings.drop_invalid_indexes {
            return Err(self.of.left(&leftovers, source));
        }
        self.of.drop_indexes(held, &leftovers)?;
        self.clearings += 1;
        if are_new || self.clearings == CLEARINGS {
            // Another try would end as this one did.
            return Err(match source {
                Some(source) => self.of.failed(self.number, source),
                None => self.of.left(&leftovers, None),
            });
        }
        self.dropped.extend(leftovers);
        self.before = index::all(held.conn())?;
        Ok(())
    }
}

impl Attempt<'_, '_> {
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

    fn drop_indexes<C>(&self, held: &mut Held<'_, C>, indexes: &[Index]) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        for index in indexes {
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
