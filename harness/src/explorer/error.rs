use std::error::Error;
use std::io;
use std::path::PathBuf;

use crate::chain::debug_is_report;
use crate::sessions::SessionError;

/// What keeps an [`Explorer`](crate::Explorer) from running its schedules.
///
/// Its `Debug` is what it says, with its sources.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ExplorerError {
    /// The setup or the teardown of a schedule failed.
    #[error("the {what} failed")]
    Prepare {
        /// Which: `setup` or `teardown`.
        what: String,
        /// What it returned, or what it panicked with.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A session's name or a step's label is empty or has white space, or a session's name has a
    /// full stop, and so can't be part of a schedule.
    #[error("{label:?} can't be part of a schedule, such as first.read second.read")]
    Label {
        /// The name.
        label: String,
    },
    /// A schedule does not fit the sessions.
    #[error("{step:?} is not the next step of any session")]
    Schedule {
        /// What stands in the schedule there.
        step: String,
    },
    /// No statement of a [call](crate::Explorer::call) was seen: its connections were opened before
    /// the explorer was told of it, and before a [`SeenConnections`](crate::SeenConnections).
    #[error(
        "no statement of \"{session}\" was seen: its connections have to be opened while a \
         `SeenConnections` or the explorer lives"
    )]
    Unseen {
        /// The session's name.
        session: String,
    },
    /// Two threads of one session were about to send statements at the same time, and nothing says
    /// which of them is first. What they do is to be sessions of their own.
    #[error("two threads of \"{session}\" send statements at the same time: they are two sessions")]
    Overlap {
        /// The session's name.
        session: String,
    },
    /// Diesel's default instrumentation is set, and would no longer work: it has to be told by
    /// [`SeenConnections::with`](crate::SeenConnections::with).
    #[error("there is a default instrumentation, of which `SeenConnections::with` has to be told")]
    Instrumentation,
    /// The file of schedules that have failed could not be read or written.
    #[error("{} could not be read or written", path.display())]
    Remember {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The operating system gave no thread.
    #[error("no thread could be started for the schedules of a database")]
    Thread(#[source] io::Error),
    /// A session could not be opened, or the server could not be asked who waits.
    #[error(transparent)]
    Session(#[from] SessionError),
}

debug_is_report!(ExplorerError);
