//! The one place that sets PostgreSQL's time limits for a lock, and puts back what was in force,
//! in the words of whoever set it. If what runs under a limit fails on the server, the rollback of
//! the transaction, or of the statement alone, puts it back.

mod batch;
mod clock;
mod ext;
mod limits;
mod milliseconds;
mod work;

pub(crate) use batch::{CALL_WITHIN, batch_call_within, batch_within};
pub(crate) use clock::Clock;
pub use ext::LockTimeoutExt;
pub(crate) use milliseconds::milliseconds;
#[cfg(feature = "migrations")]
pub(crate) use work::limited;
pub(crate) use work::{attempt, within};
