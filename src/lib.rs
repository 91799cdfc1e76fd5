//! Database locks for [Diesel](diesel) on PostgreSQL.
//!
//! For blocking code that must not do the same thing twice at once: in two threads, two processes,
//! or on two machines. PostgreSQL is the engine that they share, and the only one that knows who
//! holds what; this crate takes its locks through Diesel's own connections, says by type why one
//! was not granted, and lets go of it whatever happens.
//!
//! ```
//! use diesel_locks::prelude::*;
//! ```
//!
//! brings the methods below to every synchronous connection to PostgreSQL: `PgConnection`, a
//! pool's `PooledConnection`, and the connection inside a guard.
//!
//! # Row locks
//!
//! [`RowLockExt`] loads rows, or one, or only their number, and locks them until the transaction
//! ends. It takes every select that PostgreSQL can lock, joins and boxed queries included.
//! [`RowLockDsl`] puts any [`RowLock`] on a query: the strengths, `OF` and `SKIP LOCKED`.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, prelude::*};
//!
//! fn withdraw(conn: &mut PgConnection, id: i32, amount: i64) -> Result<(), LockError> {
//!     conn.transaction(|conn| {
//!         let account = accounts::table.find(id);
//!         let balance: i64 = conn.get_for_update_nowait(account.select(accounts::balance))?;
//!         assert!(balance >= amount);
//!         diesel::update(account)
//!             .set(accounts::balance.eq(accounts::balance - amount))
//!             .execute(conn)?;
//!         Ok(())
//!     })
//! }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! # withdraw(&mut PgConnection::establish(database.url())?, 1, 10)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Table locks
//!
//! [`TableLockExt`] locks whole tables, one or several, in the eight modes of [`TableLockMode`].
//!
//! # Advisory locks
//!
//! An advisory lock is a name that PostgreSQL keeps for the application: a critical section that
//! one of N instances may run. A session's lock is a guard, made by [`AdvisoryLockExt`] on a
//! connection, or by [`OwnedAdvisoryLockGuard`] with a connection of its own. Letting the guard go
//! lets the lock go: at the end of a scope, on `?`, on a panic, in an aborted transaction; and if
//! the process is killed, the server does it.
//!
//! ```
//! use diesel_locks::{LockError, OwnedAdvisoryLockGuard, Wait};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! # let database_url = database.url();
//! match OwnedAdvisoryLockGuard::connect(database_url, "gold_leader", Wait::NoWait) {
//!     Ok(mut leader) => {
//!         assert!(leader.is_held()?); // and `leader` is the connection
//!         leader.release()?;
//!     }
//!     Err(LockError::NotAvailable { .. }) => { /* another process leads */ }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A lock of the *transaction* needs no guard, because it ends with the transaction:
//! `advisory_xact_lock`, and `transaction_with_advisory_lock`, which costs no further round trip.
//!
//! A lock is named by a string, a number or a pair of numbers: see [`LockKey`] for what that is to
//! PostgreSQL, and [`AdvisoryLock`] for shared locks.
//!
//! # Waiting
//!
//! Every kind of lock offers the same ways to wait, by the same endings:
//!
//! | ending | if another session is in the way |
//! |---|---|
//! | (none) | waits until the lock is granted |
//! | `_nowait` | [`LockError::NotAvailable`] at once |
//! | `_timeout` | [`LockError::Timeout`] after that long, measured by the server |
//! | `try_` | `Ok(None)` at once, and an open transaction stays usable |
//!
//! PostgreSQL's `NOWAIT` is for rows, and a row's table is waited for where an `ALTER TABLE` has
//! locked it: [`with_lock_timeout`](LockTimeoutExt::with_lock_timeout) limits every wait. `try_` and
//! `_timeout` have such a limit themselves.
//!
//! [`LockError`] says what else can happen, and [`is_contention`](LockError::is_contention) and
//! [`is_retryable`](LockError::is_retryable) what can be done about it. [`condition()`] asks the
//! same of an error that wraps it.
//!
//! # Deadlocks and serialization failures
//!
//! PostgreSQL resolves them by ending one of the transactions, which has to be run again:
//! [`RetryExt::retrying`] does that.
//!
//! # Tests
//!
//! The crate `diesel_locks_harness` is for a project's dev-dependencies. Its `Contention` lets real
//! transactions contend for a lock and tells who got it, without a sleep; its `Scenario` has named
//! sessions that take steps in an order that the test writes, and its `Explorer` runs every order
//! and finds the ones that break something; and its `TestDatabase` gives each test a database, on
//! a private server that is started for it if there is no other.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `r2d2` | [`PoolLockExt`], [`LockAwareManager`]; pooled connections have all methods |
//! | `watch` | `OwnedAdvisoryLockGuard::watch`, which says when a lock is lost during long work |

#![warn(clippy::unwrap_used, clippy::expect_used)]

mod advisory;
mod english;
mod error;
mod key;
mod lock_timeout;
mod names;
#[cfg(feature = "r2d2")]
mod pool;
mod retry;
mod row;
mod seal;
mod slot;
mod sql;
mod table;
mod transaction;
mod wait;
mod wrapped;

#[cfg(feature = "watch")]
pub use advisory::WatchedAdvisoryLockGuard;
pub use advisory::{AdvisoryLockExt, AdvisoryLockGuard, OwnedAdvisoryLockGuard};
#[cfg(feature = "watch")]
pub use crossbeam::channel;
pub use english::use_english_messages;
pub use error::{AcquireError, Condition, DeadlockedProcess, LockError, LockTarget};
pub use key::{AdvisoryLock, AdvisoryLocks, LockKey};
pub use lock_timeout::LockTimeoutExt;
#[cfg(feature = "r2d2")]
pub use pool::{LockAwareManager, PoolLockExt, PooledGuard};
pub use retry::{Retry, RetryExt, Retrying, TransactionError};
pub use row::{RowLock, RowLockDsl, RowLockExt};
pub use slot::set_instrumentation;
pub use table::{LockableTables, TableLockExt, TableLockMode};
pub use wait::Wait;
pub use wrapped::{condition, is_contention, is_retryable};

/// The types that row locks and locked queries are made of.
///
/// They have to be named only by code that is generic over them.
pub mod row_lock {
    pub use crate::row::{
        AllTables, AlreadyLocked, Appended, Base, Behind, Boxed, ByDiesel, ForKeyShare,
        ForNoKeyUpdate, ForShare, ForUpdate, LockRows, Locked, LockedQuery, LockedTables, NoWait,
        Of, One, Several, SkipLocked, Strength, Unlocked, Waiting, WhatToDo,
    };
}

/// The extension traits, and nothing that could clash.
pub mod prelude {
    #[cfg(feature = "r2d2")]
    pub use crate::PoolLockExt;
    pub use crate::{
        AdvisoryLockExt, LockTimeoutExt, RetryExt, RowLockDsl, RowLockExt, TableLockExt,
    };
}

/// The README's examples.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
