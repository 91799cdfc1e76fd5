use std::error::Error;
use std::io;
use std::time::Duration;

use crate::chain::debug_is_report;

/// What keeps a [`Contention`](crate::Contention) from being run.
///
/// What the lock itself answers is not here but in the [`Outcome`](crate::Outcome). Its `Debug`
/// is what it says, with its sources.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ContentionError {
    /// A contender's connection could not be opened, and no contender has made its attempt.
    #[error("contender {contender} could not connect")]
    Connect {
        /// Which one, counted from 0.
        contender: usize,
        /// What the caller's function returned.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server could not be asked who waits, for want of one more connection or of an answer.
    #[error("the server could not be asked who waits")]
    Observe(#[source] Box<dyn Error + Send + Sync>),
    /// The operating system gave no thread.
    #[error("no thread could be started for a contender")]
    Thread(#[source] io::Error),
    /// The test is broken: contenders had neither failed, nor been granted the lock, nor been
    /// seen to wait for one another when the time was over.
    #[error(
        "{unsettled} contenders had not settled after {timeout:?}, {idle} of them idle on the server"
    )]
    Timeout {
        /// How many.
        unsettled: usize,
        /// How many of them were [idle on the server](crate::Outcome::idle).
        idle: usize,
        /// The time that they had.
        timeout: Duration,
    },
}

debug_is_report!(ContentionError);
