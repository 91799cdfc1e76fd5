//! Why something does not work, and the exit status.

use std::error::Error;
use std::fmt;
use std::process::ExitCode;

use diesel_locks::LockError;

/// The exit statuses that a script can tell apart, as in `sysexits.h` and in a shell.
pub(crate) mod status {
    /// Whatever has no status of its own.
    pub(crate) const FAILURE: u8 = 1;
    /// `EX_UNAVAILABLE`: the database could not be reached, or gave no lock for another reason
    /// than that it is held.
    pub(crate) const UNAVAILABLE: u8 = 69;
    /// `EX_OSERR`: the operating system gave no process.
    pub(crate) const SYSTEM: u8 = 71;
    /// `EX_TEMPFAIL`: the lock is held by another session.
    pub(crate) const CONFLICT: u8 = 75;
    /// `EX_PROTOCOL`: the lock was lost while the command ran.
    pub(crate) const LOST: u8 = 76;
    /// There is the command, and it cannot be run.
    pub(crate) const NOT_EXECUTABLE: u8 = 126;
    /// There is no such command.
    pub(crate) const NOT_FOUND: u8 = 127;
    /// To which the number of a signal is added that has ended the command.
    pub(crate) const SIGNAL: u8 = 128;
}

/// Why a command ends without having done what it should, and with which status.
#[derive(Debug)]
pub(crate) struct Failure {
    what: Box<dyn Error>,
    source: Option<Box<dyn Error>>,
    status: u8,
}

impl Failure {
    pub(crate) fn new(what: impl Into<Box<dyn Error>>) -> Self {
        Self {
            what: what.into(),
            source: None,
            status: status::FAILURE,
        }
    }

    pub(crate) fn caused_by(self, source: impl Into<Box<dyn Error>>) -> Self {
        Self {
            source: Some(source.into()),
            ..self
        }
    }

    pub(crate) fn status(self, status: u8) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.status)
    }
}

/// With all that has led to it.
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&chain(&*self.what))?;
        match &self.source {
            Some(source) => write!(f, ": {}", chain(&**source)),
            None => Ok(()),
        }
    }
}

/// An error and its sources, on one line where they are.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let told = error.to_string().trim_end().to_owned();
    match error.source() {
        Some(source) => format!("{told}: {}", chain(source)),
        None => told,
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let status = match error.is_contention() {
            true => status::CONFLICT,
            false => status::UNAVAILABLE,
        };
        Self::new(error).status(status)
    }
}
