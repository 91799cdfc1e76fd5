use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use crate::{AdvisoryLock, LockError, OwnedAdvisoryLockGuard};

/// An interval that leaves an answer the time to come.
const SHORTEST: Duration = Duration::from_millis(10);

impl<C: LoadConnection<Backend = Pg> + 'static> OwnedAdvisoryLockGuard<C> {
    /// Looks after the lock in the background, for long work without a query.
    ///
    /// [`lost`](WatchedAdvisoryLockGuard::lost) is a channel that delivers at most
    /// `interval` after the server has ended the session, or has fallen silent: a server that
    /// needs longer than half of `interval` for an answer is taken for silent. An `interval` below
    /// 10 ms is taken for 10 ms. The session itself
    /// is asked, on its own connection, by a thread that does so every half of `interval`, one
    /// round trip each; so the connection cannot be used meanwhile. A second thread notices when
    /// no answer comes.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use diesel_locks::{OwnedAdvisoryLockGuard, Wait};
    /// use diesel_locks_harness::TestDatabase;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let database = TestDatabase::new()?;
    /// # let database_url = database.url();
    /// let leader = OwnedAdvisoryLockGuard::connect(database_url, "gold_leader", Wait::NoWait)?;
    /// let leader = leader.watch(Duration::from_secs(2))?;
    /// for step in 0..3 {
    ///     if leader.is_lost() {
    ///         return Err(leader.lost().recv()?.into());
    ///     }
    ///     // … a step of the long work
    /// #   let _ = step;
    /// }
    /// let conn = leader.release()?;
    /// # drop(conn);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`LockError::Watch`]: the operating system gave no thread; the lock is let go.
    pub fn watch(self, interval: Duration) -> Result<WatchedAdvisoryLockGuard<C>, LockError> {
        WatchedAdvisoryLockGuard::new(self, interval)
    }
}

/// A lock that is looked after in the background, while its holder does long work without a
/// query.
///
/// Made by [`OwnedAdvisoryLockGuard::watch`]. Dropping it lets go of the lock.
///
/// # What drop does
///
/// It waits until the lock is let go, for as long as the interval at most. If the server is silent,
/// the connection and the thread that waits on it are left to the operating system's time limits
/// for TCP, which `tcp_user_timeout` in the URL shortens.
#[must_use = "the lock is let go as soon as the guard is dropped"]
#[clippy::has_significant_drop]
pub struct WatchedAdvisoryLockGuard<C: LoadConnection<Backend = Pg>> {
    lock: AdvisoryLock,
    interval: Duration,
    lost: Receiver<LockError>,
    is_lost: Arc<AtomicBool>,
    released: Receiver<Result<C, LockError>>,
    /// Open as long as the lock is to be watched.
    wanted: Option<Sender<()>>,
}

impl<C: LoadConnection<Backend = Pg> + 'static> WatchedAdvisoryLockGuard<C> {
    pub(super) fn new(
        guard: OwnedAdvisoryLockGuard<C>,
        interval: Duration,
    ) -> Result<Self, LockError> {
        let lock = *guard.lock();
        let interval = interval.max(SHORTEST);
        let half = interval / 2;
        let (wanted_sender, wanted) = channel::bounded(0);
        let (lost_sender, lost) = channel::bounded(1);
        let (released_sender, released) = channel::bounded(1);
        let (beat_sender, beats) = channel::unbounded();
        let spawn = |name: &str| thread::Builder::new().name(format!("{name} {lock}"));

        // One thread asks, and the other one notices when no answer comes.
        let ask = move || ask_until_unwanted(guard, half, &wanted, &beat_sender, &released_sender);
        spawn("ask for").spawn(ask).map_err(LockError::Watch)?;
        let is_lost = Arc::new(AtomicBool::new(false));
        let tell = {
            let is_lost = Arc::clone(&is_lost);
            move |error| {
                is_lost.store(true, Ordering::Release);
                // Whoever has dropped the guard need not know.
                let _ = lost_sender.send(error);
            }
        };
        let listen = move || listen_until_lost(interval, &beats, tell);
        spawn("watch").spawn(listen).map_err(LockError::Watch)?;
        Ok(Self {
            lock,
            interval,
            lost,
            is_lost,
            released,
            wanted: Some(wanted_sender),
        })
    }

    /// Delivers, once, why the lock must be taken for lost:
    ///
    /// - [`LockError::ConnectionLost`]: the server has ended the session, and the lock is free.
    /// - [`LockError::NotHeld`]: somebody released it through the same connection before.
    /// - [`LockError::Unresponsive`]: the server or the network is silent; the lock may be held
    ///   still, or not. Its holder should stop all the same.
    /// - Whatever else keeps the server from answering:
    ///   [`TransactionAborted`](LockError::TransactionAborted), if the guard was in a transaction
    ///   that had failed, [`SessionChanged`](LockError::SessionChanged) through a pooler.
    ///
    /// The channel is disconnected when the guard is gone. It is
    /// [`crossbeam::channel`](crate::channel)'s, so that `select!` can wait for it among others.
    pub fn lost(&self) -> &Receiver<LockError> {
        &self.lost
    }

    /// Whether the lock must be taken for lost: from then on for good, whoever has read the reason
    /// from [`lost`](Self::lost). No round trip.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Acquire)
    }

    /// The lock that was taken.
    pub fn lock(&self) -> &AdvisoryLock {
        &self.lock
    }

    /// Ends the watch, lets go of the lock, and hands back the connection.
    ///
    /// # Errors
    ///
    /// [`LockError::Unresponsive`]: the server does not answer. Else as for
    /// [`OwnedAdvisoryLockGuard::release`].
    pub fn release(mut self) -> Result<C, LockError> {
        drop(self.wanted.take());
        match self.released.recv_timeout(self.interval) {
            Ok(released) => released,
            Err(_) => Err(LockError::Unresponsive {
                after: self.interval,
            }),
        }
    }
}

impl<C: LoadConnection<Backend = Pg>> Drop for WatchedAdvisoryLockGuard<C> {
    fn drop(&mut self) {
        // After `release` it is not wanted any more.
        if let Some(wanted) = self.wanted.take() {
            drop(wanted);
            // Drop has nobody to tell.
            let _ = self.released.recv_timeout(self.interval);
        }
    }
}

impl<C: LoadConnection<Backend = Pg>> fmt::Debug for WatchedAdvisoryLockGuard<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WatchedAdvisoryLockGuard")
            .field("lock", &self.lock)
            .field("interval", &self.interval)
            .finish_non_exhaustive()
    }
}

/// Asks the server at every `pause` whether the lock is held, and tells how that went. At last
/// it lets go, so that nobody else has to wait for the server.
fn ask_until_unwanted<C>(
    mut guard: OwnedAdvisoryLockGuard<C>,
    pause: Duration,
    wanted: &Receiver<()>,
    beats: &Sender<Result<(), LockError>>,
    released: &Sender<Result<C, LockError>>,
) where
    C: LoadConnection<Backend = Pg>,
{
    while wanted.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        let beat = match guard.is_held() {
            Ok(true) => Ok(()),
            Ok(false) => Err(LockError::NotHeld {
                lock: *guard.lock(),
            }),
            Err(error) => Err(error),
        };
        let is_lost = beat.is_err();
        if beats.send(beat).is_err() || is_lost {
            // It was told that the lock is lost: ask no more.
            let _ = wanted.recv();
            break;
        }
    }
    // If nobody takes the connection back, it is dropped here.
    let _ = released.send(guard.release());
}

/// Tells when the lock is lost, or when no answer has come for `interval`.
fn listen_until_lost(
    interval: Duration,
    beats: &Receiver<Result<(), LockError>>,
    tell: impl FnOnce(LockError),
) {
    loop {
        let error = match beats.recv_timeout(interval) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(RecvTimeoutError::Timeout) => LockError::Unresponsive { after: interval },
            Err(RecvTimeoutError::Disconnected) => return,
        };
        tell(error);
        return;
    }
}
