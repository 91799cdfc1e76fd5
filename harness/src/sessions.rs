//! Named sessions with a thread and a connection each, and the steps that they take.

mod assertions;
mod begin;
mod blocked;
mod deadlocks;
mod error;
mod execution;
mod pending;
mod problem;
mod session;

pub use begin::{IsolationLevel, begin, begin_at, commit, rollback};
pub use blocked::Blocked;
pub use error::{SessionError, StepError};
pub(crate) use execution::{Execution, Until};
pub use pending::Pending;
pub use problem::StepProblem;
pub(crate) use session::LET_GO;
pub use session::Session;
