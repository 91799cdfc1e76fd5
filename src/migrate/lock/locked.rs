//! What is done under the lock.

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationVersion};
use diesel::pg::Pg;

use super::MigrationLock;
use crate::migrate::attempt::Attempt;
use crate::migrate::event::{Direction, MigrationEvent};
use crate::migrate::held::Held;
use crate::migrate::ledger::{Ledger, Place};
use crate::migrate::pending::by_reference;
use crate::migrate::pooler;
#[cfg(feature = "watch")]
use crate::migrate::priority::with_priority;
use crate::migrate::waiting::Waiting;
use crate::migrate_error::MigrateError;
use crate::{AdvisoryLockExt, LockError, transaction};

impl<'p> MigrationLock<'p> {
    /// Those of `migrations` that are not applied or reverted yet, in the order given.
    pub(in crate::migrate) fn run_these<C>(
        &self,
        conn: &mut C,
        migrations: &[&dyn Migration<Pg>],
        direction: Direction,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        self.locked(conn, |held, ledger| {
            ledger.ensure(held.conn())?;
            let applied = ledger.applied(held.conn())?;
            let is_done = |migration: &dyn Migration<Pg>| {
                applied.contains(&migration.name().version()) == (direction == Direction::Up)
            };
            let left: Vec<_> = migrations
                .iter()
                .copied()
                .filter(|&m| !is_done(m))
                .collect();
            self.run_all(held, ledger, &left, direction)
        })
    }

    pub(super) fn run_all<C>(
        &self,
        held: &mut Held<'_, C>,
        ledger: &Ledger,
        migrations: &[&dyn Migration<Pg>],
        direction: Direction,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        if migrations.is_empty() {
            self.settings.tell(&MigrationEvent::NothingToDo);
        }
        (migrations.iter().enumerate())
            .map(|(at, &migration)| {
                self.settings.tell(&MigrationEvent::Began {
                    migration: migration.name().to_string(),
                    direction,
                    number: at + 1,
                    of: migrations.len(),
                });
                self.attempt(ledger, migration, direction).run(held)
            })
            .collect()
    }

    /// The first of `migrations`.
    pub(super) fn run_one<C>(
        &self,
        held: &mut Held<'_, C>,
        ledger: &Ledger,
        migrations: &[Box<dyn Migration<Pg>>],
        direction: Direction,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        let first = by_reference(&migrations[..migrations.len().min(1)]);
        let done = self.run_all(held, ledger, &first, direction)?;
        done.into_iter().next().ok_or(MigrateError::NoMigration)
    }

    pub(in crate::migrate) fn attempt<'a>(
        &'a self,
        ledger: &'a Ledger,
        migration: &'a dyn Migration<Pg>,
        direction: Direction,
    ) -> Attempt<'a, 'p> {
        Attempt {
            settings: &self.settings,
            ledger,
            migration,
            direction,
        }
    }

    /// Runs `work` under the lock.
    ///
    /// It is never waited for in the server: whoever does that has a snapshot, for the end of which
    /// `CREATE INDEX CONCURRENTLY` waits, which the holder of the lock may be running.
    pub(in crate::migrate) fn locked<C, T>(
        &self,
        conn: &mut C,
        work: impl FnOnce(&mut Held<'_, C>, &Ledger) -> Result<T, MigrateError>,
    ) -> Result<T, MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let place = Place::of(conn)?;
        let ledger = Ledger::new(&self.ledger, &self.name, &place);
        let is_open = transaction::depth(conn)?.is_some();
        let mut wait = Waiting::begin(&self.settings, key_name(&place.database, &self.name));
        let work = |held: &mut Held<'_, C>| {
            #[cfg(feature = "watch")]
            return with_priority(&self.settings, held, |held| work(held, &ledger));
            #[cfg(not(feature = "watch"))]
            work(held, &ledger)
        };
        loop {
            if is_open {
                if conn.try_advisory_xact_lock(wait.lock)? {
                    wait.is_over();
                    return work(&mut Held::Transaction(conn));
                }
            } else if let Some(guard) = conn.try_advisory_lock(wait.lock)? {
                wait.is_over();
                let mut held = Held::Session(guard);
                held.verify()?;
                if pooler::is_in_between(held.conn())? {
                    held.release()?;
                    return Err(LockError::SharedSession { lock: wait.lock }.into());
                }
                let done = work(&mut held)?;
                held.release()?;
                return Ok(done);
            }
            wait.pause(conn)?;
        }
    }
}

/// What the lock is called, from which its key is derived.
fn key_name(database: &str, name: &str) -> String {
    match name {
        "" => format!("migrations of {database}"),
        name => format!("migrations of {database}: {name}"),
    }
}
