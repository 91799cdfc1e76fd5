use crate::chain::debug_is_report;
use crate::contention::ContentionError;
use crate::database::DatabaseError;
use crate::explorer::ExplorerError;
use crate::isolation::{SpecError, SpecRunError};
use crate::scenario::conflicts::ConflictsError;
use crate::server::ServerError;
use crate::sessions::SessionError;

/// What keeps a test from being run: no connection, no server, no disk.
///
/// Each operation has an error type of its own; this is for a function that does several of them,
/// with `?`. What a lock answers is in none of them. Its `Debug`, which is what a test shows that
/// returns it, is what the error says, with its sources.
///
/// ```
/// use diesel_locks_harness::{HarnessError, TestDatabase};
///
/// fn database() -> Result<TestDatabase, HarnessError> {
///     Ok(TestDatabase::new()?)
/// }
/// # database()?;
/// # Ok::<(), HarnessError>(())
/// ```
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum HarnessError {
    /// No server was started.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// No database was made.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A contention was not run.
    #[error(transparent)]
    Contention(#[from] ContentionError),
    /// A session was not opened, or its step came to no end of its own.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// Lock attempts were not compared, or differ from what was expected.
    #[error(transparent)]
    Conflicts(#[from] ConflictsError),
    /// Schedules were not run.
    #[error(transparent)]
    Explorer(#[from] ExplorerError),
    /// The text of an isolation test is wrong.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An isolation test was not run to its end.
    #[error(transparent)]
    SpecRun(#[from] SpecRunError),
}

debug_is_report!(HarnessError);
