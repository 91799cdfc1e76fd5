use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use diesel::ConnectionError;

use super::{ConflictMatrix, StepProblem, Transcript};

/// What keeps a test from being run: no connection, no server, no disk.
///
/// What the lock itself answers is not here but in the [`Outcome`](crate::harness::Outcome).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// A contender's connection could not be opened, and no contender has made its attempt.
    #[error("contender {contender} could not connect")]
    Connect {
        /// Which one, counted from 0.
        contender: usize,
        /// What the caller's function returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A session's connection, or the one that observes the sessions, could not be opened.
    #[error("session \"{session}\" could not connect")]
    ConnectSession {
        /// The session's name.
        session: String,
        /// What the caller's function returned.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Two sessions were to have the same name.
    #[error("there is a session \"{session}\" already")]
    DuplicateSession {
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
    /// The setup or the teardown of a schedule failed, or a setup of a spec.
    #[error("the {what} failed")]
    Prepare {
        /// Which, such as `setup of session s1`.
        what: String,
        /// What it returned, or what it panicked with.
        source: Box<dyn std::error::Error + Send + Sync>,
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
    /// None of the steps that were to deadlock failed with a deadlock.
    #[error("none of the steps has failed with a deadlock\n{transcript}")]
    NoDeadlock {
        /// What had happened until then.
        transcript: Box<Transcript>,
    },
    /// Two lock attempts of a matrix were to have the same name.
    #[error("there is a lock attempt \"{attempt}\" already")]
    DuplicateAttempt {
        /// The name.
        attempt: String,
    },
    /// Lock attempts conflict otherwise than a test says.
    #[error("the locks conflict otherwise than expected\nexpected:\n{expected}\nfound:\n{found}")]
    ConflictsDiffer {
        /// The table that was expected, without the white space around its lines.
        expected: String,
        /// What was found.
        found: ConflictMatrix,
    },
    /// The server could not be asked who waits, for want of one more connection or of an answer.
    #[error("the server could not be asked who waits")]
    Observe(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The operating system gave no thread.
    #[error("no thread could be started for a session")]
    Thread(#[source] io::Error),
    /// The test is broken: contenders had neither failed, nor been granted the lock, nor been
    /// seen to wait for one another when the time was over.
    #[error("{unsettled} contenders had not settled after {timeout:?}")]
    Timeout {
        /// How many.
        unsettled: usize,
        /// The time that they had.
        timeout: Duration,
    },
    /// No directory has PostgreSQL's server programs.
    #[error(
        "found no PostgreSQL server (initdb and postgres) in {}. Install it (Debian, Ubuntu: \
         apt-get install postgresql; Fedora: dnf install postgresql-server; Homebrew: brew \
         install postgresql@17), or set PG_BIN_DIR to the directory of its programs, or \
         DATABASE_URL to a running server on which databases may be created",
        list(searched)
    )]
    NoServerBinaries {
        /// Where they were looked for.
        searched: Vec<PathBuf>,
    },
    /// Something may not be done with a file or program.
    #[error("no permission to {action} {}", path.display())]
    PermissionDenied {
        /// What was to be done.
        action: String,
        /// With what.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// The disk, or the user's share of it, is full.
    #[error("no space left to {action} {}", path.display())]
    DiskFull {
        /// What was to be done.
        action: String,
        /// With what.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Something else failed with a file or program.
    #[error("could not {action} {}", path.display())]
    Io {
        /// What was to be done.
        action: String,
        /// With what.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// `initdb` failed, or the server ended at its start.
    #[error("{program} failed; its last lines:\n{output}")]
    ServerFailed {
        /// `initdb` or `postgres`.
        program: &'static str,
        /// The end of what it wrote.
        output: String,
    },
    /// The server has started, and takes no connections.
    #[error("the server took no connections within {timeout:?}; its last lines:\n{output}")]
    ServerNotReady {
        /// The time that it had.
        timeout: Duration,
        /// The end of its log.
        output: String,
    },
    /// The server that was to have the database could not be reached.
    #[error("could not connect to the server for test databases")]
    ServerUnreachable(#[source] ConnectionError),
    /// The database was not created, for want of the right to do so, perhaps.
    #[error("could not create database {name}")]
    CreateDatabase {
        /// Its name.
        name: String,
        /// Diesel's error.
        source: diesel::result::Error,
    },
    /// A migration failed.
    #[cfg(feature = "migrations")]
    #[error("the migrations failed")]
    Migration(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl HarnessError {
    /// For `map_err`: what was to be done, with what.
    pub(super) fn io(
        action: impl Into<String>,
        path: impl AsRef<Path>,
    ) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        let path = path.as_ref().to_owned();
        move |source| match source.kind() {
            io::ErrorKind::PermissionDenied => Self::PermissionDenied {
                action,
                path,
                source,
            },
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull {
                action,
                path,
                source,
            },
            _ => Self::Io {
                action,
                path,
                source,
            },
        }
    }
}

fn list(paths: &[PathBuf]) -> String {
    let paths: Vec<_> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    paths.join(", ")
}
