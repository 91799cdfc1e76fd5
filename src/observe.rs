//! Who holds which lock, and who waits for whom: the one place that reads `pg_locks` and
//! `pg_stat_activity`.

mod error;
mod holders;
mod identifier;
#[cfg(feature = "migrations")]
mod relations;
mod session;
mod sql;
mod way;
mod words;

pub(crate) use holders::holders;
#[cfg(feature = "migrations")]
pub(crate) use relations::{locked_here, tables_being_indexed};
pub use session::SessionInfo;
pub(crate) use way::in_the_way;
