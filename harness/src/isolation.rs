//! PostgreSQL's isolation-test files, read and run as its `isolationtester` does.

mod error;
mod interleavings;
mod parser;
mod permutation;
mod runner;
mod scanner;
mod script;
mod spec;
mod sql;
mod transcript;

pub use error::{SpecError, SpecRunError};
pub use spec::Spec;
pub use transcript::SpecTranscript;
