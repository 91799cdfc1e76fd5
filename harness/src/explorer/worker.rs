use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;
use std::thread::{self, Scope};
use std::time::{Duration, Instant};
use std::{mem, ptr};

use crossbeam::channel::{self, Receiver, Sender};
use diesel::connection::{
    Instrumentation, InstrumentationEvent, LoadConnection, TransactionManager,
};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::sql_types::{Bool, Integer, Text};
use diesel::{QueryResult, RunQueryDsl};

use super::end::End;
use super::gate::{Gate, shared};
use super::hook::{self, Hook};
use super::program::Connect;
use super::session::{SessionBody, SessionKind};
use super::steps::StepResult;
use crate::chain::words;
use crate::sessions::{Execution, LET_GO, SessionError};

type Job<'e, C> = Box<dyn FnOnce(&mut Connected<C>) + Send + 'e>;

/// How long sessions that end wait for each other before they disconnect.
const GRACE: Duration = Duration::from_millis(200);

/// A session's thread, with its connection.
pub(super) struct Worker<'e, C>
where
    C: LoadConnection<Backend = Pg>,
{
    connect: &'e Connect<'e, C>,
    /// The connection, when the thread has ended.
    left: Receiver<Connected<C>>,
    jobs: Sender<Job<'e, C>>,
    pub(super) gate: Arc<Gate>,
    execution: Arc<Execution>,
    index: usize,
    /// Its connection looks for a deadlock soon.
    pub(super) finds_deadlocks: bool,
}

impl<'e, C> Worker<'e, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    pub(super) fn start<'s>(
        scope: &'s Scope<'s, '_>,
        execution: &Arc<Execution>,
        session: &SessionBody<'_, C>,
        connect: &'e Connect<'e, C>,
        mut own: Connected<C>,
    ) -> Result<Self, SessionError>
    where
        'e: 's,
    {
        let Some(index) = execution.enter(&session.name, own.backend_pid) else {
            return Err(SessionError::Duplicate {
                session: session.name.clone(),
            });
        };
        let holds = session.kind != SessionKind::Steps;
        let gate = Arc::new(Gate::new(index, execution, holds));
        let (sender, jobs) = channel::unbounded::<Job<'e, C>>();
        let (leaves, left) = channel::bounded(1);
        let leaving = Leaving(Arc::clone(execution), index);
        let finds_deadlocks = own.had_timeout.is_some();
        thread::Builder::new()
            // A name that no thread can have is no reason to panic.
            .name(format!("session {}", session.name.replace('\0', "")))
            .spawn_scoped(scope, move || {
                let _leaving = leaving;
                for job in jobs {
                    job(&mut own);
                }
                // What sees its statements may panic.
                let _ = panic::catch_unwind(AssertUnwindSafe(|| own.let_go()));
                // Where nobody waits for it any more, it is closed here.
                let _ = leaves.send(own);
            })
            .map_err(SessionError::Thread)?;
        Ok(Self {
            connect,
            left,
            jobs: sender,
            gate,
            execution: Arc::clone(execution),
            index,
            finds_deadlocks: finds_deadlocks && session.kind != SessionKind::Call,
        })
    }

    /// Begins what the session does. It stops at its first step. If it is ended on its way, it may
    /// begin again.
    pub(super) fn begin(&self, session: &'e SessionBody<'e, C>, retries: bool) {
        self.gate.begin();
        let gate = Arc::clone(&self.gate);
        let (connect, execution, index) = (self.connect, Arc::clone(&self.execution), self.index);
        self.send(move |own| {
            let mut end = shared::within(&gate, || (session.body)(&mut own.conn, &gate));
            if end.has_crashed {
                // On a connection that was cut there is nothing to let go of.
                let _ = own.conn.batch_execute(LET_GO);
            }
            if end.has_crashed && retries && gate.revive() {
                end = match Connected::open(connect) {
                    Ok(new) => {
                        *own = new;
                        execution.reenter(index, own.backend_pid);
                        shared::within(&gate, || (session.body)(&mut own.conn, &gate))
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
        self.send(move |own| {
            let is_reset = own.conn.batch_execute(LET_GO).is_ok();
            let status = C::TransactionManager::transaction_manager_status_mut(&mut own.conn);
            let is_fit = is_reset && matches!(status.transaction_depth(), Ok(None));
            // Where nobody wants to know, all is over.
            let _ = sender.send(is_fit);
        });
        move || done.recv().unwrap_or(false)
    }

    fn send(&self, job: impl FnOnce(&mut Connected<C>) + Send + 'e) {
        // A thread that is gone is seen by the execution.
        let _ = self.jobs.send(Box::new(move |own| {
            let _ = panic::catch_unwind(AssertUnwindSafe(|| job(own)));
        }));
    }
}

/// Ends the sessions. All have let go before any disconnects: that keeps the server busy. One that
/// comes to no end so soon is not waited for: it may wait for another one's connection, or for what
/// the teardown does.
pub(super) fn end<C>(workers: &mut Vec<Worker<'_, C>>)
where
    C: LoadConnection<Backend = Pg>,
{
    for worker in &*workers {
        worker.gate.stop();
        if worker.execution.is_running(worker.index) {
            worker.execution.stop(worker.index);
        }
    }
    let left: Vec<_> = workers.drain(..).map(|worker| worker.left).collect();
    let deadline = Instant::now() + GRACE;
    let connections: Vec<_> = (left.iter())
        .filter_map(|left| left.recv_deadline(deadline).ok())
        .collect();
    drop(connections);
}

/// Says that a session has ended, however that comes.
struct Leaving(Arc<Execution>, usize);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.leave(self.1);
    }
}

/// A connection for a session. It is given back with the `deadlock_timeout` that it had.
pub(super) struct Connected<C>
where
    C: LoadConnection<Backend = Pg>,
{
    conn: C,
    backend_pid: i32,
    /// The `deadlock_timeout` that it had, if it looks for a deadlock soon.
    had_timeout: Option<String>,
    has_let_go: bool,
}

impl<C> Connected<C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    pub(super) fn open(connect: &Connect<'_, C>) -> StepResult<Self> {
        let mut conn = connect()?;
        let (prepared, is_hooked) = hook::is_told(|| prepare(&mut conn));
        let (backend_pid, had_timeout) = prepared?;
        let mut own = Self {
            conn,
            backend_pid,
            had_timeout,
            has_let_go: false,
        };
        if !is_hooked {
            put_hook(&mut own.conn, connect)?;
        }
        Ok(own)
    }
}

impl<C> Connected<C>
where
    C: LoadConnection<Backend = Pg>,
{
    fn let_go(&mut self) {
        if mem::replace(&mut self.has_let_go, true) {
            return;
        }
        // A connection that is lost has let go.
        let Some(had) = &self.had_timeout else {
            let _ = self.conn.batch_execute(LET_GO);
            return;
        };
        let reset = format!("SELECT pg_catalog.set_config('deadlock_timeout', '{had}', false)");
        if self
            .conn
            .batch_execute(&format!("{LET_GO}; {reset}"))
            .is_err()
        {
            // The session may have another role by now, and keeps it.
            let as_before = format!("{LET_GO}; BEGIN; SET LOCAL ROLE NONE; {reset}; COMMIT");
            let _ = self.conn.batch_execute(&as_before);
        }
    }
}

impl<C> Drop for Connected<C>
where
    C: LoadConnection<Backend = Pg>,
{
    fn drop(&mut self) {
        // What sees its statements may be what panics.
        if !thread::panicking() {
            self.let_go();
        }
    }
}

/// Has the server find a deadlock soon, where the role may say so. Returns its process, and the
/// `deadlock_timeout` that it had, where it has another one now.
fn prepare<C: LoadConnection<Backend = Pg>>(conn: &mut C) -> QueryResult<(i32, Option<String>)> {
    let asked = diesel::select(sql::<(Integer, Text, Bool)>(
        "pg_catalog.pg_backend_pid(), pg_catalog.current_setting('deadlock_timeout'), CASE \
         WHEN pg_catalog.current_setting('is_superuser') OPERATOR(pg_catalog.=) 'on' \
         THEN pg_catalog.set_config('deadlock_timeout', '1ms', false) IS NOT NULL ELSE false END",
    ));
    let (pid, had, is_set): (i32, String, bool) = asked.get_result(conn)?;
    Ok((pid, is_set.then_some(had)))
}

/// Puts the hook into a connection, before the instrumentation that it has.
fn put_hook<C>(conn: &mut C, connect: &Connect<'_, C>) -> StepResult
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
