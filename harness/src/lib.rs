//! Tests of locks: real transactions side by side, in every order, and a server to run them on.
//!
//! A test of a lock needs two transactions at once. [`Contention`] opens them, each on a thread
//! and a connection of its own, and lets the one that gets the lock hold it until the other has
//! failed, got it too, or been seen by the server to wait. Nothing sleeps, so nothing flakes.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, prelude::*};
//! use diesel_locks_harness::Contention;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let database = database()?; // TestDatabase::new()?.migrated(MIGRATIONS)?
//! let outcome = Contention::new(|| PgConnection::establish(database.url())).run(|conn| {
//!     conn.execute_for_update_nowait(accounts::table.find(1)).map(drop)
//! })?;
//! assert_eq!(outcome.granted(), 1);
//! assert!(matches!(outcome.errors(), [LockError::NotAvailable { .. }]));
//! # Ok(())
//! # }
//! ```
//!
//! Where two are not enough, or their order matters:
//!
//! | | what it runs | |
//! |---|---|---|
//! | [`Contention`] | one attempt in n transactions at once | who got the lock, who failed, who waited |
//! | [`Scenario`] | steps of named sessions, in the order that the test writes | each step's result; [assertions](Session::assert_blocks) |
//! | [`Explorer`] | ordinary code, or steps, in every order | the orders that no serial order equals, that break an invariant or deadlock, to be run again |
//! | [`Spec`] | a file in the language of PostgreSQL's isolation tests | what `isolationtester` prints |
//! | [`conflict_matrix`] | each of n attempts against each | the table of who blocks whom |
//!
//! Whether a session waits, and for whom, is always what the server says. What happened is in a
//! [`Transcript`], as text, as a diagram for Mermaid or as a picture.
//!
//! # Steps in one order
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::prelude::*;
//! use diesel_locks_harness::Scenario;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! let scenario = Scenario::new(|| PgConnection::establish(database.url()));
//! let first = scenario.session("first")?;
//! let second = scenario.session("second")?;
//! first.begin()?;
//! first.run("lock", |conn| conn.execute_for_update(accounts::table.find(1)))?;
//! second.begin()?;
//! let locks = second.assert_blocks("lock", |conn| {
//!     conn.execute_for_update(accounts::table.find(1))
//! });
//! first.commit()?;
//! assert_eq!(locks.join()?, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Code in every order
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks_harness::Explorer;
//!
//! fn withdraw(conn: &mut PgConnection, amount: i64) -> QueryResult<bool> {
//!     let account = accounts::table.find(1);
//!     let balance: i64 = account.select(accounts::balance).first(conn)?;
//!     if balance >= amount {
//!         let update = diesel::update(account);
//!         update.set(accounts::balance.eq(balance - amount)).execute(conn)?;
//!     }
//!     Ok(balance >= amount)
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! # let database = database()?;
//! let exploration = Explorer::new(|| PgConnection::establish(database.url()))
//!     .setup(|conn| {
//!         let accounts = diesel::update(accounts::table);
//!         accounts.set(accounts::balance.eq(100)).execute(conn)?;
//!         Ok(())
//!     })
//!     .code("ada", |conn| withdraw(conn, 70)) // ordinary code: each statement is a step
//!     .code("bob", |conn| withdraw(conn, 70))
//!     .serializable() // whatever happens must equal some serial order
//!     .explore()?;
//! // Both read before one has written, in some of the orders.
//! assert!(!exploration.failures().is_empty());
//! println!("{exploration}");
//! # Ok(())
//! # }
//! ```
//!
//! # Databases and servers
//!
//! [`TestDatabase`] gives every test a database of its own, on the server that `DATABASE_URL`
//! names, or, on Unix, on a private one that [`TempPostgres`] starts and that is gone with the
//! process.
//!
//! # Errors
//!
//! Each operation has an error type of its own, and [`HarnessError`] is for all of them. Their
//! `Debug` is what they say, with their sources, so that a test may return them.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `migrations`, on by default | `TestDatabase::migrated` |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod chain;
mod connection;
mod contention;
mod database;
mod error;
mod explorer;
#[cfg(test)]
#[path = "../../tests/support/hostile.rs"]
mod hostile;
mod isolation;
mod panics;
mod scenario;
mod server;
mod sessions;
mod transcript;
mod waits;

pub use connection::HarnessConnection;
pub use contention::{
    Contention, ContentionError, Hold, Outcome, attempt_acquiring_lock_in_separate_transactions,
};
pub use database::{DatabaseError, TestDatabase};
pub use error::HarnessError;
pub use explorer::{
    CallThread, Exploration, Explorer, ExplorerError, Problem, Progress, Run, SeenConnections,
    SessionEnd, StepResult, Steps, progress_bar,
};
pub use isolation::{Spec, SpecError, SpecRunError, SpecTranscript};
pub use scenario::Scenario;
pub use scenario::conflicts::{
    ConflictMatrix, ConflictsError, LockAttempt, assert_conflicts, conflict_matrix,
    try_assert_conflicts,
};
pub use server::ServerError;
#[cfg(unix)]
pub use server::TempPostgres;
pub use sessions::{
    Blocked, IsolationLevel, Pending, Session, SessionError, StepError, StepProblem, begin,
    begin_at, commit, rollback,
};
pub use transcript::Transcript;

/// The README's example.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
