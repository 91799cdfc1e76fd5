use std::error::Error;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex};
use std::thread::Scope;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::circle;
use super::connections::{open_own, open_sessions};
use super::control::Control;
use super::end::End;
use super::ends;
use super::error::ExplorerError;
use super::model::Knowledge;
use super::problem::{Problem, SessionEnd};
use super::program::{Connect, Prepare, Program};
use super::ran::{Ran, lock};
use super::run::Steering;
use super::schedule::Schedule;
use super::scout::Scout;
use super::session::SessionKind;
use super::steps::StepResult;
use super::verdict;
use super::worker::{self, Worker};
use crate::chain::words;
use crate::panics;
use crate::sessions::{Execution, SessionError};

/// The connections of one database, which run one schedule after the other.
pub(super) struct Runner<'r, 's, 'env, C>
where
    C: LoadConnection<Backend = Pg>,
{
    program: &'r Program<'r, C>,
    connect: &'r Connect<'r, C>,
    scope: &'s Scope<'s, 'env>,
    knowledge: &'r Mutex<Knowledge>,
    /// Those of the sessions first: they have something to say when they end.
    workers: Vec<Worker<'r, C>>,
    control: Control<C>,
    scout: Scout<C>,
    execution: Arc<Execution>,
    /// How long a schedule may take.
    pub(super) limit: Duration,
}

/// How often a schedule is run again in which a deadlock was found late.
const ATTEMPTS: usize = 5;

impl<'r, 's, 'env, C> Runner<'r, 's, 'env, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    'r: 's,
{
    pub(super) fn open(
        program: &'r Program<'r, C>,
        connect: &'r Connect<'r, C>,
        scope: &'s Scope<'s, 'env>,
        knowledge: &'r Mutex<Knowledge>,
    ) -> Result<Self, ExplorerError> {
        let (control, scout) = open_own(connect, program.timeout)?;
        let execution = Execution::with_names(scout.clone());
        Ok(Self {
            program,
            connect,
            scope,
            knowledge,
            workers: Vec::new(),
            control,
            scout,
            execution: Arc::new(execution),
            limit: program.timeout,
        })
    }

    /// Runs one schedule, and leaves the sessions as they were.
    ///
    /// On a machine that is busy, a session may look for a deadlock so late that another one is in
    /// the circle by then. That is another run than the one that was asked for, which is run again.
    pub(super) fn run(&mut self, schedule: Schedule) -> Result<Ran, ExplorerError> {
        let mut ran = self.run_once(schedule.clone())?;
        for _ in 0..ATTEMPTS {
            if !ran.is_late {
                break;
            }
            ran = self.run_once(schedule.clone())?;
        }
        ran.is_chosen |= ran.is_late;
        Ok(ran)
    }

    fn run_once(&mut self, schedule: Schedule) -> Result<Ran, ExplorerError> {
        self.control.reset();
        prepare("setup", &self.program.setup, &mut self.control.conn)?;
        self.control.let_go();
        let ran = panic::catch_unwind(AssertUnwindSafe(|| self.execute(schedule)));
        prepare("teardown", &self.program.teardown, &mut self.control.conn)?;
        ran.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Looks at the schema that the setup has made. In the first run, the sessions connect meanwhile.
    fn get_ready(&mut self) -> Result<(), SessionError> {
        let look = || {
            let mut knowledge = lock(self.knowledge);
            let looked = self.scout.ask(|conn| knowledge.shapes.look(conn));
            looked.map_err(SessionError::Observe)
        };
        if !self.workers.is_empty() {
            return look();
        }
        let (sessions, ()) = open_sessions(self.program, self.connect, look)?;
        let sessions = self.program.sessions.iter().zip(sessions);
        self.workers = sessions
            .map(|(session, own)| {
                Worker::start(self.scope, &self.execution, session, self.connect, own)
            })
            .collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Does the steps, and looks at the invariants.
    fn execute(&mut self, schedule: Schedule) -> Result<Ran, ExplorerError> {
        self.get_ready()?;
        self.execution.begin(self.limit);
        let mut steering = Steering::new(
            self.program,
            self.knowledge,
            &self.execution,
            &self.workers,
            &self.scout,
            schedule,
        );
        let taken = steering.take_steps();
        let (mut ran, ended) = steering.into_ran();
        if taken.is_err() {
            // What they hold is in the way of the teardown.
            worker::end(&mut self.workers);
        }
        taken?;
        ran.run.transcript = self.execution.transcript();
        let mut is_reset = ended;
        if ended {
            let ends: Vec<End> = (self.workers.iter())
                .map(|worker| worker.gate.take_end().unwrap_or_default())
                .collect();
            is_reset = self.reset() && ran.crashed.is_none();
            self.check(ends, &mut ran)?;
        }
        if !is_reset {
            worker::end(&mut self.workers);
            *self = Self::open(self.program, self.connect, self.scope, self.knowledge)?;
        }
        Ok(ran)
    }

    /// Has every session let go of what it has, and says whether it is fit for the next schedule.
    fn reset(&self) -> bool {
        let resets: Vec<_> = self.workers.iter().map(Worker::reset).collect();
        let reset: Vec<bool> = resets.into_iter().map(|reset| reset()).collect();
        reset.into_iter().all(|is_fit| is_fit)
    }

    /// Looks at how it has ended, and at the invariants.
    fn check(&mut self, ends: Vec<End>, ran: &mut Ran) -> Result<(), ExplorerError> {
        let is_whole = (0..ends.len()).all(|session| ran.takes_part(session));
        let mut session_ends = Vec::new();
        for (session, end) in ends.into_iter().enumerate() {
            session_ends.push(self.check_session(session, end, ran)?);
        }
        self.read_tables(ran);
        if is_whole {
            self.check_invariants(&session_ends, ran);
        }
        Ok(())
    }

    /// Looks at how one session has ended.
    fn check_session(
        &self,
        session: usize,
        mut end: End,
        ran: &mut Ran,
    ) -> Result<SessionEnd, ExplorerError> {
        let known = &self.program.sessions[session];
        let gate = &self.workers[session].gate;
        let takes_part = ran.takes_part(session);
        if known.kind == SessionKind::Call && takes_part && end.panic.is_none() && !gate.has_sent()
        {
            return Err(ExplorerError::Unseen {
                session: known.name.clone(),
            });
        }
        let cause = gate.take_last_error();
        let result = match takes_part {
            true => verdict::result(&end, cause.as_ref()),
            false => String::new(),
        };
        ran.ending.results.push((known.name.clone(), result));
        let session_end = SessionEnd {
            name: known.name.clone(),
            failed: end.has_failed,
            state: end.state.take(),
        };
        if takes_part {
            let failed = cause.as_ref().and_then(|_| ran.run.failed_step(session));
            let step = failed.unwrap_or_else(|| ran.run.last_step(session));
            let mut verdict = verdict::verdict(self.program, step, end, cause);
            if let Some(Problem::Deadlock { circle, .. }) = &mut verdict.problem {
                let names: Vec<&str> = (self.program.sessions.iter())
                    .map(|session| session.name.as_str())
                    .collect();
                let shapes = &lock(self.knowledge).shapes;
                *circle = circle::circle(&ran.record, &ran.run.steps, shapes, &names, session);
            }
            ran.excused.extend(verdict.is_excused.then_some(session));
            ran.run.problems.extend(verdict.problem);
        }
        Ok(session_end)
    }

    /// Reads what the tables have in the end.
    fn read_tables(&mut self, ran: &mut Ran) {
        let knowledge = lock(self.knowledge);
        let conn = &mut self.control.conn;
        match ends::tables(conn, &knowledge.shapes, &self.program.ignored) {
            Ok((tables, compared)) => {
                ran.ending.tables = tables;
                ran.ending.compared = compared;
            }
            // Tables that can't be read are as good as none.
            Err(error) => ran.ending.tables = format!("{error}\n"),
        }
    }

    fn check_invariants(&mut self, session_ends: &[SessionEnd], ran: &mut Ran) {
        for (name, holds) in &self.program.invariants {
            let reason = match guarded(|| holds(&mut self.control.conn, session_ends)) {
                Ok(true) => continue,
                Ok(false) => None,
                Err(error) => Some(words(&*error)),
            };
            let name = name.clone();
            ran.run.problems.push(Problem::Invariant { name, reason });
        }
    }
}

impl<C> Drop for Runner<'_, '_, '_, C>
where
    C: LoadConnection<Backend = Pg>,
{
    fn drop(&mut self) {
        worker::end(&mut self.workers);
    }
}

/// Runs the setup or the teardown.
fn prepare<C>(
    what: &str,
    prepare: &Option<Prepare<'_, C>>,
    conn: &mut C,
) -> Result<(), ExplorerError> {
    let Some(prepare) = prepare else {
        return Ok(());
    };
    guarded(|| prepare(conn)).map_err(|source| ExplorerError::Prepare {
        what: what.to_owned(),
        source,
    })
}

/// Makes an error of a panic.
fn guarded<T>(work: impl FnOnce() -> StepResult<T>) -> StepResult<T> {
    panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|payload| {
        let message: Box<dyn Error + Send + Sync> = panics::message(&*payload).into();
        Err(message)
    })
}
