//! Who holds which lock, and who waits for whom: the one place that reads `pg_locks` and
//! `pg_stat_activity`.

mod end;
mod error;
mod ext;
mod graph;
mod holders;
mod identifier;
mod lock;
mod mode;
mod names;
mod object;
mod observed;
#[cfg(feature = "migrations")]
mod relations;
mod session;
mod sql;
mod tables;
#[cfg(feature = "watch")]
mod watch;
mod way;
mod words;

pub use end::{End, SessionEnd, Spared};
pub use ext::ObserveExt;
pub use graph::{RootBlocker, WaitEdge, WaitGraph};
pub(crate) use holders::holders;
pub use lock::{LockInfo, LockWait};
pub use mode::LockMode;
pub use names::LockNames;
pub use object::{LockedObject, RelationName, RowName};
pub use observed::{ObserveDsl, Observed};
#[cfg(feature = "migrations")]
pub(crate) use relations::{locked_here, tables_being_indexed};
pub use session::{SessionId, SessionInfo};
pub use tables::{lock_waits, locks, sessions};
#[cfg(feature = "watch")]
pub use watch::{OnWaitExt, Prioritized, Waiting};
#[cfg(all(feature = "r2d2", feature = "watch"))]
pub(crate) use watch::{Watched, while_told};
pub(crate) use way::in_the_way;
