//! A thread that takes locks of every kind, in every way, and tells what it saw.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::LoadConnection;
use diesel::dsl::sql;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection, R2D2Connection};
use diesel::result::Error;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks::{LockError, OwnedAdvisoryLockGuard};

use super::judge;
use super::stage::{Record, Stage};
use super::statements::{held, set_timeouts};
use super::turn::{Act, Ending, GuardPlan, Limit, Source, Turn};
use crate::support::chance::Chance;

/// How much later than its bound a call may return: the machine is busy, and the hand stops
/// backends and wires for less than a second.
const MARGIN: Duration = Duration::from_secs(8);

/// What an actor has done last.
pub(crate) type Operations = Arc<Mutex<VecDeque<String>>>;

pub(crate) struct Actor {
    pub(super) name: String,
    pub(super) stage: Arc<Stage>,
    chance: Chance,
    begun: Instant,
    operations: Operations,
    plain: Option<PgConnection>,
    /// The timeout that this turn has set.
    pub(super) limit: Option<Limit>,
    /// Whether an error of this turn has said that the connection is lost.
    is_lost: bool,
}

impl Actor {
    pub(crate) fn new(name: String, seed: u64, stage: Arc<Stage>) -> Self {
        Self {
            chance: Chance::new(seed, &name),
            name,
            stage,
            begun: Instant::now(),
            operations: Operations::default(),
            plain: None,
            limit: None,
            is_lost: false,
        }
    }

    pub(crate) fn operations(&self) -> Operations {
        Arc::clone(&self.operations)
    }

    pub(crate) fn act(mut self) {
        while !self.stage.is_over() {
            let turn = Turn::draw(&self.chance);
            self.say(format!("turn: {turn:?}"));
            self.limit = turn.limit;
            self.take(&turn);
        }
        let operations = self.operations.lock().unwrap();
        let operations = operations.iter().map(|line| format!("\n    {line}"));
        let operations = format!("{}:{}", self.name, operations.collect::<String>());
        self.stage.record(Record::Operations(operations));
    }

    pub(super) fn say(&mut self, operation: String) {
        let mut operations = self.operations.lock().unwrap();
        if operations.len() == 16 {
            operations.pop_front();
        }
        operations.push_back(format!("{:.3?} {operation}", self.begun.elapsed()));
    }

    pub(super) fn find(&mut self, finding: String) {
        self.say(format!("FOUND: {finding}"));
        self.stage
            .record(Record::Finding(format!("{}: {finding}", self.name)));
    }

    /// What succeeded; an error is judged.
    pub(super) fn judged<T>(&mut self, doing: &str, result: Result<T, LockError>) -> Option<T> {
        let error = match result {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        self.say(format!("{doing}: {error:?}"));
        self.stage.record(Record::Count(judge::kind(&error)));
        self.is_lost |= matches!(&error, LockError::ConnectionLost { source, .. }
            if !matches!(source, Error::BrokenTransactionManager));
        if !judge::is_expected(&error, self.limit) {
            self.find(format!("unexpected from {doing}: {error:?}"));
        }
        None
    }

    /// What a call that takes locks has come to.
    pub(super) fn called<T>(
        &mut self,
        ending: Ending,
        begun: Instant,
        result: Result<Option<T>, LockError>,
    ) -> Option<T> {
        let bound = match ending {
            Ending::Block => Duration::MAX,
            Ending::Timeout(timeout) => MARGIN + timeout,
            _ => MARGIN,
        };
        if begun.elapsed() > bound {
            self.find(format!("{ending:?} took {:?}", begun.elapsed()));
        }
        let never_waits = matches!(ending, Ending::NoWait | Ending::Try | Ending::SkipLocked);
        match &result {
            Err(LockError::NotAvailable { .. }) if !never_waits => {
                self.find(format!("{ending:?} did not wait"));
            }
            // The server says so of a session that waits, and of no other.
            Err(error @ (LockError::Timeout { .. } | LockError::Deadlock { .. }))
                if never_waits =>
            {
                self.find(format!("{ending:?} waited: {error:?}"));
            }
            _ => {}
        }
        self.judged("acquisition", result)?
    }

    fn take(&mut self, turn: &Turn) {
        let stage = Arc::clone(&self.stage);
        match (turn.source, &turn.act) {
            (Source::Plain, _) => {
                if let Some(mut conn) = self.plain_connection(turn.through_proxy)
                    && self.on(&mut conn, turn)
                {
                    self.plain = Some(conn);
                }
            }
            (Source::LockAware, _) => self.on_pooled(&stage.aware, turn),
            (Source::Diesels, _) => self.on_pooled(&stage.diesels, turn),
            (Source::OwnedGuard, Act::Guard(plan)) => {
                let (url, lock, wait) = (
                    stage.url(turn.through_proxy),
                    plan.locks.0[0],
                    plan.ending.wait(),
                );
                let begun = Instant::now();
                let guard = OwnedAdvisoryLockGuard::connect(&url, lock, wait).map(Some);
                if let Some(guard) = self.called(plan.ending, begun, guard) {
                    self.hold(guard, plan, None);
                }
            }
            (Source::GuardOfLockAware, Act::Guard(plan)) => self.on_pool(&stage.aware, plan),
            (Source::GuardOfDiesels, Act::Guard(plan)) => self.on_pool(&stage.diesels, plan),
            (source, act) => unreachable!("{source:?} takes no {act:?}"),
        }
    }

    fn plain_connection(&mut self, through_proxy: bool) -> Option<PgConnection> {
        if let Some(conn) = self.plain.take() {
            return Some(conn);
        }
        let conn = PgConnection::establish(&self.stage.url(through_proxy));
        self.judged("connection", conn.map_err(LockError::from))
            .or_else(|| {
                // The server starts again.
                thread::sleep(Duration::from_millis(20));
                None
            })
    }

    fn on_pooled<M>(&mut self, pool: &Pool<M>, turn: &Turn)
    where
        M: ManageConnection<Connection: LoadConnection<Backend = Pg> + R2D2Connection>,
    {
        let conn: Option<PooledConnection<M>> =
            self.judged("pool", pool.get().map_err(LockError::from));
        if let Some(mut conn) = conn {
            self.on(&mut conn, turn);
        }
    }

    fn on_pool<M>(&mut self, pool: &Pool<M>, plan: &GuardPlan)
    where
        M: ManageConnection<Connection: LoadConnection<Backend = Pg> + R2D2Connection>,
    {
        // The one of the turn before may not have gone away.
        self.limit = Some(Limit::Statement(0));
        let (lock, begun) = (plan.locks.0[0], Instant::now());
        let guard = match plan.ending {
            Ending::Block => pool.advisory_lock(lock).map(Some),
            Ending::NoWait => pool.advisory_lock_nowait(lock).map(Some),
            Ending::Timeout(timeout) => pool.advisory_lock_timeout(lock, timeout).map(Some),
            Ending::Try | Ending::SkipLocked => pool.try_advisory_lock(lock),
        };
        // The wait for a connection comes on top.
        let begun = begun + pool.connection_timeout();
        if let Some(guard) = self.called(plan.ending, begun, guard) {
            self.hold(guard, plan, None);
        }
    }

    /// Takes the turn on a connection, and says whether that can be used again.
    fn on<C: LoadConnection<Backend = Pg>>(&mut self, conn: &mut C, turn: &Turn) -> bool {
        self.is_lost = false;
        // The hand may get in the way here too; then there is no turn.
        if set_timeouts(conn, turn.limit).is_err() {
            return false;
        }
        self.look_for_locks(conn, "was lent");
        match &turn.act {
            Act::Guard(plan) => self.guard(conn, plan),
            Act::WithAdvisoryLock { lock, fate } => {
                let done =
                    conn.with_advisory_lock(*lock, |conn| self.work(conn, held(&[*lock]), *fate));
                self.judged("with_advisory_lock", done);
            }
            _ => self.transaction(conn, &turn.act),
        }
        if set_timeouts(conn, None).is_err() {
            return false;
        }
        self.look_for_locks(conn, "was left")
    }

    /// Looks for advisory locks without a guard, and says whether the connection answers.
    fn look_for_locks<C: LoadConnection<Backend = Pg>>(&mut self, conn: &mut C, it: &str) -> bool {
        let locks = sql::<BigInt>(
            "SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'advisory'",
        );
        match locks.get_result::<i64>(conn) {
            Ok(0) if self.is_lost => {
                self.find("a connection that was lost answers".to_owned());
                false
            }
            Ok(0) => true,
            Ok(locks) => {
                self.find(format!(
                    "a connection {it} with {locks} locks without a guard"
                ));
                false
            }
            Err(_) => false,
        }
    }
}
