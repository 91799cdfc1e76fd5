use std::fmt;
use std::thread;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, RecvTimeoutError, Sender};
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use crate::{AdvisoryLock, LockError, OwnedAdvisoryLockGuard};

/// An interval that leaves an answer the time to come.
const SHORTEST: Duration = Duration::from_millis(10);

/// A lock that is looked after in the background, while its holder does long work without a
/// query.
///
/// Made by [`OwnedAdvisoryLockGuard::watch`]. Dropping it lets go of the lock.
///
/// # What drop does
///
/// It waits until the lock is let go, for as long as the interval at most. If the server is silent, the connection and the thread that waits on it are left to the
/// operating system's time limits for TCP, which `tcp_user_timeout` in the URL shortens.
#[must_use = "the lock is let go as soon as the guard is dropped"]
#[clippy::has_significant_drop]
pub struct WatchedAdvisoryLockGuard<C: LoadConnection<Backend = Pg>> {
    lock: AdvisoryLock,
    interval: Duration,
    lost: Receiver<LockError>,
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
        let listen = move || listen_until_lost(interval, &beats, &lost_sender);
        spawn("watch").spawn(listen).map_err(LockError::Watch)?;
        Ok(Self {
            lock,
            interval,
            lost,
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
    /// The channel is disconnected when the guard is gone.
    pub fn lost(&self) -> &Receiver<LockError> {
        &self.lost
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
    lost: &Sender<LockError>,
) {
    loop {
        let error = match beats.recv_timeout(interval) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => error,
            Err(RecvTimeoutError::Timeout) => LockError::Unresponsive { after: interval },
            Err(RecvTimeoutError::Disconnected) => return,
        };
        // Whoever has dropped the guard need not know.
        let _ = lost.send(error);
        return;
    }
}
