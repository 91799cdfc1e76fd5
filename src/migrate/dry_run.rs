mod read_only;
mod relations;
mod report;
mod seen;

use std::time::Instant;

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource};
use diesel::pg::Pg;
use diesel::result::Error;

use self::relations::{Locks, State};
pub use self::report::{Blocks, DryRun, LockTaken, MigrationReport, Touched, Tried};
use self::seen::{Ran, Seen};
use super::attempt::{Attempt, Failure};
use super::event::Direction;
use super::ledger::Ledger;
use super::lock::MigrationLock;
use super::pending::pending;
use crate::migrate_error::MigrateError;
use crate::{LockError, lock_timeout, transaction};

/// Has a commit of the transaction fail, such as one by a migration's own `COMMIT`: it reads what
/// the cursor is for, and there is no such setting.
const NEVER_COMMIT: &str = "DECLARE diesel_locks_dry_run NO SCROLL CURSOR WITH HOLD FOR \
     SELECT pg_catalog.current_setting('diesel_locks.a_dry_run_is_not_committed')";

/// Why a transaction is rolled back.
enum Rollback<T> {
    /// It is over, and this was found.
    Over(T),
    Failed(MigrateError),
}

impl<T> From<Error> for Rollback<T> {
    fn from(error: Error) -> Self {
        Self::Failed(error.into())
    }
}

impl<T> From<LockError> for Rollback<T> {
    fn from(error: LockError) -> Self {
        Self::Failed(error.into())
    }
}

impl<T> From<MigrateError> for Rollback<T> {
    fn from(error: MigrateError) -> Self {
        Self::Failed(error)
    }
}

impl MigrationLock<'_> {
    /// Runs the migrations that are pending in one transaction that is rolled back, and reports what
    /// each of them locks, by the server's own word: `pg_locks`, on the real schema, with its data.
    ///
    /// Before each migration and after it, the session's locks are read, the file of each table, and
    /// how often it was read from begin to end. As the locks of one migration are held until the
    /// rollback, each that comes after another one is run a second time without it, where that can
    /// be: where it cannot, see [`LockTaken::is_uncertain`]. What runs outside a transaction is listed
    /// as not tried.
    ///
    /// Nothing is changed, but the numbers that a sequence has given away. A migration that sends a
    /// `COMMIT` or a `ROLLBACK` of its own ends the dry run with an error, and what it sends
    /// afterwards fails, as the session's transactions are read-only meanwhile. What can't be
    /// prevented: a `CLOSE ALL` before the `COMMIT`, a `ROLLBACK AND CHAIN`, and, in the caller's
    /// transaction, what comes after a `ROLLBACK`.
    ///
    /// While it runs, its locks are as real as those of the migrations, and all of them are held
    /// until its end: use a copy of the database, or [`lock_timeout`](Self::lock_timeout), with which
    /// a migration that would have to wait is [`Tried::Failed`]. The migration lock is taken
    /// meanwhile.
    ///
    /// Beside what the migrations send: nineteen round trips, four for each migration, and six more for
    /// one that is run a second time.
    ///
    /// ```
    /// use diesel::prelude::*;
    /// use diesel_locks::MigrationLock;
    /// use diesel_locks_harness::TestDatabase;
    /// use diesel_migrations::{EmbeddedMigrations, embed_migrations};
    ///
    /// const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// let mut conn = PgConnection::establish(database.url())?;
    /// let run = MigrationLock::new().dry_run(&mut conn, MIGRATIONS)?;
    /// println!("{run}"); // or run.to_markdown(), for a pull request
    /// assert_eq!(run.migrations.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`MigrateError::Timeout`], [`MigrateError::Lock`] and [`MigrateError::Unreadable`], as for
    /// [`run_pending`](Self::run_pending). A migration that fails is in the report.
    pub fn dry_run<C, S>(&self, conn: &mut C, migrations: S) -> Result<DryRun, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let run = read_only::outside_a_transaction(held, |conn| {
                conn.batch_execute(NEVER_COMMIT)?;
                let pending = pending(conn, ledger, &migrations)?;
                let run = self.rehearse_all(conn, ledger, &pending)?;
                Err::<(), _>(Rollback::Over(run))
            });
            match run {
                Err(Rollback::Over(run)) => Ok(run),
                Err(Rollback::Failed(error)) => Err(error),
                Ok(()) => Ok(DryRun::default()),
            }
        })
    }

    fn rehearse_all<C>(
        &self,
        conn: &mut C,
        ledger: &Ledger,
        pending: &[Box<dyn Migration<Pg>>],
    ) -> Result<DryRun, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        let attempts: Vec<Attempt<'_, '_>> = (pending.iter())
            .map(|migration| self.attempt(ledger, &**migration, Direction::Up))
            .collect();
        let base = State::of(conn)?;
        // One after the other, as they will be run.
        let seen = rolled_back(conn, |conn| {
            let mut before = None;
            let rehearse = |attempt: &Attempt<'_, '_>| {
                let ran = attempt.rehearse(conn)?;
                let after = State::of(conn)?;
                let seen = ran.map(|ran| Seen::of(ran, before.as_ref().unwrap_or(&base), &after));
                before = Some(after);
                Ok(seen)
            };
            attempts.iter().map(rehearse).collect::<Result<Vec<_>, _>>()
        })?;
        let mut reports = Vec::new();
        for (attempt, seen) in attempts.iter().zip(seen) {
            let tried = match seen {
                Ok(mut seen) => {
                    // The caller's transaction keeps its own until the end.
                    let mut hidden = &base.locks;
                    // What the migrations before it have locked is held until the rollback, so that
                    // its own locks are seen only if it is run without them, where it can be.
                    if seen.is_hidden(&base) {
                        match rolled_back(conn, |conn| attempt.locks(conn))? {
                            Ok(locks) => seen.locks.extend(locks),
                            Err(_) => hidden = &seen.locked_before,
                        }
                    }
                    let unsure = seen.named(hidden);
                    Tried::Done(seen.report(&base, &unsure))
                }
                Err(tried) => tried,
            };
            reports.push(MigrationReport {
                migration: attempt.name(),
                tried,
            });
        }
        Ok(DryRun {
            migrations: reports,
        })
    }
}

impl Attempt<'_, '_> {
    /// Runs the migration in a savepoint, which stays unless it fails.
    fn rehearse<C>(&self, conn: &mut C) -> Result<Result<Ran, Tried>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        if !self.migration.metadata().run_in_transaction() {
            return Ok(Err(Tried::NotInTransaction));
        }
        let begun = Instant::now();
        let mut sent = None;
        let done = conn.transaction::<_, Failure, _>(|conn| {
            let limits = (self.settings.lock_timeout, self.settings.statement_timeout);
            lock_timeout::limited(conn, limits, |conn| {
                let (done, statements) = self.carry_out(conn);
                sent = statements;
                done
            })
        });
        let took = begun.elapsed();
        let sent = sent.unwrap_or_default();
        match done {
            Ok(()) => Ok(Ok(Ran { took, sent })),
            Err(Failure::Lock(error)) => Err(error.into()),
            Err(Failure::Migration(error)) => {
                transaction::require(conn)?;
                let error = error.to_string();
                Ok(Err(Tried::Failed { error }))
            }
        }
    }

    /// What the migration locks when it is run from here.
    fn locks<C>(&self, conn: &mut C) -> Result<Result<Locks, Tried>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        let before = relations::locks(conn)?;
        let ran = self.rehearse(conn)?;
        let mut after = relations::locks(conn)?;
        after.retain(|lock| !before.contains(lock));
        Ok(ran.map(|_| after))
    }
}

/// Runs `work` in a savepoint, and takes back what it has done, and the locks with it.
fn rolled_back<C, T>(
    conn: &mut C,
    work: impl FnOnce(&mut C) -> Result<T, MigrateError>,
) -> Result<T, MigrateError>
where
    C: LoadConnection<Backend = Pg>,
{
    let done = conn.transaction(|conn| Err::<T, _>(Rollback::Over(work(conn)?)));
    match done {
        Ok(done) | Err(Rollback::Over(done)) => Ok(done),
        Err(Rollback::Failed(error)) => Err(error),
    }
}
