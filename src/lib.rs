#![warn(clippy::unwrap_used, clippy::expect_used)]
#![doc = "x"]
mod advisory;
mod error;
#[cfg(feature = "harness")]
pub mod harness;
mod key;
mod row;
mod transaction;
mod wait;

pub use advisory::{AdvisoryLockExt, AdvisoryLockGuard, OwnedAdvisoryLockGuard};
pub use error::{LockError, LockTarget};
pub use key::{AdvisoryLock, LockKey};
pub use row::{ForUpdateNoWait, RowLockExt};
pub use wait::Wait;

/// The extension traits.
pub mod prelude {
    pub use crate::{AdvisoryLockExt, RowLockExt};
}
