//! Migrations that run outside a transaction: what they have done stays done, whether or not they
//! are recorded, or interrupted.

use std::time::Instant;

use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::attempt::{Attempt, Failure};
use super::error::{Boxed, MigrateError, condition};
use super::event::MigrationEvent;
use super::held::Held;
use super::index::{self, Index};
use super::ledger::Note;
use super::words;
use crate::Condition;

/// How often what is left of an interrupted run is cleared away for another attempt.
const CLEARINGS: u32 = 3;

/// What is known when the migration's statements have ended.
struct Ended<'e> {
    /// What they failed for.
    source: Option<&'e Boxed>,
    sent: Option<&'e [String]>,
    /// Before this attempt.
    before: &'e [Index],
    now: &'e [Index],
}

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
            let are_new = (leftovers.iter()).all(|index| ended.is_new(index));
            let was_done = (interrupted.as_ref()).is_some_and(|note| ended.was_done_before(note))
                || ended.was_done_by_dropping(&dropped);
            let is_one_statement = ended.is_one_statement();
            if leftovers.is_empty() {
                let Some(source) = source else {
                    return self.record(held);
                };
                if was_done {
                    self.record(held)?;
                    self.settings.tell(&MigrationEvent::Recovered {
                        migration: self.name(),
                    });
                    return Ok(());
                }
                if !is_one_statement {
                    return Err(self.failed(attempt, source));
                }
                let again = match condition(&*source) {
                    Some(Condition::Timeout) => {
                        self.try_again_after(held, attempt, begun, source, sent.as_deref())
                    }
                    _ => Err(self.failed(attempt, source)),
                };
                if let Err(error) = again {
                    // It has changed nothing, so that the next run need not look after it.
                    self.drop_note(held)?;
                    return Err(error);
                }
                attempt += 1;
                continue;
            }
            if !self.settings.drop_invalid_indexes {
                return Err(self.left(&leftovers, source));
            }
            for index in &leftovers {
                index::drop_concurrently(held.conn(), index)?;
                self.settings.tell(&MigrationEvent::DroppedIndex {
                    index: index.leftover(),
                });
            }
            dropped.extend(leftovers.iter().cloned());
            clearings += 1;
            if are_new || clearings == CLEARINGS {
                // Another attempt would end as this one did.
                return Err(match source {
                    Some(source) => self.failed(attempt, source),
                    None => self.left(&leftovers, None),
                });
            }
            before = index::all(held.conn())?;
        }
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

impl Ended<'_> {
    fn is_one_statement(&self) -> bool {
        matches!(self.sent, Some([sql]) if words::is_one_statement(sql))
    }

    fn is_new(&self, index: &Index) -> bool {
        self.before.iter().all(|before| before.oid != index.oid)
    }

    /// What the server says.
    fn message(&self) -> Option<String> {
        self.source.map(|source| source.to_string())
    }

    fn is_mentioned(&self, name: &str) -> bool {
        let message = self.message();
        let sent = self.sent.into_iter().flatten().map(|sql| &**sql);
        words::mention(sent.chain(message.as_deref()), name)
    }

    /// Whether the name of the index, or of its table, can stand for this one and not for one in
    /// another schema.
    fn may_be_meant(&self, index: &Index) -> bool {
        index.is_visible || self.is_mentioned(&index.schema)
    }

    /// Whether the table of the index is mentioned, or one of the indexes that it has.
    fn is_about_the_table_of(&self, index: &Index) -> bool {
        let mut indexes = (self.now.iter()).filter(|other| other.table_oid == index.table_oid);
        self.is_mentioned(&index.table_name) || indexes.any(|other| self.is_mentioned(&other.name))
    }

    /// Whether it may be what a `REINDEX SCHEMA` has left, which names neither it nor its table.
    fn is_of_a_reindex(&self, index: &Index) -> bool {
        let sent = self.sent.into_iter().flatten().map(|sql| &**sql);
        let is_a_copy = ["_ccnew", "_ccold"]
            .iter()
            .any(|end| index.name.contains(end));
        is_a_copy && words::mention(sent, "reindex")
    }

    fn is_in_the_message(&self, name: &str) -> bool {
        self.message()
            .is_some_and(|message| words::mention([&*message], name))
    }

    /// The indexes that are in the way of another attempt, or that this one has left.
    fn leftovers<C>(&self, conn: &mut C, interrupted: Option<&Note>) -> QueryResult<Vec<Index>>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let mut leftovers = index::broken(conn, self.now)?;
        leftovers.retain(|index| {
            let is_named = self.may_be_meant(index) && self.is_mentioned(&index.name);
            let is_made_since =
                self.is_new(index) || interrupted.is_some_and(|note| note.is_older_than(index));
            // The server may have given it its name, or nobody knows what was sent.
            let may_be_its = self.sent.is_none()
                || (self.may_be_meant(index) && self.is_about_the_table_of(index))
                || self.is_of_a_reindex(index);
            is_named || (is_made_since && may_be_its)
        });
        // Of several statements, the interrupted run has done some.
        if let Some(note) = interrupted
            && !self.is_one_statement()
        {
            leftovers.extend(
                self.now
                    .iter()
                    .filter(|index| {
                        index.is_valid
                            && note.is_older_than(index)
                            && self.may_be_meant(index)
                            && self.is_in_the_message(&index.name)
                    })
                    .cloned(),
            );
        }
        Ok(leftovers)
    }

    /// Whether the one statement of the migration fails because the interrupted run has carried it
    /// out: the index that it makes is there, or the one that it drops is not.
    fn was_done_before(&self, note: &Note) -> bool {
        let is_made = (self.now.iter()).any(|index| {
            index.is_valid
                && note.is_older_than(index)
                && self.may_be_meant(index)
                && self.is_in_the_message(&index.name)
        });
        let is_dropped = note.gone(self.now).any(|name| self.is_in_the_message(name));
        self.is_one_statement() && (is_made || is_dropped)
    }

    /// Whether the one statement of the migration fails because it was to drop what this run has
    /// cleared away.
    fn was_done_by_dropping(&self, dropped: &[Index]) -> bool {
        let is_gone = |name: &str| self.now.iter().all(|index| index.name != name);
        let mut names = dropped.iter().map(|index| &*index.name);
        self.is_one_statement() && names.any(|name| self.is_in_the_message(name) && is_gone(name))
    }
}
