//! What becomes of locks when a standby takes over. Each row of docs/failover.md is a test here, or,
//! for the command, in cli/tests/command/run/failover.rs.

#[path = "../support/mod.rs"]
mod support;

mod guards;
mod migrations;
mod pools;
mod transactions;
mod two_primaries;
mod waits;
mod watch;

use std::fmt::Debug;

use diesel_locks::LockError;

#[track_caller]
fn assert_lost<T: Debug>(result: Result<T, LockError>) {
    assert!(
        matches!(result, Err(LockError::ConnectionLost { .. })),
        "{result:?}"
    );
}
