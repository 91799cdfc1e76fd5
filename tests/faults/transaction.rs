//! Locks that end with their transaction.

use std::time::Instant;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel_locks::prelude::*;
use diesel_locks::{AdvisoryLock, LockError, RowLock, TableLockMode};

use super::actor::Actor;
use super::statements::held;
use super::turn::{Act, Ending, Fate};
use crate::support::schema::{accounts, jobs};

impl Actor {
    pub(super) fn transaction<C: LoadConnection<Backend = Pg>>(&mut self, conn: &mut C, act: &Act) {
        let done = match *act {
            Act::Xact {
                lock,
                ending,
                in_savepoint,
                fate,
            } => conn.transaction(|conn| {
                if in_savepoint {
                    conn.transaction(|conn| self.xact(conn, lock, ending, fate))
                } else {
                    self.xact(conn, lock, ending, fate)
                }
            }),
            Act::TransactionWithAdvisoryLock {
                lock,
                ending,
                in_transaction: true,
                fate,
            } => conn.transaction(|conn| self.transaction_with_lock(conn, lock, ending, fate)),
            Act::TransactionWithAdvisoryLock {
                lock, ending, fate, ..
            } => self.transaction_with_lock(conn, lock, ending, fate),
            Act::Rows {
                first,
                last,
                shared,
                ending,
                fate,
            } => conn.transaction(|conn| self.rows(conn, (first, last), shared, ending, fate)),
            Act::Table {
                shared,
                ending,
                fate,
            } => conn.transaction(|conn| self.table(conn, shared, ending, fate)),
            Act::Guard(_) | Act::WithAdvisoryLock { .. } => unreachable!("{act:?} needs none"),
        };
        self.judged("transaction", done);
    }

    fn xact<C>(
        &mut self,
        conn: &mut C,
        lock: AdvisoryLock,
        ending: Ending,
        fate: Fate,
    ) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let begun = Instant::now();
        let taken = match ending {
            Ending::Block => conn.advisory_xact_lock(lock).map(Some),
            Ending::NoWait => conn.advisory_xact_lock_nowait(lock).map(Some),
            Ending::Timeout(timeout) => conn.advisory_xact_lock_timeout(lock, timeout).map(Some),
            Ending::Try | Ending::SkipLocked => conn
                .try_advisory_xact_lock(lock)
                .map(|taken| taken.then_some(())),
        };
        match self.called(ending, begun, taken) {
            Some(()) => self.work(conn, held(&[lock]), fate),
            None => Ok(()),
        }
    }

    fn transaction_with_lock<C>(
        &mut self,
        conn: &mut C,
        lock: AdvisoryLock,
        ending: Ending,
        fate: Fate,
    ) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let (begun, mut is_taken) = (Instant::now(), false);
        let done = conn.transaction_with_advisory_lock_wait(lock, ending.wait(), |conn| {
            is_taken = true;
            self.work(conn, held(&[lock]), fate)
        });
        match done {
            Err(error) if !is_taken => {
                self.called::<()>(ending, begun, Err(error));
                Ok(())
            }
            done => done,
        }
    }

    fn rows<C>(
        &mut self,
        conn: &mut C,
        (first, last): (i32, i32),
        shared: bool,
        ending: Ending,
        fate: Fate,
    ) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let begun = Instant::now();
        let rows = accounts::table
            .filter(accounts::id.between(first, last))
            .select(accounts::id);
        let mut alone = true;
        let locked: Result<Option<Vec<i32>>, _> = match ending {
            Ending::Block if shared => {
                alone = false;
                let lock = RowLock::for_share();
                conn.select_locked(rows.lock_rows(lock)).map(Some)
            }
            Ending::NoWait if shared => {
                alone = false;
                let lock = RowLock::for_share().nowait();
                conn.select_locked(rows.lock_rows(lock)).map(Some)
            }
            Ending::Block => conn.select_for_update(rows).map(Some),
            Ending::NoWait => conn.select_for_update_nowait(rows).map(Some),
            Ending::Timeout(timeout) => conn.select_for_update_timeout(rows, timeout).map(Some),
            Ending::Try => conn.try_select_for_update(rows),
            Ending::SkipLocked => conn.select_for_update_skip_locked(rows).map(Some),
        };
        match self.called(ending, begun, locked) {
            Some(ids) => {
                let held = ids.iter().map(|id| (format!("row {id}"), alone));
                self.work(conn, held.collect(), fate)
            }
            None => Ok(()),
        }
    }

    fn table<C>(
        &mut self,
        conn: &mut C,
        shared: bool,
        ending: Ending,
        fate: Fate,
    ) -> Result<(), LockError>
    where
        C: LoadConnection<Backend = Pg>,
    {
        let begun = Instant::now();
        let mode = if shared {
            TableLockMode::Share
        } else {
            TableLockMode::Exclusive
        };
        let locked = match ending {
            Ending::Block => conn.lock_table(jobs::table, mode).map(Some),
            Ending::NoWait => conn.lock_table_nowait(jobs::table, mode).map(Some),
            Ending::Timeout(timeout) => conn
                .lock_table_timeout(jobs::table, mode, timeout)
                .map(Some),
            Ending::Try | Ending::SkipLocked => conn
                .try_lock_table(jobs::table, mode)
                .map(|locked| locked.then_some(())),
        };
        match self.called(ending, begun, locked) {
            Some(()) => self.work(conn, vec![("table jobs".to_owned(), !shared)], fate),
            None => Ok(()),
        }
    }
}
