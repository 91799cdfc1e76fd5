use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, Scope, ScopedJoinHandle};
use std::{mem, ptr};

use crossbeam::channel::{self, Sender};
use diesel::connection::{
    Instrumentation, InstrumentationEvent, LoadConnection, TransactionManager,
};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Integer};
use diesel::{QueryResult, RunQueryDsl};

use super::end::End;
use super::gate::{Gate, shared};
use super::hook::Hook;
use super::program::Connect;
use super::session::{SessionBody, SessionKind};
use super::steps::StepResult;
use crate::chain::words;
use crate::sessions::{Execution, LET_GO, SessionError};

type Job<'e, C> = Box<dyn FnOnce(&mut C) + Send + 'e>;

/// A session's thread, with its connection.
pub(super) struct Worker<'s, 'e, C> {
    thread: ScopedJoinHandle<'s, C>,
    connect: &'e Connect<'e, C>,
    jobs: Sender<Job<'e, C>>,
    pub(super) gate: Arc<Gate>,
    execution: Arc<Execution>,
    index: usize,
    /// Its connection looks for a deadlock soon.
    pub(super) finds_deadlocks: bool,
}

impl<'s, 'e, C> Worker<'s, 'e, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    'e: 's,
{
    pub(super) fn start(
        scope: &'s Scope<'s, '_>,
        execution: &Arc<Execution>,
        session: &SessionBody<'_, C>,
        connect: &'e Connect<'e, C>,
        own: Connected<C>,
    ) -> Result<Self, SessionError> {
        let Some(index) = execution.enter(&session.name, own.backend_pid) else {
            return Err(SessionError::Duplicate {
                session: session.name.clone(),
            });
        };
        let holds = session.kind != SessionKind::Steps;
        let gate = Arc::new(Gate::new(index, execution, holds));
        let (sender, jobs) = channel::unbounded::<Job<'e, C>>();
        let leaving = Leaving(Arc::clone(execution), index);
        let thread = thread::Builder::new()
            // A name that no thread can have is no reason to panic.
            .name(format!("session {}", session.name.replace('\0', "")))
            .spawn_scoped(scope, move || {
                let _leaving = leaving;
                let mut conn = own.conn;
                for job in jobs {
                    job(&mut conn);
                }
                // A connection that is lost has let go.
                let _ = conn.batch_execute(&format!("{LET_GO}; RESET deadlock_timeout"));
                conn
            })
            .map_err(SessionError::Thread)?;
        Ok(Self {
            thread,
            connect,
            jobs: sender,
            gate,
            execution: Arc::clone(execution),
            index,
            finds_deadlocks: own.finds_deadlocks && session.kind != SessionKind::Call,
        })
    }

    /// Begins what the session does. It stops at its first step. If it is ended on its way, it may
    /// begin again.
    pub(super) fn begin(&self, session: &'e SessionBody<'e, C>, retries: bool) {
        self.gate.begin();
        let gate = Arc::clone(&self.gate);
        let (connect, execution, index) = (self.connect, Arc::clone(&self.execution), self.index);
        self.send(move |conn| {
            let mut end = shared::within(&gate, || (session.body)(conn, &gate));
            if end.has_crashed {
                // On a connection that was cut there is nothing to let go of.
                let _ = conn.batch_execute(LET_GO);
            }
            if end.has_crashed && retries && gate.revive() {
                end = match Connected::open(connect) {
                    Ok(new) => {
                        *conn = new.conn;
                        execution.reenter(index, new.backend_pid);
                        shared::within(&gate, || (session.body)(conn, &gate))
                    }
                    Err(error) => End {
                        has_failed: true,
                        panic: Some(format!("no connection: {}", words(&*error))),
                        ..End::default()
                    },
                };
            }
            gate.end(end);
        });
    }

    /// Gives back whatever the session has, and says whether it is fit for the next schedule.
    pub(super) fn reset(&self) -> impl FnOnce() -> bool + use<C> {
        let (sender, done) = channel::bounded(1);
        self.send(move |conn| {
            let is_reset = conn.batch_execute(LET_GO).is_ok();
            let status = C::TransactionManager::transaction_manager_status_mut(conn);
            let is_fit = is_reset && matches!(status.transaction_depth(), Ok(None));
            // Where nobody wants to know, all is over.
            let _ = sender.send(is_fit);
        });
        move || done.recv().unwrap_or(false)
    }

    fn send(&self, job: impl FnOnce(&mut C) + Send + 'e) {
        // A thread that is gone is seen by the execution.
        let _ = self.jobs.send(Box::new(move |conn| {
            let _ = panic::catch_unwind(AssertUnwindSafe(|| job(conn)));
        }));
    }
}

/// Ends the sessions. All have let go before any disconnects: that keeps the server busy.
pub(super) fn end<C>(workers: &mut Vec<Worker<'_, '_, C>>) {
    for worker in &*workers {
        worker.gate.stop();
        if worker.execution.is_running(worker.index) {
            worker.execution.stop(worker.index);
        }
    }
    let threads: Vec<_> = workers.drain(..).map(|worker| worker.thread).collect();
    let connections: Vec<_> = threads.into_iter().map(ScopedJoinHandle::join).collect();
    drop(connections);
}

/// Says that a session has ended, however that comes.
struct Leaving(Arc<Execution>, usize);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// A connection for a session.
pub(super) struct Connected<C> {
    conn: C,
    backend_pid: i32,
    /// It looks for a deadlock soon.
    finds_deadlocks: bool,
}

impl<C> Connected<C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    pub(super) fn open(connect: &Connect<'_, C>) -> StepResult<Self> {
        let mut conn = connect()?;
        let (backend_pid, finds_deadlocks) = prepare(&mut conn)?;
        hook(&mut conn, connect)?;
        Ok(Self {
            conn,
            backend_pid,
            finds_deadlocks,
        })
    }
}

/// Has the server find a deadlock soon, where the role may say so, and returns its process, and
/// whether it does.
fn prepare<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<(i32, bool)> {
    let asked = diesel::select(sql::<(Integer, Bool)>(
        "pg_catalog.pg_backend_pid(), CASE \
         WHEN pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on' \
         THEN pg_catalog.set_config('deadlock_timeout', '1ms', false) IS NOT NULL ELSE false END",
    ));
    asked.get_result(conn)
}

/// Puts the hook into a connection, before the instrumentation that it has.
fn hook<C>(conn: &mut C, connect: &Connect<'_, C>) -> StepResult
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    // It can't be taken out. Another connection has one like it.
    let donor = match has_instrumentation(conn.instrumentation()) {
        true => Some(Donor(connect()?)),
        false => None,
    };
    diesel_locks::set_instrumentation(conn, Hook::new(donor));
    Ok(())
}

/// Whether there is any. Diesel answers with a part of the connection if there is none, and else
/// with what is in a box, in which something of no size has no place.
fn has_instrumentation(instrumentation: &dyn Instrumentation) -> bool {
    mem::size_of_val(instrumentation) > 0
        || ptr::from_ref(instrumentation).addr() == mem::align_of_val(instrumentation)
}

/// A connection that lends its instrumentation.
struct Donor<C>(C);

impl<C> Instrumentation for Donor<C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        self.0.instrumentation().on_connection_event(event);
    }
}
