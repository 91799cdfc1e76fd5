use crate::chain::debug_is_report;
use crate::sessions::SessionError;

/// What is wrong with the text of a [`Spec`](crate::Spec), and where.
///
/// Its `Debug` is what it says.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SpecError {
    line: usize,
    column: usize,
    message: String,
}

impl SpecError {
    /// `at` is an offset into the text, in bytes.
    pub(super) fn new(text: &str, at: usize, message: impl Into<String>) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before.chars().count() - before[..line_start].chars().count() + 1,
            message: message.into(),
        }
    }

    /// The line, counted from 1.
    pub fn line(&self) -> usize {
        self.line
    }

    /// The column, counted from 1, in characters.
    pub fn column(&self) -> usize {
        self.column
    }

    /// What is wrong, without the place.
    pub fn message(&self) -> &str {
        &self.message
    }
}

/// What keeps a [`Spec`](crate::Spec) from being run to its end.
///
/// Its `Debug` is what it says, with its sources.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SpecRunError {
    /// A setup failed.
    #[error("the {what} failed")]
    Prepare {
        /// Which, such as `setup of session s1`.
        what: String,
        /// Diesel's error.
        source: diesel::result::Error,
    },
    /// A session could not be opened, or a step came to no end, or the server could not be asked
    /// who waits.
    #[error(transparent)]
    Session(#[from] SessionError),
}

debug_is_report!(SpecError, SpecRunError);
