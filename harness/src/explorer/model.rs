//! What is known of the program: which events follow which, and which orders are the same.

mod knowledge;
mod local;
mod state;

pub(super) use knowledge::Knowledge;
pub(super) use knowledge::{Known, Way};
pub(super) use state::{Coming, Effect, Next, State, Taken};
