use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::chain::debug_is_report;

/// Why there is no [`TempPostgres`](crate::TempPostgres).
///
/// Its `Debug` is what it says, with its sources.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
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
    /// Servers are started on Unix only.
    #[error("no server can be started here: set DATABASE_URL to a running one")]
    Unsupported,
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
}

debug_is_report!(ServerError);

impl ServerError {
    /// For `map_err`: what was to be done, with what.
    #[cfg(unix)]
    pub(super) fn io(
        action: impl Into<String>,
        path: impl AsRef<std::path::Path>,
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
