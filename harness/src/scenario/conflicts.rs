//! Who blocks whom.

mod attempt;
mod error;
mod matrix;

use std::error::Error;
use std::fmt;

use diesel::QueryResult;
use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use diesel_locks::is_contention;

use super::Scenario;
use crate::chain::words;
use crate::panics::or_panic;
use crate::sessions::{LET_GO, Session, SessionError, StepProblem, begin};
pub use attempt::LockAttempt;
pub use error::ConflictsError;
pub use matrix::ConflictMatrix;

/// Finds out which of the attempts conflict: for each two of them, and each with itself, whether
/// a session that makes the one is in the way of another session that makes the other.
///
/// It conflicts if it has to wait, as the server says, and also if it is refused:
/// [`LockError::is_contention`](diesel_locks::LockError::is_contention), or Diesel's error for that, in the attempt's error or in its
/// [sources](Error::source). So attempts that wait, that have a time limit and that have `NOWAIT`
/// can be mixed.
///
/// Each attempt is made in a transaction of its own, which is rolled back. Advisory locks of the
/// session are given back too. `connect` makes three connections: for the two sessions, and for
/// the one that asks the server. Each pair costs six round trips and those of the two attempts,
/// and at least three more if the one waits for the other.
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks_harness::{LockAttempt, conflict_matrix};
/// use diesel_locks::{AdvisoryLock, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// let connect = || PgConnection::establish(database.url());
/// let matrix = conflict_matrix(connect, [
///     LockAttempt::new("shared", |conn: &mut PgConnection| {
///         conn.advisory_xact_lock(AdvisoryLock::shared("report"))
///     }),
///     LockAttempt::new("exclusive", |conn: &mut PgConnection| {
///         conn.advisory_xact_lock("report")
///     }),
/// ])?;
/// assert_eq!(matrix.conflicts("shared", "shared"), Some(false));
/// assert_eq!(matrix.to_string(), "\
/// | requested \\ held | shared | exclusive |
/// |------------------|--------|-----------|
/// | shared           |        | X         |
/// | exclusive        | X      | X         |");
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`ConflictsError::Duplicate`]: two attempts have the same name.
/// [`SessionError::Connect`]: `connect` failed.
/// [`SessionError::Step`]: an attempt failed in another way, or failed though nothing was in its
/// way, or had neither ended nor been seen to wait 20 s after the pair had begun. The sessions are
/// `holder` and `requester`, and the transcript is that of the pair.
/// [`SessionError::Observe`]: the server could not be asked.
/// [`SessionError::Thread`]: the operating system gave no thread.
pub fn conflict_matrix<C, X>(
    connect: impl Fn() -> Result<C, X>,
    attempts: impl IntoIterator<Item = LockAttempt<C>>,
) -> Result<ConflictMatrix, ConflictsError>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    X: Into<Box<dyn Error + Send + Sync>>,
{
    let attempts: Vec<_> = attempts.into_iter().collect();
    let names = names(&attempts)?;
    let scenario = Scenario::new(connect);
    let rivals = Rivals {
        holder: scenario.session("holder")?,
        requester: scenario.session("requester")?,
    };
    let mut conflicts = Vec::new();
    for requested in &attempts {
        for held in &attempts {
            // An error then shows this pair, and not the ones before.
            scenario.begin_anew();
            conflicts.push(rivals.conflict(held, requested)?);
        }
    }
    Ok(ConflictMatrix::new(names, conflicts))
}

/// Asserts that the attempts conflict as a table says.
///
/// The table is what [`ConflictMatrix`] prints; the white space around each of its lines does not
/// count. Costs are those of [`conflict_matrix`].
///
/// ```
/// # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
/// use diesel::prelude::*;
/// use diesel_locks_harness::{LockAttempt, assert_conflicts};
/// use diesel_locks::{TableLock, prelude::*};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let database = database()?;
/// let attempts = [TableLock::Share, TableLock::RowExclusive].map(|mode| {
///     LockAttempt::new(mode.to_string(), move |conn: &mut PgConnection| {
///         conn.lock_table::<accounts::table>(mode)
///     })
/// });
/// assert_conflicts(|| PgConnection::establish(database.url()), attempts, r"
///     | requested \ held | SHARE | ROW EXCLUSIVE |
///     |------------------|-------|---------------|
///     | SHARE            |       | X             |
///     | ROW EXCLUSIVE    | X     |               |
/// ");
/// # Ok(())
/// # }
/// ```
///
/// # Panics
///
/// Where [`try_assert_conflicts`] fails, with both tables, at the line of its caller.
#[track_caller]
pub fn assert_conflicts<C, X>(
    connect: impl Fn() -> Result<C, X>,
    attempts: impl IntoIterator<Item = LockAttempt<C>>,
    expected: &str,
) where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    X: Into<Box<dyn Error + Send + Sync>>,
{
    or_panic(try_assert_conflicts(connect, attempts, expected));
}

/// As [`assert_conflicts`], with an error.
///
/// # Errors
///
/// [`ConflictsError::Differ`]: the table is another one.
/// Else as for [`conflict_matrix`].
pub fn try_assert_conflicts<C, X>(
    connect: impl Fn() -> Result<C, X>,
    attempts: impl IntoIterator<Item = LockAttempt<C>>,
    expected: &str,
) -> Result<(), ConflictsError>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    X: Into<Box<dyn Error + Send + Sync>>,
{
    let found = conflict_matrix(connect, attempts)?;
    let lines: Vec<_> = expected.trim().lines().map(str::trim).collect();
    let expected = lines.join("\n");
    if expected == found.to_string() {
        return Ok(());
    }
    Err(ConflictsError::Differ { expected, found })
}

fn names<C>(attempts: &[LockAttempt<C>]) -> Result<Vec<String>, ConflictsError> {
    let mut names: Vec<String> = Vec::new();
    for attempt in attempts {
        let attempt = attempt.name().to_owned();
        if names.contains(&attempt) {
            return Err(ConflictsError::Duplicate { attempt });
        }
        names.push(attempt);
    }
    Ok(names)
}

/// The two sessions that get into each other's way.
struct Rivals<C> {
    holder: Session<C>,
    requester: Session<C>,
}

impl<C> Rivals<C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    fn conflict(
        &self,
        held: &LockAttempt<C>,
        requested: &LockAttempt<C>,
    ) -> Result<bool, SessionError> {
        run(&self.holder, "begin", begin)?;
        run(&self.holder, held.name(), held.step())?;
        run(&self.requester, "begin", begin)?;
        let request = self.requester.start(requested.name(), requested.step());
        let waits = request.settle()?.is_some();
        // Which ends the wait.
        run(&self.holder, "let go", let_go)?;
        let conflicts = match request.returned()? {
            Ok(()) => waits,
            Err(error) if is_contention(&*error) => true,
            Err(error) => return Err(failed(&self.requester, requested.name(), words(&*error))),
        };
        run(&self.requester, "let go", let_go)?;
        Ok(conflicts)
    }
}

/// Does a step that may not fail.
fn run<C, E>(
    session: &Session<C>,
    label: &str,
    step: impl FnOnce(&mut C) -> Result<(), E> + Send + 'static,
) -> Result<(), SessionError>
where
    E: Into<Box<dyn Error + Send + Sync>> + fmt::Display + Send + 'static,
{
    let done = session.start(label, step).returned()?;
    done.map_err(|error| failed(session, label, words(&*error.into())))
}

fn failed<C>(session: &Session<C>, label: &str, error: String) -> SessionError {
    session.error(label, StepProblem::FailedOtherwise { error })
}

/// Ends the transaction, and gives back the session's locks.
fn let_go<C>(conn: &mut C) -> QueryResult<()>
where
    C: LoadConnection<Backend = Pg>,
{
    conn.batch_execute(LET_GO)
}
