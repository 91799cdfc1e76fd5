use super::matrix::ConflictMatrix;
use crate::chain::debug_is_report;
use crate::sessions::SessionError;

/// Why lock attempts could not be compared, or how they differ from what was expected.
///
/// Its `Debug` is what it says, with its sources.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ConflictsError {
    /// Two lock attempts of a matrix were to have the same name.
    #[error("there is a lock attempt \"{attempt}\" already")]
    Duplicate {
        /// The name.
        attempt: String,
    },
    /// Lock attempts conflict otherwise than a test says.
    #[error("the locks conflict otherwise than expected\nexpected:\n{expected}\nfound:\n{found}")]
    Differ {
        /// The table that was expected, without the white space around its lines.
        expected: String,
        /// What was found.
        found: ConflictMatrix,
    },
    /// The two sessions could not make their attempts.
    #[error(transparent)]
    Session(#[from] SessionError),
}

debug_is_report!(ConflictsError);
