//! Everything at once, and whatever can go wrong: nobody has a lock that another one has, no lock
//! is left, no error is a riddle, and no call takes longer than it may.
//!
//! Actors, in this process and in others, take locks of every kind from connections of every kind.
//! A hand cancels and ends their sessions, stops the server's processes, kills one so that the
//! server starts again, fills its table of locks, cuts wires, and kills the actors' processes.
//!
//! It takes a minute, or as many seconds as `DIESEL_LOCKS_FAULTS` says, in rounds. What each actor
//! and the hand do is drawn from a seed, which is printed: `DIESEL_LOCKS_FAULTS_SEED` takes it
//! again, and the first round is the one that had it. What the server, the machine and the network
//! make of it is not in a seed: give it more than one round.

mod actor;
mod guard;
mod hand;
mod judge;
mod process;
mod round;
mod section;
mod stage;
mod statements;
#[path = "../support/mod.rs"]
mod support;
mod transaction;
mod turn;

use std::env;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::{Duration, Instant};

use crate::judge::Tally;
use crate::support::proxy::{Cut, Proxy};
use crate::support::{backend_pid, connect};
use diesel::connection::{LoadConnection, SimpleConnection};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, ManageConnection, Pool, R2D2Connection};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{BigInt, Integer};
use diesel_locks::prelude::*;
use diesel_locks::{LockAwareManager, LockError};
use diesel_locks_harness::{TempPostgres, TestDatabase};

/// So short that a failing one can be read, and that often all locks are looked for.
const ROUND: Duration = Duration::from_secs(12);

fn given(variable: &str) -> Option<u64> {
    let number = env::var(variable).ok()?;
    Some(number.parse().expect("a number"))
}

#[test]
fn faults_give_no_second_holder_and_leave_no_lock() {
    if process::is_second() {
        return;
    }
    let length = Duration::from_secs(given("DIESEL_LOCKS_FAULTS").unwrap_or(60));
    let seed = given("DIESEL_LOCKS_FAULTS_SEED")
        // Each `RandomState` hashes in its own way.
        .unwrap_or_else(|| RandomState::new().build_hasher().finish() >> 32);
    let server = TempPostgres::start().unwrap();
    let mut conn = PgConnection::establish(server.url()).unwrap();
    conn.batch_execute(
        "CREATE SEQUENCE clock; \
         CREATE TABLE accounts (id integer PRIMARY KEY); CREATE TABLE jobs (id integer); \
         INSERT INTO accounts SELECT generate_series(1, 8)",
    )
    .unwrap();
    // The server does not write a commit at once, and this has to outlive its crashes.
    conn.batch_execute("CHECKPOINT").unwrap();
    drop(conn);
    let proxy = Proxy::before(&server);
    let (begun, mut tally) = (Instant::now(), Tally::new());
    for seed in seed.. {
        let rest = length.saturating_sub(begun.elapsed());
        if rest.is_zero() {
            break;
        }
        println!("DIESEL_LOCKS_FAULTS_SEED={seed}");
        let findings = round::run(&server, &proxy, seed, rest.min(ROUND), &mut tally);
        assert!(
            findings.is_empty(),
            "to do it again: DIESEL_LOCKS_FAULTS_SEED={seed}\n\n{}",
            findings.join("\n\n")
        );
    }
    for (what, times) in &tally {
        println!("{times:>7} {what}");
    }
    assert!(tally["section"] > 100, "hardly a lock was taken: {tally:?}");
}

/// Diesel has the words of the first error, and says by the kind that the connection ended before
/// the answer did.
#[test]
fn an_error_after_which_the_connection_ends_is_a_lost_connection() {
    let server = TempPostgres::start().unwrap();
    let proxy = Proxy::before(&server);
    let mut elsewhere = PgConnection::establish(server.url()).unwrap();
    let _held = elsewhere.advisory_lock("x").unwrap();
    let mut conn = PgConnection::establish(&proxy.url()).unwrap();
    proxy.cut(0, Cut::AfterMessage(b'E'));
    let lost = conn
        .advisory_lock_timeout("x", Duration::from_millis(10))
        .map(drop);
    match lost {
        Err(LockError::ConnectionLost {
            source: Error::DatabaseError(DatabaseErrorKind::ClosedConnection, first),
            ..
        }) => assert_eq!(first.message(), "canceling statement due to lock timeout"),
        other => panic!("{other:?}"),
    }
    assert!(conn.batch_execute("SELECT 1").is_err());
}

/// r2d2 looks every 30 s for connections that are too old, and retires those that are idle. It
/// takes as long as that; here, because the test above takes longer.
#[test]
fn a_pool_that_retires_connections_leaves_that_of_a_guard_alone() {
    fn check<M>(database: &TestDatabase, manager: M)
    where
        M: ManageConnection<Connection: LoadConnection<Backend = Pg> + R2D2Connection>,
    {
        let brief = Some(Duration::from_millis(1));
        let builder = Pool::builder().max_size(2).max_lifetime(brief);
        let pool = builder.idle_timeout(brief).build(manager).unwrap();
        let mut leader = pool.advisory_lock("x").unwrap();
        let leaders = backend_pid(&mut *leader);
        let idle = backend_pid(&mut pool.get().unwrap());
        let mut elsewhere = connect(database);
        let mut is_there = |pid: i32| {
            let sessions = sql::<BigInt>("SELECT count(*) FROM pg_stat_activity WHERE pid = ");
            let sessions = sessions.bind::<Integer, _>(pid);
            sessions.get_result::<i64>(&mut elsewhere).unwrap() > 0
        };
        let begun = Instant::now();
        while is_there(idle) {
            assert!(
                begun.elapsed() < Duration::from_secs(120),
                "nothing is retired"
            );
            std::thread::sleep(Duration::from_millis(100));
        }
        assert!(is_there(leaders));
        assert!(leader.is_held().unwrap());
        assert!(elsewhere.try_advisory_lock("x").unwrap().is_none());
        leader.release().unwrap();
        assert!(elsewhere.try_advisory_lock("x").unwrap().is_some());
    }
    let database = TestDatabase::new().unwrap();
    let other = TestDatabase::new().unwrap();
    let diesels = |database: &TestDatabase| ConnectionManager::<PgConnection>::new(database.url());
    std::thread::scope(|scope| {
        scope.spawn(|| check(&database, diesels(&database)));
        check(&other, LockAwareManager::new(diesels(&other)));
    });
}
