use std::error::Error;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Arc;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::result::Error as DieselError;
use diesel_locks::{Condition, LockError, condition};

use super::error::ExplorerError;
use super::position::{Position, guarded, job, lock};
use super::program::{Connect, Prepare, Program, full_name};
use super::report::{Problem, Run, SessionEnd};
use super::schedule::Schedule;
use crate::chain::{chain, words};
use crate::sessions::{Execution, LET_GO, Pending, Session, SessionError, StepError, Until};
use crate::transcript::Transcript;

type BoxError = Box<dyn Error + Send + Sync>;

/// The connections of one database, which run one schedule after the other.
pub(super) struct Runner<'a, 'e, C, S> {
    program: &'a Program<'e, C, S>,
    connect: &'a Connect<'e, C>,
    control: C,
    execution: Arc<Execution>,
    sessions: Vec<Session<C>>,
}

impl<'a, 'e, C, S> Runner<'a, 'e, C, S>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    S: Default + Send + 'static,
{
    pub(super) fn open(
        program: &'a Program<'e, C, S>,
        connect: &'a Connect<'e, C>,
    ) -> Result<Self, ExplorerError> {
        let connect_as = |session: &str| {
            connect().map_err(|source| SessionError::Connect {
                session: session.to_owned(),
                source,
            })
        };
        let control = connect_as("control")?;
        let execution = Arc::new(Execution::with_names(connect_as("observer")?)?);
        let mut sessions = Vec::new();
        for (name, _) in &program.sessions {
            sessions.push(Session::open(&execution, name, connect_as(name)?)?);
        }
        Ok(Self {
            program,
            connect,
            control,
            execution,
            sessions,
        })
    }

    /// Runs one schedule, and leaves the sessions as they were.
    pub(super) fn run(&mut self, schedule: &mut Schedule) -> Result<Run, ExplorerError> {
        prepare("setup", &self.program.setup, &mut self.control)?;
        let ran = panic::catch_unwind(AssertUnwindSafe(|| self.execute(schedule)));
        prepare("teardown", &self.program.teardown, &mut self.control)?;
        ran.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Does the steps, and looks at the invariants.
    fn execute(&mut self, schedule: &mut Schedule) -> Result<Run, ExplorerError> {
        self.execution.begin(self.program.timeout);
        let mut positions: Vec<Position<S>> =
            self.sessions.iter().map(|_| Position::new()).collect();
        let mut run = Run {
            schedule: String::new(),
            problems: Vec::new(),
            transcript: Transcript::default(),
        };
        let ended = self.take_steps(schedule, &mut positions, &mut run);
        if ended.is_err() {
            // What they hold is in the way of the teardown.
            self.sessions.clear();
        }
        let ended = ended?;
        run.transcript = self.execution.transcript();
        let reset = ended && self.reset();
        if ended {
            self.check(positions, &mut run);
        }
        if !reset {
            self.sessions.clear();
            *self = Self::open(self.program, self.connect)?;
        }
        Ok(run)
    }

    /// Does the steps in the order of the schedule, and says whether all sessions came to an end.
    fn take_steps(
        &self,
        schedule: &mut Schedule,
        positions: &mut [Position<S>],
        run: &mut Run,
    ) -> Result<bool, ExplorerError> {
        loop {
            if !self.settle(Until::Settled, positions, run)? {
                return Ok(false);
            }
            if self.execution.is_deadlocked() {
                // What others do meanwhile would depend on how soon the server ends it.
                if !self.settle(Until::OneEnded, positions, run)? {
                    return Ok(false);
                }
                continue;
            }
            let can_go_on = |&session: &usize| {
                let (position, (_, steps)) = (&positions[session], &self.program.sessions[session]);
                position.pending.is_none() && !position.failed && position.next < steps.len()
            };
            let enabled: Vec<usize> = (0..positions.len()).filter(can_go_on).collect();
            if !enabled.is_empty() {
                let session = schedule.choose(&enabled);
                self.launch(session, &mut positions[session], run);
            } else if positions.iter().all(|position| position.pending.is_none()) {
                return Ok(true);
            } else if !self.settle(Until::OneEnded, positions, run)? {
                // They waited for what ends by itself, and one has hung.
                return Ok(false);
            }
        }
    }

    fn launch(&self, session: usize, position: &mut Position<S>, run: &mut Run) {
        let (name, steps) = &self.program.sessions[session];
        let (label, step) = &steps[position.next];
        position.next += 1;
        let full_name = full_name(name, label);
        if !run.schedule.is_empty() {
            run.schedule.push(' ');
        }
        run.schedule.push_str(&full_name);
        let job = job(Arc::clone(step), Arc::clone(&position.state));
        position.pending = Some((full_name, self.sessions[session].start(label, job)));
    }

    /// Waits for the steps that are under way, takes note of those that have ended, and says
    /// whether none has hung.
    fn settle(
        &self,
        until: Until,
        positions: &mut [Position<S>],
        run: &mut Run,
    ) -> Result<bool, ExplorerError> {
        let is_busy = |&session: &usize| positions[session].pending.is_some();
        let busy: Vec<usize> = (0..positions.len()).filter(is_busy).collect();
        match self.execution.wait(&busy, until) {
            Err(SessionError::Step {
                session,
                step,
                problem,
                ..
            }) => {
                let step = full_name(&session, &step);
                run.problems.push(Problem::Broken { step, problem });
                return Ok(false);
            }
            waited => waited?,
        }
        for session in busy {
            let position = &mut positions[session];
            let ended = position
                .pending
                .take_if(|(_, pending)| pending.is_finished());
            if let Some((step, pending)) = ended {
                let problem = self.problem(step, pending.join(), &mut position.failed)?;
                run.problems.extend(problem);
            }
        }
        Ok(true)
    }

    /// What is wrong with how a step ended, and whether it failed.
    fn problem(
        &self,
        step: String,
        ended: Result<(), StepError<BoxError>>,
        failed: &mut bool,
    ) -> Result<Option<Problem>, ExplorerError> {
        *failed = ended.is_err();
        let error = match ended {
            Ok(()) => return Ok(None),
            Err(StepError::Broken(SessionError::Step { problem, .. })) => {
                return Ok(Some(Problem::Broken { step, problem }));
            }
            Err(StepError::Broken(error)) => return Err(error.into()),
            Err(StepError::Failed(error)) => match error.downcast::<DieselError>() {
                Ok(error) => LockError::from(*error).into(),
                Err(error) => error,
            },
        };
        let allowed = |error: &LockError| (self.program.allowed)(error);
        let known = chain(&*error).find_map(|error| error.downcast_ref());
        if known.is_some_and(allowed) {
            return Ok(None);
        }
        Ok(Some(
            match condition(&*error) == Some(Condition::Deadlock) {
                true => Problem::Deadlock { step, error },
                false => Problem::Failed { step, error },
            },
        ))
    }

    /// Has every session let go of what it has, and says whether it is fit for the next schedule.
    fn reset(&self) -> bool {
        let let_go = |conn: &mut C| conn.batch_execute(LET_GO);
        let pending: Vec<_> = (self.sessions.iter())
            .map(|session| session.start("reset", let_go))
            .collect();
        let reset: Vec<_> = pending.into_iter().map(Pending::join).collect();
        reset.iter().all(Result::is_ok)
    }

    /// Looks at the invariants.
    fn check(&mut self, positions: Vec<Position<S>>, run: &mut Run) {
        let sessions = positions.into_iter().zip(&self.program.sessions);
        let ends: Vec<_> = sessions
            .map(|(position, (name, _))| SessionEnd {
                name: name.clone(),
                state: mem::take(&mut *lock(&position.state)),
                failed: position.failed,
            })
            .collect();
        for (name, holds) in &self.program.invariants {
            let reason = match guarded(|| holds(&mut self.control, &ends)) {
                Ok(true) => continue,
                Ok(false) => None,
                Err(error) => Some(words(&*error)),
            };
            let name = name.clone();
            run.problems.push(Problem::Invariant { name, reason });
        }
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
