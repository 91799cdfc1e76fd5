//! Guards, and what happens under them.

use std::num::NonZeroU32;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use diesel::connection::{Connection, LoadConnection, TransactionManager};
use diesel::pg::Pg;
use diesel::result::QueryResult;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, AdvisoryLockGuard, LockError, OwnedAdvisoryLockGuard};

use super::actor::Actor;
use super::statements::{abort, dwell, end, held, set_timeouts};
use super::turn::{End, Ending, Fate, GuardPlan, Limit, Transaction};

impl Actor {
    pub(super) fn guard<C: LoadConnection<Backend = Pg>>(
        &mut self,
        conn: &mut C,
        plan: &GuardPlan,
    ) {
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
            if let Some(guard) = self.called(plan.ending, begun, guard) {
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
            if let Some(guard) = self.called(plan.ending, begun, guard) {
                self.hold(guard, plan, around);
            }
        }
    }

    /// Does what is planned under a guard, and ends it.
    pub(super) fn hold<G: Guard>(&mut self, mut guard: G, plan: &GuardPlan, around: Option<Fate>) {
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
}

/// What both kinds of guards have.
pub(super) trait Guard {
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

fn depth<C: Connection>(conn: &mut C) -> QueryResult<Option<NonZeroU32>> {
    C::TransactionManager::transaction_manager_status_mut(conn).transaction_depth()
}
