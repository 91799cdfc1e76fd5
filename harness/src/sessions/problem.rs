use std::time::Duration;

use super::blocked::Blocked;

const IDLE: &str = ", while its session was idle on the server";

/// What is wrong with a step of a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepProblem {
    /// It had not ended when the time was over, and was cancelled.
    #[error("had not ended after {after:?}{}", if *idle { IDLE } else { "" })]
    TimedOut {
        /// The time that the test had taken by then.
        after: Duration,
        /// Whether its session was idle on the server: the step hung in its own code, or on a
        /// connection of its own.
        idle: bool,
    },
    /// It panicked.
    #[error("panicked: {message}")]
    Panicked {
        /// What the panic says.
        message: String,
    },
    /// It was not launched, because an earlier step of its session waits.
    #[error("can't begin: \"{with}\" has not ended")]
    Busy {
        /// The earlier step.
        with: String,
    },
    /// It was not launched, because the time was over.
    #[error("can't begin: the time is over")]
    TooLate,
    /// It was not launched, or not ended, because its session has ended.
    #[error("can't go on: its session has ended")]
    SessionEnded,
    /// It can't complete, because of the markers of a [`Spec`](crate::Spec)'s permutation.
    #[error("can't complete: markers hold it up")]
    HeldUp,
    /// It was to wait for another session, and has ended.
    #[error("has ended, and does not wait")]
    NotBlocked,
    /// It was not to wait for another session, was seen to, and was cancelled.
    #[error("was not to wait, and {blocked}")]
    Waited {
        /// What it waited for.
        blocked: Blocked,
    },
    /// It was to fail, and has ended well.
    #[error("was to fail, and has ended well")]
    NotFailed,
    /// It failed with another error than it was to, or might.
    #[error("failed otherwise than expected: {error}")]
    FailedOtherwise {
        /// What that error says.
        error: String,
    },
}
