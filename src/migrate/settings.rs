//! What is set on a migration lock, and who is told of its progress.

use std::cell::RefCell;
use std::time::Duration;

#[cfg(feature = "watch")]
use diesel::{ConnectionResult, PgConnection};

use super::event::MigrationEvent;
#[cfg(feature = "watch")]
use crate::End;
use crate::Retry;

pub(super) type Report<'p> = dyn FnMut(&MigrationEvent) + 'p;

pub(super) struct Settings<'p> {
    /// None is without a limit.
    pub(super) timeout: Option<Duration>,
    pub(super) lock_timeout: Option<Duration>,
    pub(super) statement_timeout: Option<Duration>,
    pub(super) attempts: Retry,
    pub(super) drop_invalid_indexes: bool,
    #[cfg(feature = "watch")]
    pub(super) priority: Option<Priority<'p>>,
    pub(super) report: RefCell<Box<Report<'p>>>,
}

/// Who is ended that is in the way, from which connection.
#[cfg(feature = "watch")]
pub(super) struct Priority<'p> {
    pub(super) connect: Box<dyn Fn() -> ConnectionResult<PgConnection> + 'p>,
    pub(super) how: End,
    pub(super) after: Duration,
}

impl Settings<'_> {
    pub(super) fn tell(&self, event: &MigrationEvent) {
        // Nobody is told of what a report does itself.
        if let Ok(mut report) = self.report.try_borrow_mut() {
            report(event);
        }
    }
}

impl Default for Settings<'_> {
    fn default() -> Self {
        Self {
            timeout: Some(Duration::from_secs(600)),
            lock_timeout: None,
            statement_timeout: None,
            attempts: Retry::new()
                .attempts(100)
                .backoff(Duration::from_millis(50), Duration::from_secs(2)),
            drop_invalid_indexes: false,
            #[cfg(feature = "watch")]
            priority: None,
            report: RefCell::new(Box::new(|_| ())),
        }
    }
}
