use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::Watched;
use crate::observe::end::{End, SessionEnd, end};
use crate::observe::ext::ObserveExt;
use crate::{LockError, SessionId, SessionInfo};

/// How often it is looked, at most and at least.
const PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_secs(1));

/// How long an answer of the server is waited for in the end.
const LAST: Duration = Duration::from_secs(5);

/// Priority for a connection: while this lives, whoever is in its way for longer than a given time
/// is cancelled or terminated from a second connection (feature `watch`).
///
/// For what must not wait behind others, such as a migration at night, or a shutdown. Whoever is
/// spared of [`ObserveExt::end_blockers_of`] is spared here: superusers' sessions, processes of the
/// server, prepared transactions, what the second connection's role may not end.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
/// use std::time::Duration;
///
/// use diesel::prelude::*;
/// use diesel_locks::{End, LockError, Prioritized, TableLockMode, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// # let mut conn = PgConnection::establish(database.url())?;
/// let second = PgConnection::establish(database.url())?;
/// let patience = Duration::from_secs(2);
/// let priority = Prioritized::start(&mut conn, second, End::Terminate, patience)?;
/// conn.transaction::<_, LockError, _>(|conn| {
///     conn.lock_table(accounts::table, TableLockMode::AccessExclusive)
/// })?;
/// for session in priority.stop()? {
///     println!("{session}");
/// }
/// # Ok(())
/// # }
/// ```
///
/// # What drop does
///
/// As [`stop`](Self::stop), but without the report.
#[must_use = "the priority ends as soon as it is dropped"]
#[clippy::has_significant_drop]
pub struct Prioritized {
    pid: i32,
    ends: Arc<Mutex<Vec<SessionEnd>>>,
    /// Open as long as the priority is wanted.
    wanted: Option<Sender<()>>,
    stopped: Receiver<thread::Result<Result<(), LockError>>>,
}

impl Prioritized {
    /// Gives `conn` priority, from `second`, which a thread has until the priority ends.
    ///
    /// One round trip, and one on the second connection about four times within `after`, as long as
    /// `conn` does not wait. How long a session is in the way counts from when it is first seen
    /// there, and so up to a quarter longer than `after`.
    ///
    /// A pooled connection as the second one goes back to its pool at the end. It must not be in a
    /// transaction.
    ///
    /// # Errors
    ///
    /// [`LockError::Watch`]: the operating system gave no thread. Those of any query.
    pub fn start<C, S>(
        conn: &mut C,
        second: S,
        how: End,
        after: Duration,
    ) -> Result<Self, LockError>
    where
        C: LoadConnection<Backend = Pg>,
        S: LoadConnection<Backend = Pg> + 'static,
    {
        Self::start_filtered(conn, second, how, after, |_| true)
    }

    /// As [`start`](Self::start), but ends only those that the filter says yes to. The others keep
    /// their locks, and are waited for; they are not in the report.
    ///
    /// The filter is asked on the thread of the priority, about a session that has been in the way for
    /// `after`, and again with each look, about four times within `after`, as long as it says no: it
    /// may wait until a session is idle. The round trips are those of [`start`](Self::start).
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use diesel::prelude::*;
    /// # use diesel_locks::{End, LockError, Prioritized};
    /// # fn start(conn: &mut PgConnection, second: PgConnection) -> Result<(), LockError> {
    /// let patience = Duration::from_secs(2);
    /// let priority =
    ///     Prioritized::start_filtered(conn, second, End::Terminate, patience, |session| {
    ///         session.application.as_deref() == Some("report")
    ///     })?;
    /// # drop(priority);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`start`](Self::start).
    pub fn start_filtered<C, S>(
        conn: &mut C,
        second: S,
        how: End,
        after: Duration,
        filter: impl FnMut(&SessionInfo) -> bool + Send + 'static,
    ) -> Result<Self, LockError>
    where
        C: LoadConnection<Backend = Pg>,
        S: LoadConnection<Backend = Pg> + 'static,
    {
        let watched = Watched::of(conn)?;
        let ends = Arc::new(Mutex::new(Vec::new()));
        let (wanted, unwanted) = channel::bounded(0);
        let (stopping, stopped) = channel::bounded(1);
        let mut guard = Guard {
            watched,
            how,
            after,
            filter,
            seen: HashMap::new(),
            ends: Arc::clone(&ends),
        };
        let work = move || {
            let mut second = second;
            // The filter is not of this crate.
            let watch = AssertUnwindSafe(|| guard.watch(&mut second, &unwanted));
            let stopped = catch_unwind(watch);
            drop(second);
            // Whoever has dropped the priority need not know.
            let _ = stopping.send(stopped);
        };
        let thread = thread::Builder::new().name(format!("priority of {}", watched.pid));
        thread.spawn(work).map_err(LockError::Watch)?;
        Ok(Self {
            pid: watched.pid,
            ends,
            wanted: Some(wanted),
            stopped,
        })
    }

    /// Who was ended up to now, and who was in the way for so long and was spared: each once, unless
    /// it was cancelled and came into the way again.
    pub fn ends(&self) -> Vec<SessionEnd> {
        lock(&self.ends).clone()
    }

    /// Whether it has ended by itself: its session is gone, or the second connection has failed, or
    /// the filter has panicked, which [`stop`](Self::stop) says. No round trip.
    pub fn is_over(&self) -> bool {
        !self.stopped.is_empty()
    }

    /// Ends the priority: nobody is ended any more when this returns.
    ///
    /// It waits for what the second connection does at the moment, a few milliseconds.
    ///
    /// # Errors
    ///
    /// The error that has ended the priority before, such as [`LockError::ConnectionLost`] of the
    /// second connection; [`ends`](Self::ends) has who was ended until then.
    /// [`LockError::Unresponsive`]: the server has not answered for five seconds.
    ///
    /// # Panics
    ///
    /// If the filter has panicked, with what it has said.
    pub fn stop(mut self) -> Result<Vec<SessionEnd>, LockError> {
        self.finish().unwrap_or_else(|panic| resume_unwind(panic))?;
        Ok(self.ends())
    }

    fn finish(&mut self) -> thread::Result<Result<(), LockError>> {
        match self.wanted.take() {
            None => Ok(Ok(())),
            Some(wanted) => {
                drop(wanted);
                let unresponsive = Ok(Err(LockError::Unresponsive { after: LAST }));
                self.stopped.recv_timeout(LAST).unwrap_or(unresponsive)
            }
        }
    }
}

impl Drop for Prioritized {
    fn drop(&mut self) {
        // Drop has nobody to tell.
        let _ = self.finish();
    }
}

impl fmt::Debug for Prioritized {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Prioritized")
            .field("pid", &self.pid)
            .finish_non_exhaustive()
    }
}

struct Guard<F> {
    watched: Watched,
    how: End,
    after: Duration,
    filter: F,
    /// Who is in the way, since when, and whether that was answered.
    seen: HashMap<SessionId, (Instant, bool)>,
    ends: Arc<Mutex<Vec<SessionEnd>>>,
}

impl<F: FnMut(&SessionInfo) -> bool> Guard<F> {
    /// Looks until the priority is unwanted, or its session gone.
    fn watch<S>(&mut self, second: &mut S, unwanted: &Receiver<()>) -> Result<(), LockError>
    where
        S: LoadConnection<Backend = Pg>,
    {
        let pause = (self.after / 4).clamp(PAUSE.0, PAUSE.1);
        while unwanted.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            match self.watched.waits(second)? {
                Some(true) => self.look(second, unwanted)?,
                Some(false) => self.seen.clear(),
                None => break,
            }
        }
        Ok(())
    }

    fn look<S>(&mut self, second: &mut S, unwanted: &Receiver<()>) -> Result<(), LockError>
    where
        S: LoadConnection<Backend = Pg>,
    {
        let now = Instant::now();
        let blockers = second.blocked_by(self.watched.pid)?;
        let ids: Vec<_> = blockers.iter().map(|session| session.id()).collect();
        self.seen.retain(|id, _| ids.contains(id));
        for id in ids {
            self.seen.entry(id).or_insert((now, false));
        }
        if unwanted.try_recv() != Err(channel::TryRecvError::Empty) {
            return Ok(());
        }
        let Self { seen, filter, .. } = self;
        let is_due = |id: &SessionId| {
            let seen = seen.get(id);
            seen.is_some_and(|(since, is_answered)| !is_answered && since.elapsed() >= self.after)
        };
        let due: Vec<_> = (blockers.into_iter())
            .filter(|session| is_due(&session.id()) && filter(session))
            .collect();
        if due.is_empty() {
            return Ok(());
        }
        let ends = end(second, due, self.how, Some(self.watched.pid))?;
        for end in &ends {
            // A session that was cancelled may be in the way still, with its next statement.
            let again = (Instant::now(), end.how == End::Terminate || !end.is_ended());
            self.seen.insert(end.session.id(), again);
        }
        lock(&self.ends).extend(ends);
        Ok(())
    }
}

fn lock(ends: &Mutex<Vec<SessionEnd>>) -> MutexGuard<'_, Vec<SessionEnd>> {
    // Nothing panics that has it.
    ends.lock().unwrap_or_else(PoisonError::into_inner)
}
