//! One migration, applied or reverted under the lock.

use std::panic::{self, AssertUnwindSafe};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationVersion};
use diesel::pg::Pg;
use diesel::result::Error;

use super::event::{Direction, MigrationEvent};
use super::held::Held;
use super::ledger::Ledger;
use super::settings::Settings;
use super::words;
use crate::migrate_error::{Boxed, MigrateError, condition};
use crate::{Condition, LockError, SessionInfo, observe, slot};

/// What one attempt failed for.
pub(super) enum Failure {
    /// The lock, before the migration has begun.
    Lock(LockError),
    Migration(Boxed),
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        Self::Lock(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Migration(error.into())
    }
}

/// A migration that is being run, with what it is run by.
pub(super) struct Attempt<'a, 'p> {
    pub(super) settings: &'a Settings<'p>,
    pub(super) ledger: &'a Ledger,
    pub(super) migration: &'a dyn Migration<Pg>,
    pub(super) direction: Direction,
}

impl Attempt<'_, '_> {
    pub(super) fn name(&self) -> String {
        self.migration.name().to_string()
    }

    pub(super) fn version(&self) -> MigrationVersion<'static> {
        self.migration.name().version().as_owned()
    }

    /// Carries out what the migration says, and gives the statements that it has sent, as far as
    /// they can be known.
    pub(super) fn carry_out<C>(&self, conn: &mut C) -> (Result<(), Failure>, Option<Vec<String>>)
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        slot::record(conn);
        let done = panic::catch_unwind(AssertUnwindSafe(|| match self.direction {
            Direction::Up => self.migration.run(conn),
            Direction::Down => self.migration.revert(conn),
        }));
        // Whatever is sent after a panic is not noted any more either.
        let sent = slot::recorded(conn);
        match done {
            Ok(done) => (done.map_err(Failure::Migration), sent),
            Err(payload) => panic::resume_unwind(payload),
        }
    }

    pub(super) fn note_the_version<C>(&self, conn: &mut C) -> Result<(), Error>
    where
        C: LoadConnection<Backend = Pg>,
    {
        match self.direction {
            Direction::Up => self.ledger.record(conn, &self.version()),
            Direction::Down => self.ledger.forget(conn, &self.version()),
        }
    }

    /// Waits for the next attempt, or fails with what the last one failed for.
    pub(super) fn try_again_after<C>(
        &self,
        held: &mut Held<'_, C>,
        attempt: u32,
        begun: Instant,
        source: Boxed,
        sent: Option<&[String]>,
    ) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let condition = condition(&*source);
        let in_the_way = match condition {
            // Whoever was in the way had the lock before it was waited for.
            Some(Condition::Timeout) => {
                let waited = self.settings.lock_timeout.unwrap_or(Duration::ZERO);
                // A migration may have set a shorter limit itself.
                let waited = waited.min(begun.elapsed());
                self.in_the_way(held.conn(), sent, waited)
            }
            Some(Condition::NotAvailable) => self.in_the_way(held.conn(), sent, Duration::ZERO),
            _ => Vec::new(),
        };
        let is_worth_it = condition.is_some_and(|condition| match condition {
            Condition::Timeout | Condition::NotAvailable => true,
            // In the caller's transaction it is that which has to be run again.
            condition => condition.is_retryable() && !held.is_in_transaction(),
        });
        match self.settings.attempts.pause_after(attempt, begun) {
            Some(pause) if is_worth_it => {
                self.settings.tell(&MigrationEvent::Refused {
                    migration: self.name(),
                    attempt,
                    error: source.to_string(),
                    in_the_way,
                    pause,
                });
                thread::sleep(pause);
                Ok(())
            }
            _ => Err(MigrateError::Failed {
                migration: self.name(),
                attempts: attempt,
                in_the_way,
                source,
            }),
        }
    }

    /// Who holds what the attempt has waited for. It is looked for after the attempt, whose
    /// connection is the only one, so that whoever has let go meanwhile is not found.
    fn in_the_way<C>(
        &self,
        conn: &mut C,
        sent: Option<&[String]>,
        waited: Duration,
    ) -> Vec<SessionInfo>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let names = words::names(sent.into_iter().flatten().map(|sql| &**sql));
        // What the attempt failed for counts more than why nobody could be found.
        conn.transaction(|conn| observe::in_the_way(conn, &names, waited))
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "these are tests")]

    use std::fmt;

    use diesel::PgConnection;
    use diesel::connection::{BoxableConnection, Connection};
    use diesel::migration::{self, MigrationMetadata, MigrationName};
    use diesel_locks_harness::TestDatabase;

    use super::*;
    use crate::MigrationLock;

    struct Panics;

    impl Migration<Pg> for Panics {
        fn run(&self, _: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
            panic!("at once")
        }

        fn revert(&self, _: &mut dyn BoxableConnection<Pg>) -> migration::Result<()> {
            Ok(())
        }

        fn metadata(&self) -> &dyn MigrationMetadata {
            self
        }

        fn name(&self) -> &dyn MigrationName {
            self
        }
    }

    impl MigrationMetadata for Panics {}

    impl MigrationName for Panics {
        fn version(&self) -> MigrationVersion<'_> {
            "1".into()
        }
    }

    impl fmt::Display for Panics {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("1")
        }
    }

    #[test]
    fn no_statement_is_noted_after_a_panic() {
        let database = TestDatabase::new().unwrap();
        let mut conn = PgConnection::establish(database.url()).unwrap();
        let run_it = || {
            MigrationLock::new()
                .run_migration(&mut conn, &Panics)
                .map(drop)
        };
        panic::catch_unwind(AssertUnwindSafe(run_it)).unwrap_err();
        assert_eq!(slot::recorded(&mut conn), None);
    }
}
