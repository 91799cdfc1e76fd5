//! What is known of the program: which events follow which, and which orders are the same.

mod knowledge;
mod local;
mod state;
mod transaction;

pub(super) use knowledge::{Actor, Knowledge, Known, Way};
pub(super) use state::{CRASH, Coming, Effect, Next, State, Taken, UNANSWERED};
