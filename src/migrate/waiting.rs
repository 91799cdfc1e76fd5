use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::event::MigrationEvent;
use super::settings::Settings;
use crate::migrate_error::MigrateError;
use crate::{AdvisoryLock, Retry, SessionInfo, observe};

/// How long after a report of one holder the next one follows.
const REPORTS: Duration = Duration::from_secs(5);

/// A wait for the lock, that no session of the server takes part in.
pub(super) struct Waiting<'a, 'p> {
    settings: &'a Settings<'p>,
    pub(super) lock: AdvisoryLock,
    begun: Instant,
    attempt: u32,
    told: Option<(Instant, Vec<i32>)>,
}

impl<'a, 'p> Waiting<'a, 'p> {
    pub(super) fn begin(settings: &'a Settings<'p>, name: String) -> Self {
        Self {
            settings,
            lock: AdvisoryLock::exclusive(name),
            begun: Instant::now(),
            attempt: 0,
            told: None,
        }
    }

    /// Lets some time pass after a refusal, or fails if all of it has.
    pub(super) fn pause<C>(&mut self, conn: &mut C) -> Result<(), MigrateError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let holders = observe::holders(conn, self.lock.key())?;
        self.attempt = self.attempt.saturating_add(1);
        let polls = Retry::new().backoff(Duration::from_millis(10), Duration::from_millis(500));
        let mut pause = polls.pause(self.attempt);
        if let Some(timeout) = self.settings.timeout {
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
        self.settings.tell(&MigrationEvent::Waiting {
            lock: self.lock,
            holders,
            waited: self.begun.elapsed(),
        });
        self.told = Some((Instant::now(), pids));
    }

    pub(super) fn is_over(&self) {
        self.settings.tell(&MigrationEvent::Locked {
            lock: self.lock,
            waited: self.begun.elapsed(),
        });
    }
}
