//! Database locks for [Diesel](diesel) on PostgreSQL.
//!
//! For blocking code that must not do the same thing twice at once: in two threads, two processes,
//! or on two machines. PostgreSQL is the engine that they share, and the only one that knows who
//! holds what; this crate takes its locks through Diesel's own connections, says by type why one
//! was not granted, and lets go of it whatever happens.
//!
//! # What a lock is for
//!
//! At PostgreSQL's default isolation level, a transaction does not keep others out. Two of them read a
//! balance of 100, each adds 10 to what it has read, and both succeed: the balance is 110, and one
//! deposit is lost. Whoever reads a row, decides, and writes it must lock it when it is read.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, prelude::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! # let mut here = PgConnection::establish(database.url())?;
//! # let mut there = PgConnection::establish(database.url())?;
//! let account = accounts::table.find(1);
//! here.transaction::<_, LockError, _>(|here| {
//!     let balance: i64 = here.get_for_update(account.select(accounts::balance))?;
//!
//!     // Meanwhile, somewhere else:
//!     let refused = there.transaction::<i64, LockError, _>(|there| {
//!         there.get_for_update_nowait(account.select(accounts::balance))
//!     });
//!     assert!(matches!(refused, Err(LockError::NotAvailable { .. })));
//!
//!     diesel::update(account).set(accounts::balance.eq(balance + 10)).execute(here)?;
//!     Ok(())
//! })?; // from here on the other one would get it, and read 110
//! # Ok(())
//! # }
//! ```
//!
//! One session of the server *holds* a lock; another one that wants it *waits*, or is *refused*. What
//! is locked is a row, a table, or a name that the application has chosen. The last is an *advisory*
//! lock: it keeps out only those who ask for it. Two sessions that hold a lock each, and wait for that
//! of the other, are a *deadlock*, and the server ends one of the transactions. Sessions that take
//! their locks in one order cannot get there.
//!
//! # What there is
//!
//! ```
//! use diesel_locks::prelude::*;
//! ```
//!
//! brings the traits. Their methods are for every synchronous connection to PostgreSQL, which is
//! `PgConnection`, a pool's `PooledConnection`, and the connection inside a guard:
//!
//! | lock | taken by | lasts until |
//! |---|---|---|
//! | of rows | [`RowLockExt`], [`RowLockDsl`] | the transaction ends |
//! | of tables | [`TableLockExt`] | the transaction ends |
//! | advisory, of the session | [`AdvisoryLockExt`], [`OwnedAdvisoryLockGuard`], [`PoolLockExt`] | the guard lets go |
//! | advisory, of the transaction | [`AdvisoryLockExt`] | the transaction ends |
//!
//! # Row locks
//!
//! [`RowLockExt`] takes every select that PostgreSQL can lock, joins and boxed queries included.
//! `select_…` loads all of the rows, `get_…` one, and `execute_…` only counts them.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, prelude::*};
//!
//! fn withdraw(conn: &mut PgConnection, id: i32, amount: i64) -> Result<bool, LockError> {
//!     conn.transaction(|conn| {
//!         let account = accounts::table.find(id);
//!         let balance: i64 = conn.get_for_update_nowait(account.select(accounts::balance))?;
//!         if balance < amount {
//!             return Ok(false);
//!         }
//!         diesel::update(account).set(accounts::balance.eq(balance - amount)).execute(conn)?;
//!         Ok(true)
//!     })
//! }
//!
//! fn close_all(conn: &mut PgConnection) -> Result<usize, LockError> {
//!     conn.transaction(|conn| {
//!         let locked = conn.execute_for_update(accounts::table)?;
//!         diesel::update(accounts::table).set(accounts::balance.eq(0)).execute(conn)?;
//!         Ok(locked)
//!     })
//! }
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! # let conn = &mut PgConnection::establish(database.url())?;
//! # assert!(withdraw(conn, 1, 10)?);
//! # assert_eq!(close_all(conn)?, 2);
//! # Ok(())
//! # }
//! ```
//!
//! That is `FOR UPDATE`. [`RowLockDsl`] puts any [`RowLock`] on a query, for `select_locked`,
//! `get_locked` and `execute_locked`, or for Diesel's own methods: every strength, `OF`, and
//! `SKIP LOCKED`.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, RowLock, prelude::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! # let conn = &mut PgConnection::establish(database.url())?;
//! conn.transaction::<_, LockError, _>(|conn| {
//!     let idle = accounts::table
//!         .left_join(jobs::table)
//!         .filter(jobs::id.is_null())
//!         .select(accounts::owner)
//!         .lock_rows(RowLock::for_no_key_update().of(accounts::table).skip_locked());
//!     let idle: Vec<String> = conn.select_locked(idle)?;
//!     assert_eq!(idle.len(), 2);
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Table locks
//!
//! [`TableLockExt`] locks whole tables, one or several, in the eight modes of [`TableLockMode`].
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, TableLockMode, prelude::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! # let conn = &mut PgConnection::establish(database.url())?;
//! let total = conn.transaction::<i64, LockError, _>(|conn| {
//!     // Nobody writes to either of them until the transaction ends.
//!     conn.lock_table((accounts::table, jobs::table), TableLockMode::Share)?;
//!     let balances: Vec<i64> = accounts::table.select(accounts::balance).load(conn)?;
//!     Ok(balances.iter().sum())
//! })?;
//! assert_eq!(total, 200);
//! # Ok(())
//! # }
//! ```
//!
//! # Advisory locks
//!
//! An advisory lock is a name that PostgreSQL keeps for the application: a critical section that
//! one of N instances may run. A session's lock is a guard, made by [`AdvisoryLockExt`] on a
//! connection. Letting the guard go lets the lock go: at the end of a scope, on `?`, on a panic, in
//! an aborted transaction; and if the process is killed, the server does it.
//!
//! ```
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, prelude::*};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! # let mut conn = PgConnection::establish(database.url())?;
//! let mut leader = conn.advisory_lock("gold_leader")?;
//! // The connection is used through the guard: Diesel wants `&mut *leader`.
//! diesel::sql_query("CREATE TABLE gold (ounces bigint)").execute(&mut *leader)?;
//! leader.release()?; // as a drop, but says if the lock was lost meanwhile
//!
//! // The same around a closure; several, all or none, in one order for everybody.
//! conn.with_advisory_lock("gold_leader", |_conn| Ok::<_, LockError>(()))?;
//! drop(conn.advisory_lock_all(["ada", "grace"])?);
//! # Ok(())
//! # }
//! ```
//!
//! An [`OwnedAdvisoryLockGuard`] has a connection of its own, so that it can be stored, and sent to
//! another thread. Where a connection was given away for the lock, a refusal gives it back in an
//! [`AcquireError`].
//!
//! ```
//! use diesel_locks::{AcquireError, LockError, OwnedAdvisoryLockGuard, Wait};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! # let database_url = database.url();
//! match OwnedAdvisoryLockGuard::connect(database_url, "gold_leader", Wait::NoWait) {
//!     Ok(mut leader) => {
//!         assert!(leader.is_held()?);
//!         let conn = leader.release()?;
//!         match OwnedAdvisoryLockGuard::acquire(conn, "silver_leader", Wait::NoWait) {
//!             Ok(leader) => drop(leader),
//!             Err(AcquireError { conn, error }) if error.is_contention() => { /* try later */
//! #               drop(conn);
//!             }
//!             Err(refused) => return Err(refused.error.into()),
//!         }
//!     }
//!     Err(LockError::NotAvailable { .. }) => { /* another process leads */ }
//!     Err(error) => return Err(error.into()),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! A lock of the *transaction* needs no guard, because it ends with the transaction:
//! [`advisory_xact_lock`](AdvisoryLockExt::advisory_xact_lock), and
//! [`transaction_with_advisory_lock`](AdvisoryLockExt::transaction_with_advisory_lock), which costs
//! no further round trip.
//!
//! ```
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, prelude::*};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! # let mut conn = PgConnection::establish(database.url())?;
//! conn.transaction_with_advisory_lock("invoices", |conn| {
//!     diesel::sql_query("SELECT 1").execute(conn)?;
//!     conn.advisory_xact_lock((7, 42))
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! A lock is named by a string, a number or a pair of numbers: see [`LockKey`] for what that is to
//! PostgreSQL, and [`AdvisoryLock`] for shared locks. Whoever names it by a string reads the string
//! in every error. With the feature `interop`, [`LockKey::sqlx`], [`LockKey::django_pglock`] and
//! [`LockKey::ruby_with_advisory_lock`] are the keys that those give a name.
//!
//! # Waiting
//!
//! Every kind of lock offers the same ways to wait, by the same endings:
//!
//! | ending | if another session is in the way |
//! |---|---|
//! | (none) | waits until the lock is granted |
//! | `_nowait` | [`LockError::NotAvailable`] at once |
//! | `_timeout` | [`LockError::Timeout`] after that long for the whole call, measured by the server |
//! | `try_` | `Ok(None)` or `Ok(false)` at once, and an open transaction stays usable |
//! | `_wait` | what a [`Wait`] says, chosen at run time |
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
//! use std::time::Duration;
//!
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, TableLockMode, Wait, prelude::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! # let mut conn = PgConnection::establish(database.url())?;
//! let patience = Wait::Timeout(Duration::from_secs(1));
//! conn.transaction::<_, LockError, _>(|conn| {
//!     conn.execute_for_update_wait(accounts::table, patience)?;
//!     conn.advisory_xact_lock_wait("accounts", Wait::NoWait)?;
//!     assert!(conn.try_lock_table(jobs::table, TableLockMode::Exclusive)?);
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! PostgreSQL's `NOWAIT` is for rows, and a row's table is waited for where an `ALTER TABLE` has
//! locked it: [`with_lock_timeout`](LockTimeoutExt::with_lock_timeout) limits every wait. `try_` and
//! `_timeout` have such a limit themselves.
//!
//! # Errors
//!
//! [`LockError`] says why a lock was not taken, not kept, or not let go, and its [`LockTarget`]
//! which. [`is_contention`](LockError::is_contention) is another session in the way, and
//! [`is_retryable`](LockError::is_retryable) what may well succeed the next time. [`condition()`],
//! [`is_contention()`] and [`is_retryable()`] ask the same of any error that wraps it.
//!
//! ```
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, LockTarget, prelude::*};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! # let mut here = PgConnection::establish(database.url())?;
//! # let mut there = PgConnection::establish(database.url())?;
//! let leader = here.advisory_lock("gold_leader")?;
//! let Err(error) = there.advisory_lock_nowait("gold_leader").map(drop) else {
//!     panic!("two leaders");
//! };
//! let target = LockTarget::Advisory("gold_leader".into());
//! assert!(matches!(&error, LockError::NotAvailable { target: busy, .. } if *busy == target));
//! assert_eq!(error.to_string(), "advisory lock \"gold_leader\" is locked by another session");
//!
//! let wrapped: Box<dyn std::error::Error> = error.into();
//! assert!(diesel_locks::is_contention(&*wrapped));
//! leader.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Deadlocks and serialization failures
//!
//! PostgreSQL resolves them by ending one of the transactions, which has to be run again:
//! [`RetryExt::retrying`] does that.
//!
//! ```
//! # include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/doctest.rs"));
//! use diesel::prelude::*;
//! use diesel_locks::{LockError, Retry, prelude::*};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = database()?;
//! # let conn = &mut PgConnection::establish(database.url())?;
//! conn.retrying(Retry::new().attempts(10)).transaction::<_, LockError, _>(|conn| {
//!     conn.execute_for_update(accounts::table)?;
//!     diesel::update(accounts::table).set(accounts::balance.eq(0)).execute(conn)?;
//!     Ok(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! # Pools
//!
//! With the feature `r2d2`, a pool has the methods for advisory locks too, by [`PoolLockExt`]. Each
//! [`PooledGuard`] has a connection of its own out of it, and the endings are for both: what ends
//! with `_nowait` waits for no connection either, and is then refused with
//! [`LockTarget::Connection`]. The pool of a [`LockAwareManager`] lends no connection that still
//! has a guard's lock.
//!
//! ```
//! use diesel::PgConnection;
//! use diesel::r2d2::{ConnectionManager, Pool};
//! use diesel_locks::{LockAwareManager, LockError, LockTarget, prelude::*};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! let manager = ConnectionManager::<PgConnection>::new(database.url());
//! let pool = Pool::builder().max_size(1).build(LockAwareManager::new(manager))?;
//! let leader = pool.advisory_lock("gold_leader")?;
//! match pool.advisory_lock_nowait("silver_leader") {
//!     Err(LockError::NotAvailable { target, .. }) => assert_eq!(target, LockTarget::Connection),
//!     other => panic!("{other:?}"),
//! }
//! drop(leader);
//! # Ok(())
//! # }
//! ```
//!
//! Guards are counted in the one place that a connection has for instrumentation. An
//! instrumentation of the application's own goes beside it by [`set_instrumentation`].
//!
//! # Who is in the way
//!
//! [`ObserveExt`] shows who holds which lock and who waits for whom, by name where names are known,
//! and ends whoever is in the way; [`ObserveDsl`] asks the same by Diesel's own DSL, and
//! [`LockError::holders`] is for a lock that was just refused. A [`WaitGraph`] is all waits of a server
//! at once.
//!
//! ```
//! use diesel::prelude::*;
//! use diesel_locks::{LockNames, WaitGraph, prelude::*};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! # let mut conn = PgConnection::establish(database.url())?;
//! # let mut other = PgConnection::establish(database.url())?;
//! let leader = other.advisory_lock("gold_leader")?;
//! if let Err(refused) = conn.advisory_lock_nowait("gold_leader").map(drop) {
//!     let holders = refused.holders(&mut conn)?;
//!     assert_eq!(holders[0].state.as_deref(), Some("idle"));
//! }
//! LockNames::new(["silver_leader"]); // what other processes lock, by name
//! for lock in conn.locks()? {
//!     println!("{lock}");
//! }
//! println!("{}", WaitGraph::load(&mut conn)?);
//! # leader.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `watch`, [`OnWaitExt::on_wait`] tells what a connection waits for while it does,
//! and [`Prioritized`] ends whoever is in its way for too long. With the feature `migrations`,
//! [`lock_names::MIGRATIONS`] keeps names in the database, for psql.
//!
//! # Long work
//!
//! A session may end while its holder does something else than queries. With the feature `watch`,
//! [`OwnedAdvisoryLockGuard::watch`] asks the server in the background, and says on a channel when
//! the lock is lost.
//!
//! ```
//! use std::time::Duration;
//!
//! use diesel_locks::{OwnedAdvisoryLockGuard, Wait};
//! use diesel_locks_harness::TestDatabase;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! # let database_url = database.url();
//! let leader = OwnedAdvisoryLockGuard::connect(database_url, "gold_leader", Wait::NoWait)?;
//! let leader = leader.watch(Duration::from_secs(5))?;
//! while !leader.is_lost() {
//!     // … a step of the long work
//! #   break;
//! }
//! leader.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Migrations
//!
//! With the feature `migrations`, [`MigrationLock`] runs Diesel's migrations under a lock, so that N
//! instances can start at once, and has them wait for their tables briefly and often, so that
//! traffic goes on.
//!
//! ```
//! use diesel::prelude::*;
//! use diesel_locks::MigrationLock;
//! use diesel_locks_harness::TestDatabase;
//! use diesel_migrations::{EmbeddedMigrations, embed_migrations};
//!
//! const MIGRATIONS: EmbeddedMigrations = embed_migrations!();
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let database = TestDatabase::new()?;
//! let mut conn = PgConnection::establish(database.url())?;
//! MigrationLock::new().run_pending(&mut conn, MIGRATIONS)?;
//! # Ok(())
//! # }
//! ```
//!
//! # Tests
//!
//! The crate `diesel_locks_harness` is for a project's dev-dependencies. Its `Contention` lets real
//! transactions contend for a lock and tells who got it, without a sleep; its `Scenario` has named
//! sessions that take steps in an order that the test writes, and its `Explorer` runs every order
//! and finds the ones that break something; and its `TestDatabase` gives each test a database, on
//! a private server that is started for it if there is no other.
//!
//! # Limits
//!
//! - Locks of a session do not work through a pooler in transaction mode: see *Poolers* in
//!   [`AdvisoryLockExt`]. Locks of a transaction do.
//! - Diesel 2.3 hides the SQLSTATE, so errors are told apart by the server's messages: see
//!   [`LockError`].
//! - Servers that accept advisory locks and do nothing, such as CockroachDB, are not noticed.
//! - A transaction is what Diesel knows as one. A `BEGIN` by SQL of one's own is not seen.
//! - `std::mem::forget` on a guard keeps its lock until the connection is closed.
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | adds |
//! |---|---|
//! | `r2d2` | [`PoolLockExt`], [`LockAwareManager`], [`PooledGuard`] |
//! | `watch` | [`OwnedAdvisoryLockGuard::watch`], [`OnWaitExt`], [`Prioritized`] |
//! | `migrations` | [`MigrationLock`], [`LibraryMigrations`], [`lock_names::MIGRATIONS`] |
//! | `interop` | [`LockKey::sqlx`], [`LockKey::django_pglock`], [`LockKey::ruby_with_advisory_lock`] |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![warn(clippy::unwrap_used, clippy::expect_used)]

mod advisory;
mod english;
mod error;
#[cfg(test)]
#[path = "../tests/support/hostile.rs"]
mod hostile;
mod key;
#[cfg(feature = "migrations")]
pub mod lock_names;
mod lock_timeout;
#[cfg(feature = "migrations")]
mod migrate;
#[cfg(feature = "migrations")]
mod migrate_error;
mod names;
mod observe;
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
#[cfg(feature = "migrations")]
pub use migrate::{
    Blocks, Direction, DryRun, LibraryMigrations, LockTaken, LockedHarness, MigrationEvent,
    MigrationLock, MigrationReport, Touched, Tried,
};
#[cfg(feature = "migrations")]
pub use migrate_error::{LeftoverIndex, MigrateError};
pub use observe::{
    End, LockInfo, LockMode, LockNames, LockWait, LockedObject, ObserveDsl, ObserveExt,
    RelationName, RootBlocker, RowName, SessionEnd, SessionId, SessionInfo, Spared, WaitEdge,
    WaitGraph,
};
#[cfg(feature = "watch")]
pub use observe::{OnWaitExt, Prioritized, Waiting};
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

/// The tables of a look at the locks: what [`ObserveDsl::observed`] makes queries of.
pub mod observed {
    pub use crate::observe::{Observed, lock_waits, locks, sessions};
}

/// The extension traits, and nothing that could clash.
pub mod prelude {
    #[cfg(feature = "watch")]
    pub use crate::OnWaitExt;
    #[cfg(feature = "r2d2")]
    pub use crate::PoolLockExt;
    pub use crate::{
        AdvisoryLockExt, LockTimeoutExt, ObserveDsl, ObserveExt, RetryExt, RowLockDsl, RowLockExt,
        TableLockExt,
    };
}

/// The examples of the README and of the pages beside it.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;

    #[doc = include_str!("../docs/which-lock.md")]
    struct WhichLock;

    #[doc = include_str!("../docs/pools.md")]
    struct Pools;

    #[doc = include_str!("../docs/poolers-and-replicas.md")]
    struct PoolersAndReplicas;

    #[doc = include_str!("../docs/coming-from.md")]
    struct ComingFrom;

    #[doc = include_str!("../docs/operations.md")]
    struct Operations;

    #[doc = include_str!("../docs/migrations.md")]
    struct Migrations;

    #[doc = include_str!("../docs/testing.md")]
    struct Testing;
}
