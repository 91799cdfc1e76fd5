//! A thread that takes locks of every kind, in every way, and tells what it saw.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::{LoadConnection, SimpleConnection, TransactionManager};
use diesel::dsl::sql;
use diesel::pg::{Pg, PgConnection};
use diesel::prelude::*;
use diesel::r2d2::{ManageConnection, Pool, PooledConnection, R2D2Connection};
use diesel::result::Error;
use diesel::sql_types::BigInt;
use diesel_locks::prelude::*;
use diesel_locks::{
    AdvisoryLock, AdvisoryLockGuard, LockError, OwnedAdvisoryLockGuard, RowLock, TableLock, Wait,
};

use super::chance::Chance;
use super::judge::{self, READ_CLOCK, Reading, Section};
use super::stage::{Record, Stage};
use super::turn::{Act, End, Ending, Fate, GuardPlan, Limit, Source, Transaction, Turn, is_judged};
use crate::support::schema::{accounts, jobs};

/// How much later than its bound a call may return: the machine is busy, and the hand stops
/// backends and wires for less than a second.
const MARGIN: Duration = Duration::from_secs(8);

/// What an actor has done last.
pub(crate) type Operations = Arc<Mutex<VecDeque<String>>>;

pub(crate) struct Actor {
    name: String,
    stage: Arc<Stage>,
    chance: Chance,
    begun: Instant,
    operations: Operations,
    plain: Option<PgConnection>,
    /// The timeout that this turn has set.
    limit: Option<Limit>,
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

    fn say(&mut self, operation: String) {
        let mut operations = self.operations.lock().unwrap();
        if operations.len() == 16 {
            operations.pop_front();
        }
        operations.push_back(format!("{:.3?} {operation}", self.begun.elapsed()));
    }

    fn find(&mut self, finding: String) {
        self.say(format!("FOUND: {finding}"));
        self.stage
            .record(Record::Finding(format!("{}: {finding}", self.name)));
    }

    /// What succeeded; an error is judged.
    fn judged<T>(&mut self, doing: &str, result: Result<T, LockError>) -> Option<T> {
        let error = match result {
            Ok(done) => return Some(done),
            Err(error) => error,
        };
        self.say(format!("{doing}: {error:?}"));
        self.stage.record(Record::Count(judge::kind(&error)));
        self.is_lost |= matches!(&error, LockError::ConnectionLost { source }
            if !matches!(source, Error::BrokenTransactionManager));
        if !judge::is_expected(&error, self.limit) {
            self.find(format!("unexpected from {doing}: {error:?}"));
        }
        None
    }

    /// What a call that takes locks, of which each may be waited for, has come to.
    fn called<T>(
        &mut self,
        ending: Ending,
        locks: usize,
        begun: Instant,
        result: Result<Option<T>, LockError>,
    ) -> Option<T> {
        let bound = match ending {
            Ending::Block => Duration::MAX,
            Ending::Timeout(timeout) => MARGIN + timeout * locks as u32,
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
                if let Some(guard) = self.called(plan.ending, 1, begun, guard) {
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
        if let Some(guard) = self.called(plan.ending, 1, begun, guard) {
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

    fn guard<C: LoadConnection<Backend = Pg>>(&mut self, conn: &mut C, plan: &GuardPlan) {
        match plan.transaction {
            Transaction::Around(fate) => {
                let done = conn.transaction(|conn| {
                    self.take_guard(conn, plan, Some(fate));
                    end(conn, fate)
                });
                self.judged("transaction around a guard", done);
            }
            _ => self.take_guard(conn, plan, None),
        }
    }

    fn take_guard<C>(&mut self, conn: &mut C, plan: &GuardPlan, around: Option<Fate>)
    where
        C: LoadConnection<Backend = Pg>,
    {
        let begun = Instant::now();
        if let [lock] = plan.locks.0[..] {
            let guard = match plan.ending {
                Ending::Block => conn.advisory_lock(lock).map(Some),
                Ending::NoWait => conn.advisory_lock_nowait(lock).map(Some),
                Ending::Timeout(timeout) => conn.advisory_lock_timeout(lock, timeout).map(Some),
                Ending::Try | Ending::SkipLocked => conn.try_advisory_lock(lock),
            };
            if let Some(guard) = self.called(plan.ending, 1, begun, guard) {
                self.hold(guard, plan, around);
            }
        } else {
            let locks = plan.locks.0.clone();
            let guard = match plan.ending {
                Ending::Block => conn.advisory_lock_all(locks).map(Some),
                Ending::NoWait => conn.advisory_lock_all_nowait(locks).map(Some),
                Ending::Timeout(timeout) => {
                    conn.advisory_lock_all_timeout(locks, timeout).map(Some)
                }
                Ending::Try | Ending::SkipLocked => conn.try_advisory_lock_all(locks),
            };
            if let Some(guard) = self.called(plan.ending, plan.locks.0.len(), begun, guard) {
                self.hold(guard, plan, around);
            }
        }
    }

    /// Does what is planned under a guard, and ends it.
    fn hold<G: Guard>(&mut self, mut guard: G, plan: &GuardPlan, around: Option<Fate>) {
        let section = self.enter(guard.conn(), held(&plan.locks.0));
        if let Some(inner) = &plan.inner {
            self.guard(guard.conn(), inner);
        }
        if let Transaction::Inside(fate) = plan.transaction {
            let done = guard.conn().transaction(|conn| {
                dwell(conn)?;
                end(conn, fate)
            });
            self.judged("transaction under a guard", done);
        } else {
            let done = dwell(guard.conn());
            self.judged("work under a guard", done);
        }
        let is_held = guard.is_held();
        self.say(format!("is_held: {is_held:?}"));
        // Nothing but the guard lets go of its lock.
        if self.judged("is_held", is_held) == Some(false) {
            self.find(format!(
                "the lock vanished under its guard: {:?}",
                plan.locks
            ));
        }
        self.leave(section, guard.conn());
        if plan.in_haste {
            self.limit = Some(Limit::Statement(1));
            let set = set_timeouts(guard.conn(), self.limit);
            self.judged("haste", set.map_err(LockError::from));
        }
        if let Some(Fate::Abort | Fate::AbortUnnoticed) = around {
            let failed = abort(guard.conn());
            self.judged("abortion", failed);
        }
        match plan.end {
            End::Release => {
                let depth = depth(guard.conn());
                let released = guard.release();
                self.say(format!("release: {released:?}"));
                // Where Diesel has lost count of its transactions, it can't be helped.
                if depth.is_ok() && matches!(released, Err(LockError::TransactionAborted { .. })) {
                    self.find(format!("it was not let go: {released:?}"));
                }
                self.judged("release", released);
            }
            End::Drop => drop(guard),
            End::Panic => {
                let panic = catch_unwind(AssertUnwindSafe(move || {
                    let _guard = guard;
                    // Without the hook, which would print it.
                    resume_unwind(Box::new(()));
                }));
                assert!(panic.is_err());
            }
        }
    }

    fn transaction<C: LoadConnection<Backend = Pg>>(&mut self, conn: &mut C, act: &Act) {
        let begun = Instant::now();
        let done = match *act {
            Act::Xact {
                lock,
                ending,
                in_savepoint,
                fate,
            } => conn.transaction(|conn| {
                let mut xact = |conn: &mut C| {
                    let begun = Instant::now();
                    let taken = match ending {
                        Ending::Block => conn.advisory_xact_lock(lock).map(Some),
                        Ending::NoWait => conn.advisory_xact_lock_nowait(lock).map(Some),
                        Ending::Timeout(time) => {
                            conn.advisory_xact_lock_timeout(lock, time).map(Some)
                        }
                        _ => conn
                            .try_advisory_xact_lock(lock)
                            .map(|taken| taken.then_some(())),
                    };
                    match self.called(ending, 1, begun, taken) {
                        Some(()) => self.work(conn, held(&[lock]), fate),
                        None => Ok(()),
                    }
                };
                if in_savepoint {
                    conn.transaction(xact)
                } else {
                    xact(conn)
                }
            }),
            Act::TransactionWithAdvisoryLock {
                lock,
                wait,
                in_transaction,
                fate,
            } => {
                let mut with_lock = |conn: &mut C| {
                    let mut is_taken = false;
                    let done = conn.transaction_with_advisory_lock_wait(lock, wait, |conn| {
                        is_taken = true;
                        self.work(conn, held(&[lock]), fate)
                    });
                    let ending = match wait {
                        Wait::Block => Ending::Block,
                        Wait::NoWait => Ending::NoWait,
                        Wait::Timeout(timeout) => Ending::Timeout(timeout),
                    };
                    match done {
                        Err(error) if !is_taken => {
                            self.called::<()>(ending, 1, begun, Err(error));
                            Ok(())
                        }
                        done => done,
                    }
                };
                if in_transaction {
                    conn.transaction(with_lock)
                } else {
                    with_lock(conn)
                }
            }
            Act::Rows {
                first,
                last,
                shared,
                ending,
                fate,
            } => conn.transaction(|conn| {
                let begun = Instant::now();
                let rows = accounts::table.filter(accounts::id.between(first, last));
                let rows = rows.select(accounts::id);
                let locked: Result<Option<Vec<i32>>, _> = match ending {
                    Ending::Block if shared => conn
                        .select_locked(rows.lock_rows(RowLock::for_share()))
                        .map(Some),
                    Ending::Block => conn.select_for_update(rows).map(Some),
                    Ending::NoWait if shared => {
                        let lock = RowLock::for_share().nowait();
                        conn.select_locked(rows.lock_rows(lock)).map(Some)
                    }
                    Ending::NoWait => conn.select_for_update_nowait(rows).map(Some),
                    Ending::Timeout(time) => conn.select_for_update_timeout(rows, time).map(Some),
                    Ending::Try => conn.try_select_for_update(rows),
                    Ending::SkipLocked => conn.select_for_update_skip_locked(rows).map(Some),
                };
                let shared = shared && matches!(ending, Ending::Block | Ending::NoWait);
                match self.called(ending, 3, begun, locked) {
                    Some(ids) => {
                        let held = ids.iter().map(|id| (format!("row {id}"), !shared));
                        self.work(conn, held.collect(), fate)
                    }
                    None => Ok(()),
                }
            }),
            Act::Table {
                shared,
                ending,
                fate,
            } => conn.transaction(|conn| {
                let begun = Instant::now();
                let mode = if shared {
                    TableLock::Share
                } else {
                    TableLock::Exclusive
                };
                let locked = match ending {
                    Ending::Block => conn.lock_table::<jobs::table>(mode).map(Some),
                    Ending::NoWait => conn.lock_table_nowait::<jobs::table>(mode).map(Some),
                    Ending::Timeout(time) => {
                        conn.lock_table_timeout::<jobs::table>(mode, time).map(Some)
                    }
                    _ => conn
                        .try_lock_table::<jobs::table>(mode)
                        .map(|locked| locked.then_some(())),
                };
                match self.called(ending, 1, begun, locked) {
                    Some(()) => self.work(conn, vec![("table jobs".to_owned(), !shared)], fate),
                    None => Ok(()),
                }
            }),
            Act::Guard(_) | Act::WithAdvisoryLock { .. } => unreachable!("{act:?} needs none"),
        };
        self.judged("transaction", done);
    }

    /// A section, and then the fate of what it is in.
    fn work<C>(
        &mut self,
        conn: &mut C,
        held: Vec<(String, bool)>,
        fate: Fate,
    ) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let section = self.enter(conn, held);
        let done = dwell(conn);
        self.leave(section, conn);
        done?;
        end(conn, fate)
    }

    /// Reads the clock, through the connection that has the locks.
    fn enter<C>(&mut self, conn: &mut C, held: Vec<(String, bool)>) -> Option<Section>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let entered = diesel::sql_query(READ_CLOCK).get_result::<Reading>(conn);
        let entered = self.judged("entry", entered.map_err(LockError::from))?;
        self.say(format!("entered: {entered:?}"));
        Some(Section {
            actor: self.name.clone(),
            entered,
            left: None,
            held,
        })
    }

    fn leave<C>(&mut self, section: Option<Section>, conn: &mut C)
    where
        C: LoadConnection<Backend = Pg>,
    {
        let Some(mut section) = section else { return };
        let left = diesel::sql_query(READ_CLOCK).get_result::<Reading>(conn);
        if let Some(left) = self.judged("exit", left.map_err(LockError::from)) {
            if (left.era, left.pid) != (section.entered.era, section.entered.pid) {
                self.find(format!(
                    "another session: {left:?} after {:?}",
                    section.entered
                ));
            }
            section.left = Some(left.clock);
        }
        self.stage.record(Record::Section(section));
    }
}

/// What both kinds of guards have.
trait Guard {
    type Conn: LoadConnection<Backend = Pg>;
    fn conn(&mut self) -> &mut Self::Conn;
    fn is_held(&mut self) -> Result<bool, LockError>;
    fn release(self) -> Result<(), LockError>;
}

impl<C: LoadConnection<Backend = Pg>, L: AsRef<[AdvisoryLock]>> Guard
    for AdvisoryLockGuard<'_, C, L>
{
    type Conn = C;

    fn conn(&mut self) -> &mut C {
        self
    }

    fn is_held(&mut self) -> Result<bool, LockError> {
        self.is_held()
    }

    fn release(self) -> Result<(), LockError> {
        self.release()
    }
}

impl<C: LoadConnection<Backend = Pg>> Guard for OwnedAdvisoryLockGuard<C> {
    type Conn = C;

    fn conn(&mut self) -> &mut C {
        self
    }

    fn is_held(&mut self) -> Result<bool, LockError> {
        self.is_held()
    }

    fn release(self) -> Result<(), LockError> {
        self.release().map(drop)
    }
}

fn held(locks: &[AdvisoryLock]) -> Vec<(String, bool)> {
    let judged = locks.iter().filter(|lock| is_judged(lock));
    judged
        .map(|lock| (format!("{:?}", lock.key()), !lock.is_shared()))
        .collect()
}

fn set_timeouts<C: SimpleConnection>(conn: &mut C, limit: Option<Limit>) -> QueryResult<()> {
    let (statement, lock) = match limit {
        Some(Limit::Statement(time)) => (time.to_string(), "DEFAULT".to_owned()),
        Some(Limit::Lock(time)) => ("DEFAULT".to_owned(), time.to_string()),
        None => ("DEFAULT".to_owned(), "DEFAULT".to_owned()),
    };
    conn.batch_execute(&format!(
        "SET lock_timeout TO {lock}; SET statement_timeout TO {statement}"
    ))
}

fn depth<C: Connection>(conn: &mut C) -> QueryResult<Option<NonZeroU32>> {
    C::TransactionManager::transaction_manager_status_mut(conn).transaction_depth()
}

/// Gives others, and the hand, an opportunity.
fn dwell<C: SimpleConnection>(conn: &mut C) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT pg_sleep(0.01 * random())")?)
}

fn abort<C: SimpleConnection>(conn: &mut C) -> Result<(), LockError> {
    Ok(conn.batch_execute("SELECT 1 / 0")?)
}

fn end<C: SimpleConnection>(conn: &mut C, fate: Fate) -> Result<(), LockError> {
    match fate {
        Fate::Commit => Ok(()),
        Fate::Rollback => Err(Error::RollbackTransaction.into()),
        Fate::Abort => abort(conn),
        Fate::AbortUnnoticed => {
            // That it is aborted already is as good.
            let _ = abort(conn);
            Ok(())
        }
    }
}
