use std::fmt;
use std::thread;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, RecvTimeoutError};
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::Watched;
use crate::observe::ext::ObserveExt;
use crate::observe::words::Time;
use crate::{LockError, SessionInfo};

/// A second connection that was opened for a look is not opened for the next one at once.
const SHORTEST: Duration = Duration::from_millis(10);

/// A wait that takes long.
///
/// `Display` is one line: `waiting for 5 s, behind pid 4711 (billing, as app), for 12 s, …`.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Waiting {
    /// How long the work has taken by now, most of it the wait as a rule.
    pub since: Duration,
    /// Who is in the way, the oldest transaction first.
    pub blockers: Vec<SessionInfo>,
}

impl fmt::Display for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waiting for {}", Time(self.since))?;
        let mut before = ", behind ";
        for blocker in &self.blockers {
            write!(f, "{before}{blocker}")?;
            before = "; and ";
        }
        Ok(())
    }
}

/// Tells what a connection waits for while it does (feature `watch`).
pub trait OnWaitExt: LoadConnection<Backend = Pg> + Sized {
    /// Does `work`, and if that waits for a lock when `after` has passed, tells `tell` who is in the
    /// way; and again after each further `after`. One below 10 ms is taken for 10 ms.
    ///
    /// As the connection itself is busy, the look is from a second one, which `connect` gives, and
    /// which is dropped after the look. Without one the look is left out. With a pool,
    /// [`PoolLockExt::on_wait`](crate::PoolLockExt::on_wait) gives both. It is also how a `_timeout`
    /// is asked to look before it gives up: with an `after` that is shorter.
    ///
    /// One round trip beside those of `work`, and a thread, which is gone when this returns.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use diesel::{Connection, PgConnection};
    /// use diesel_locks::prelude::*;
    /// use diesel_locks_harness::TestDatabase;
    ///
    /// # mod tracing { macro_rules! log { ($wait:literal) => { println!($wait) } } pub(crate) use log as warn; }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// let mut conn = PgConnection::establish(database.url())?;
    /// let leader = conn.on_wait(
    ///     Duration::from_secs(5),
    ///     || PgConnection::establish(database.url()).ok(),
    ///     |wait| tracing::warn!("{wait}"),
    ///     |conn| conn.advisory_lock("gold_leader"),
    /// )?;
    /// leader.release()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Transactions
    ///
    /// As of `work`. The second connection must not be in a transaction.
    ///
    /// # Errors
    ///
    /// Those of `work`. [`LockError::Watch`]: the operating system gave no thread. Those of any
    /// query, such as [`LockError::TransactionAborted`]; `work` was not done then.
    fn on_wait<'c, T, E, S>(
        &'c mut self,
        after: Duration,
        connect: impl FnMut() -> Option<S> + Send,
        tell: impl FnMut(&Waiting) + Send,
        work: impl FnOnce(&'c mut Self) -> Result<T, E>,
    ) -> Result<T, E>
    where
        S: LoadConnection<Backend = Pg>,
        E: From<LockError>,
    {
        let watched = Watched::of(self).map_err(LockError::from)?;
        while_told(watched, after, connect, tell, || work(self))
    }
}

impl<C: LoadConnection<Backend = Pg>> OnWaitExt for C {}

/// Does `work`, which is that of the watched session, while a second one looks at it.
pub(crate) fn while_told<T, E, S>(
    watched: Watched,
    after: Duration,
    mut connect: impl FnMut() -> Option<S> + Send,
    mut tell: impl FnMut(&Waiting) + Send,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E>
where
    S: LoadConnection<Backend = Pg>,
    E: From<LockError>,
{
    let begun = Instant::now();
    let after = after.max(SHORTEST);
    thread::scope(|scope| {
        // Dropped when the work is done, in whichever way.
        let (_working, done) = channel::bounded::<()>(0);
        let look = move || {
            while done.recv_timeout(after) == Err(RecvTimeoutError::Timeout) {
                // What can't be seen is not told.
                let blockers = connect().and_then(|mut second| second.blocked_by(watched.pid).ok());
                if let Some(blockers) = blockers.filter(|blockers| !blockers.is_empty()) {
                    let since = begun.elapsed();
                    tell(&Waiting { since, blockers });
                }
            }
        };
        let thread = thread::Builder::new().name("on_wait".to_owned());
        thread.spawn_scoped(scope, look).map_err(LockError::Watch)?;
        work()
    })
}
