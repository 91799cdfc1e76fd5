use std::cell::RefCell;
use std::fmt;
use std::io::{self, Write};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::migration::{Migration, MigrationSource, MigrationVersion};
use diesel::pg::Pg;

use super::attempt::Attempt;
use super::error::MigrateError;
use super::event::{Direction, MigrationEvent};
use super::harness::LockedHarness;
use super::held::Held;
use super::ledger::{self, Ledger, Place};
use crate::{AdvisoryLock, AdvisoryLockExt, Retry, SessionInfo, observe, transaction};

type Report<'p> = dyn FnMut(&MigrationEvent) + 'p;

/// Runs migrations under a lock, so that N instances of a service can start at once: one of them
/// migrates, and the others wait, and find nothing left to do.
///
/// TODO docs
#[must_use = "nothing is run before one of the methods that take a connection"]
pub struct MigrationLock<'p> {
    name: String,
    ledger: String,
    timeout: Option<Duration>,
    pub(super) lock_timeout: Option<Duration>,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) attempts: Retry,
    pub(super) drop_invalid_indexes: bool,
    report: RefCell<Box<Report<'p>>>,
}

impl<'p> MigrationLock<'p> {
    /// The lock of the database's migrations, waited for up to ten minutes; no limits on what a
    /// migration waits for.
    pub fn new() -> Self {
        Self {
            name: String::new(),
            ledger: ledger::DIESEL.to_owned(),
            timeout: Some(Duration::from_secs(600)),
            lock_timeout: None,
            statement_timeout: None,
            attempts: Retry::new()
                .attempts(100)
                .backoff(Duration::from_millis(50), Duration::from_secs(2)),
            drop_invalid_indexes: false,
            report: RefCell::new(Box::new(|_| ())),
        }
    }

    /// The lock of one application, where several in one database have migrations of their own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Of another table of versions than Diesel's.
    pub(super) fn ledger(mut self, ledger: String) -> Self {
        self.ledger = ledger;
        self
    }

    /// How long to wait for the lock, at most; `None` is without a limit.
    pub fn timeout(mut self, timeout: impl Into<Option<Duration>>) -> Self {
        self.timeout = timeout.into();
        self
    }

    /// Runs each migration that is in a transaction with PostgreSQL's [`lock_timeout`] at
    /// `timeout`.
    pub fn lock_timeout(mut self, timeout: Duration) -> Self {
        self.lock_timeout = Some(timeout);
        self
    }

    /// Runs each migration that is in a transaction with PostgreSQL's `statement_timeout` at
    /// `timeout`.
    pub fn statement_timeout(mut self, timeout: Duration) -> Self {
        self.statement_timeout = Some(timeout);
        self
    }

    /// How often a migration is tried.
    pub fn attempts(mut self, attempts: Retry) -> Self {
        self.attempts = attempts;
        self
    }

    /// Whether an index that an interrupted migration has left is dropped.
    pub fn drop_invalid_indexes(mut self, drop: bool) -> Self {
        self.drop_invalid_indexes = drop;
        self
    }

    /// Tells `report` what happens. A second call takes the place of the first.
    pub fn on_progress(mut self, report: impl FnMut(&MigrationEvent) + 'p) -> Self {
        self.report = RefCell::new(Box::new(report));
        self
    }

    /// Tells standard error what happens, a line each.
    pub fn print_progress(self) -> Self {
        self.on_progress(|event| {
            // There is nobody to tell if nobody can read it.
            let _ = writeln!(io::stderr(), "{event}");
        })
    }

    /// Applies all migrations that are pending, in their order, and gives their versions.
    pub fn run_pending<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let pending = pending(held.conn(), ledger, &migrations)?;
            self.run_all(held, ledger, pending.iter().map(|m| &**m), Direction::Up)
        })
    }

    /// Applies the first migration that is pending.
    pub fn run_next<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let pending = pending(held.conn(), ledger, &migrations)?;
            let next = pending.first().ok_or(MigrateError::NoMigration)?;
            self.attempt(ledger, next, Direction::Up).run(held)
        })
    }

    /// Applies this one migration, unless it is applied already.
    pub fn run_migration<C>(
        &self,
        conn: &mut C,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        self.run_these(conn, &[migration], Direction::Up)?;
        Ok(migration.name().version().as_owned())
    }

    /// Reverts this one migration, unless it is not applied.
    pub fn revert_migration<C>(
        &self,
        conn: &mut C,
        migration: &dyn Migration<Pg>,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        self.run_these(conn, &[migration], Direction::Down)?;
        Ok(migration.name().version().as_owned())
    }

    /// Reverts the migration that was applied last, by its version.
    pub fn revert_last<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<MigrationVersion<'static>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let applied = applied(held.conn(), ledger, &migrations)?;
            let last = applied.first().ok_or(MigrateError::NoMigration)?;
            self.attempt(ledger, last, Direction::Down).run(held)
        })
    }

    /// Reverts all migrations that are applied, the last one first.
    pub fn revert_all<C, S>(
        &self,
        conn: &mut C,
        migrations: S,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
        S: MigrationSource<Pg>,
    {
        self.locked(conn, |held, ledger| {
            let applied = applied(held.conn(), ledger, &migrations)?;
            self.run_all(held, ledger, applied.iter().map(|m| &**m), Direction::Down)
        })
    }

    /// A [`MigrationHarness`](diesel_migrations::MigrationHarness) whose methods take the lock.
    pub fn harness<C>(self, conn: &mut C) -> LockedHarness<'_, 'p, C>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        LockedHarness::new(self, conn)
    }

    /// Those of `migrations` that are not applied or reverted yet, in the order given.
    pub(super) fn run_these<C>(
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
            let left = migrations.iter().copied().filter(|&m| !is_done(m));
            self.run_all(held, ledger, left, direction)
        })
    }

    fn run_all<'m, C>(
        &self,
        held: &mut Held<'_, C>,
        ledger: &Ledger,
        migrations: impl Iterator<Item = &'m (dyn Migration<Pg> + 'm)>,
        direction: Direction,
    ) -> Result<Vec<MigrationVersion<'static>>, MigrateError>
    where
        C: LoadConnection<Backend = Pg> + 'static,
    {
        let done = migrations
            .map(|migration| self.attempt(ledger, migration, direction).run(held))
            .collect::<Result<Vec<_>, _>>()?;
        if done.is_empty() {
            self.tell(MigrationEvent::NothingToDo);
        }
        Ok(done)
    }

    pub(super) fn attempt<'a>(
        &'a self,
        ledger: &'a Ledger,
        migration: &'a dyn Migration<Pg>,
        direction: Direction,
    ) -> Attempt<'a, 'p> {
        Attempt {
            lock: self,
            ledger,
            migration,
            direction,
        }
    }

    pub(super) fn tell(&self, event: MigrationEvent) {
        // Nobody is told of what a report does itself.
        if let Ok(mut report) = self.report.try_borrow_mut() {
            report(&event);
        }
    }

    /// Runs `work` under the lock.
    ///
    /// It is never waited for in the server: whoever does that has a snapshot, for the end of which
    /// `CREATE INDEX CONCURRENTLY` waits, which the holder of the lock may be running.
    pub(super) fn locked<C, T>(
        &self,
        conn: &mut C,
        work: impl FnOnce(&mut Held<'_, C>, &Ledger) -> Result<T, MigrateError>,
    ) -> Result<T, MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let place = Place::of(conn)?;
        let ledger = Ledger::new(&self.ledger, &place);
        let is_open = transaction::depth(conn)?.is_some();
        let mut wait = Waiting::begin(self, key_name(&place.database, &self.name));
        loop {
            if is_open {
                if conn.try_advisory_xact_lock(wait.lock)? {
                    wait.is_over();
                    return work(&mut Held::Transaction(conn), &ledger);
                }
            } else if let Some(guard) = conn.try_advisory_lock(wait.lock)? {
                wait.is_over();
                let mut held = Held::Session(guard);
                held.verify()?;
                let done = work(&mut held, &ledger)?;
                held.release()?;
                return Ok(done);
            }
            wait.pause(conn)?;
        }
    }
}

impl Default for MigrationLock<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MigrationLock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MigrationLock")
            .field("name", &self.name)
            .field("timeout", &self.timeout)
            .field("lock_timeout", &self.lock_timeout)
            .field("statement_timeout", &self.statement_timeout)
            .field("attempts", &self.attempts)
            .field("drop_invalid_indexes", &self.drop_invalid_indexes)
            .finish_non_exhaustive()
    }
}

/// What the lock is called, from which its key is derived.
fn key_name(database: &str, name: &str) -> String {
    match name {
        "" => format!("migrations of {database}"),
        name => format!("migrations of {database}: {name}"),
    }
}

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
    ledger.ensure(conn)?;
    let applied = ledger.applied(conn)?;
    let mut pending = source.migrations().map_err(MigrateError::Unreadable)?;
    pending.retain(|migration| !applied.contains(&migration.name().version()));
    pending.sort_unstable_by(|a, b| a.name().version().cmp(&b.name().version()));
    Ok(pending)
}

/// The migrations that are applied, the last one first.
fn applied<C, S>(
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

/// How long after a report of one holder the next one follows.
const REPORTS: Duration = Duration::from_secs(5);

/// A wait for the lock.
struct Waiting<'a, 'p> {
    by: &'a MigrationLock<'p>,
    lock: AdvisoryLock,
    begun: Instant,
    attempt: u32,
    told: Option<(Instant, Vec<i32>)>,
}

impl<'a, 'p> Waiting<'a, 'p> {
    fn begin(by: &'a MigrationLock<'p>, name: String) -> Self {
        Self {
            by,
            lock: AdvisoryLock::exclusive(name),
            begun: Instant::now(),
            attempt: 0,
            told: None,
        }
    }

    /// Lets some time pass after a refusal, or fails if all of it has.
    fn pause<C>(&mut self, conn: &mut C) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let holders = observe::holders(conn, self.lock.key())?;
        self.attempt = self.attempt.saturating_add(1);
        let polls = Retry::new().backoff(Duration::from_millis(10), Duration::from_millis(500));
        let mut pause = polls.pause(self.attempt);
        if let Some(timeout) = self.by.timeout {
            let left = timeout.saturating_sub(self.begun.elapsed());
            if left.is_zero() {
                return Err(MigrateError::Timeout {
                    lock: self.lock,
                    after: timeout,
                    holders,
                });
            }
            pause = pause.min(left);
        }
        self.tell_of(holders);
        thread::sleep(pause);
        Ok(())
    }

    fn tell_of(&mut self, holders: Vec<SessionInfo>) {
        let pids: Vec<i32> = holders.iter().map(|holder| holder.pid).collect();
        if (self.told.as_ref()).is_some_and(|(at, told)| at.elapsed() < REPORTS && *told == pids) {
            return;
        }
        self.by.tell(MigrationEvent::Waiting {
            lock: self.lock,
            holders,
            waited: self.begun.elapsed(),
        });
        self.told = Some((Instant::now(), pids));
    }

    fn is_over(&self) {
        self.by.tell(MigrationEvent::Locked {
            lock: self.lock,
            waited: self.begun.elapsed(),
        });
    }
}
