//! The connection on which the server is asked: what statements touch, and who waits for whom.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::SimpleConnection;

use crate::waits::{Observer, Stop};

/// All clones are one connection.
pub(super) struct Scout<C>(Arc<Mutex<C>>);

impl<C> Scout<C> {
    pub(super) fn new(conn: C) -> Self {
        Self(Arc::new(Mutex::new(conn)))
    }

    pub(super) fn ask<T>(&self, question: impl FnOnce(&mut C) -> T) -> T {
        question(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<C> Clone for Scout<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: SimpleConnection> SimpleConnection for Scout<C> {
    fn batch_execute(&mut self, query: &str) -> QueryResult<()> {
        self.ask(|conn| conn.batch_execute(query))
    }
}

impl<C: Observer> Observer for Scout<C> {
    fn backend_pid(&mut self) -> QueryResult<i32> {
        self.ask(Observer::backend_pid)
    }

    fn waits(&mut self, waiters: &[i32], all: &[i32]) -> QueryResult<Vec<(i32, i32)>> {
        self.ask(|conn| conn.waits(waiters, all))
    }

    fn waits_beside(
        &mut self,
        busy: &[i32],
        all: &[i32],
        since: Duration,
    ) -> QueryResult<Vec<(i32, i32)>> {
        self.ask(|conn| conn.waits_beside(busy, all, since))
    }

    fn waited_lock(&mut self, waiter: i32) -> QueryResult<String> {
        self.ask(|conn| conn.waited_lock(waiter))
    }

    fn is_there(&mut self, pid: i32) -> QueryResult<bool> {
        self.ask(|conn| conn.is_there(pid))
    }

    fn stop(&mut self, pid: i32, stop: Stop) -> QueryResult<()> {
        self.ask(|conn| conn.stop(pid, stop))
    }
}
