use std::any::Any;
use std::error::Error;
use std::{fmt, io};

use diesel_locks::LockError;

use super::problem::StepProblem;
use crate::chain::{debug_is_report, report, words};
use crate::transcript::Transcript;

/// What keeps a session from being opened, or its step from coming to an end of its own.
///
/// Its `Debug` is what it says, with its sources.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// A session's connection, or the one that observes the sessions, could not be opened.
    #[error("session \"{session}\" could not connect")]
    Connect {
        /// The session's name.
        session: String,
        /// What the caller's function returned.
        source: Box<dyn Error + Send + Sync>,
    },
    /// Two sessions were to have the same name.
    #[error("there is a session \"{session}\" already")]
    Duplicate {
        /// The name.
        session: String,
    },
    /// A step did not do what it was to.
    #[error("step \"{step}\" of session \"{session}\" {problem}\n{transcript}")]
    Step {
        /// The session's name.
        session: String,
        /// The step's label.
        step: String,
        /// What is wrong with it.
        problem: StepProblem,
        /// What had happened until then.
        transcript: Box<Transcript>,
    },
    /// None of the steps that were to deadlock failed with a deadlock.
    #[error("none of the steps has failed with a deadlock\n{transcript}")]
    NoDeadlock {
        /// What had happened until then.
        transcript: Box<Transcript>,
    },
    /// The server could not be asked who waits.
    #[error("the server could not be asked who waits")]
    Observe(#[source] diesel::result::Error),
    /// The operating system gave no thread.
    #[error("no thread could be started for a session")]
    Thread(#[source] io::Error),
}

debug_is_report!(SessionError);

/// Why a step has not returned what it was to.
///
/// It says all that the step's own error says, with its sources where they can be had: those of a
/// [`LockError`], of Diesel's error, of a `Box<dyn Error + Send + Sync>`, and of what shows them
/// with `{:#}`, as `anyhow::Error` does. Its `Debug` is the same.
pub enum StepError<E = LockError> {
    /// The step's own error.
    Failed(E),
    /// It has come to no end of its own: it panicked, or hung, or was never launched.
    Broken(SessionError),
}

impl<E> From<SessionError> for StepError<E> {
    fn from(error: SessionError) -> Self {
        Self::Broken(error)
    }
}

impl<E: fmt::Display + 'static> fmt::Display for StepError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => write!(f, "the step failed: {}", error_words(error)),
            Self::Broken(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Display + 'static> fmt::Debug for StepError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(_) => fmt::Display::fmt(self, f),
            Self::Broken(error) => report(error, f),
        }
    }
}

impl<E: fmt::Display + 'static> Error for StepError<E> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            // What it says is all that is known of it.
            Self::Failed(_) => None,
            Self::Broken(error) => error.source(),
        }
    }
}

/// What a step's error says, with its sources where they can be had.
pub(super) fn error_words<E: fmt::Display + 'static>(error: &E) -> String {
    let any = error as &dyn Any;
    let ours = any.downcast_ref::<LockError>().map(|error| words(error));
    let boxed = || {
        any.downcast_ref::<Box<dyn Error + Send + Sync>>()
            .map(|error| words(&**error))
    };
    ours.or_else(boxed).unwrap_or_else(|| format!("{error:#}"))
}
