mod attempt;
mod dry_run;
mod event;
mod harness;
mod held;
mod index;
mod inside;
mod ledger;
mod library;
mod lock;
mod outside;
mod pending;
mod pooler;
#[cfg(feature = "watch")]
mod priority;
mod run;
mod settings;
mod waiting;
mod words;

pub use self::dry_run::{Blocks, DryRun, LockTaken, MigrationReport, Touched, Tried};
pub use self::event::{Direction, MigrationEvent};
pub use self::harness::LockedHarness;
pub use self::library::LibraryMigrations;
pub use self::lock::MigrationLock;
