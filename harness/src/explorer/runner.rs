use std::error::Error;
use std::mem;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;
use diesel::result::Error as DieselError;

use super::path::Path;
use super::report::{Problem, Run, SessionEnd};
use super::steps::{Step, StepResult};
use super::{Connect, Explorer, Prepare, full_name};
use crate::harness::session::{LET_GO, panic_message};
use crate::harness::stage::{Stage, Until};
use crate::harness::{HarnessError, Pending, Session, StepError, Transcript};
use crate::{LockError, error};

type BoxError = Box<dyn Error + Send + Sync>;

/// Has a step look for a deadlock soon, and the sooner, the more are waiting when it begins: of a
/// circle, the step that closes it is to look first.
const QUICK_DEADLOCKS: [&str; 3] = [
    "SET deadlock_timeout = '30ms'",
    "SET deadlock_timeout = '6ms'",
    "SET deadlock_timeout = '1ms'",
];
const USUAL_DEADLOCKS: &str = "RESET deadlock_timeout";

/// The connections of one database, which run one schedule after the other.
pub(super) struct Troupe<'a, 'e, C, S> {
    explorer: &'a Explorer<'e, C, S>,
    connect: &'a Connect<'e, C>,
    control: C,
    stage: Arc<Stage>,
    sessions: Vec<Session<C>>,
    /// Whether the role may set `deadlock_timeout`.
    quick_deadlocks: bool,
}

/// Where a session is in its steps.
struct Part<S> {
    state: Arc<Mutex<S>>,
    next: usize,
    /// The step that it does, with its name.
    pending: Option<(String, Pending<(), BoxError>)>,
    quick_deadlocks: bool,
    failed: bool,
}

impl<'a, 'e, C, S> Troupe<'a, 'e, C, S>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
    S: Default + Send + 'static,
{
    pub(super) fn open(
        explorer: &'a Explorer<'e, C, S>,
        connect: &'a Connect<'e, C>,
    ) -> Result<Self, HarnessError> {
        let connect_as = |session: &str| {
            connect().map_err(|source| HarnessError::ConnectSession {
                session: session.to_owned(),
                source,
            })
        };
        let mut control = connect_as("control")?;
        // A step that is not allowed to do this would fail. Here it is undone: a pool may lend
        // this connection to others.
        let set_and_reset = format!("{}; {USUAL_DEADLOCKS}", QUICK_DEADLOCKS[0]);
        let quick_deadlocks = control.batch_execute(&set_and_reset).is_ok();
        let stage = Arc::new(Stage::with_names(connect_as("observer")?)?);
        let mut sessions = Vec::new();
        for (name, _) in &explorer.sessions {
            sessions.push(Session::open(&stage, name, connect_as(name)?)?);
        }
        Ok(Self {
            explorer,
            connect,
            control,
            stage,
            sessions,
            quick_deadlocks,
        })
    }

    /// Runs one schedule, and leaves the sessions as they were.
    pub(super) fn run(&mut self, path: &mut Path) -> Result<Run, HarnessError> {
        prepare("setup", &self.explorer.setup, &mut self.control)?;
        let ran = panic::catch_unwind(AssertUnwindSafe(|| self.perform(path)));
        prepare("teardown", &self.explorer.teardown, &mut self.control)?;
        ran.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }

    /// Does the steps, and looks at the invariants.
    fn perform(&mut self, path: &mut Path) -> Result<Run, HarnessError> {
        self.stage.begin(self.explorer.timeout);
        let mut parts: Vec<Part<S>> = self.sessions.iter().map(|_| Part::new()).collect();
        let mut run = Run {
            schedule: String::new(),
            problems: Vec::new(),
            transcript: Transcript::default(),
        };
        let ended = self.act(path, &mut parts, &mut run);
        if ended.is_err() {
            // What they hold is in the way of the teardown.
            self.sessions.clear();
        }
        let ended = ended?;
        run.transcript = self.stage.transcript();
        let reset = ended && self.reset();
        if ended {
            self.check(parts, &mut run);
        }
        if !reset {
            self.sessions.clear();
            *self = Self::open(self.explorer, self.connect)?;
        }
        Ok(run)
    }

    /// Does the steps in the order of the path, and says whether all sessions came to an end.
    fn act(
        &self,
        path: &mut Path,
        parts: &mut [Part<S>],
        run: &mut Run,
    ) -> Result<bool, HarnessError> {
        loop {
            if !self.settle(Until::Settled, parts, run)? {
                return Ok(false);
            }
            if self.stage.is_deadlocked() {
                // What others do meanwhile would depend on how soon the server ends it.
                if !self.settle(Until::OneEnded, parts, run)? {
                    return Ok(false);
                }
                continue;
            }
            let can_go_on = |&session: &usize| {
                let (part, (_, steps)) = (&parts[session], &self.explorer.sessions[session]);
                part.pending.is_none() && !part.failed && part.next < steps.len()
            };
            let enabled: Vec<usize> = (0..parts.len()).filter(can_go_on).collect();
            let waiting = parts.iter().filter(|part| part.pending.is_some()).count();
            match (enabled.is_empty(), waiting) {
                (false, _) => {
                    let session = path.choose(&enabled);
                    self.launch(session, waiting, &mut parts[session], run);
                }
                (true, 0) => return Ok(true),
                // They wait for what ends by itself.
                (true, _) => {
                    if !self.settle(Until::OneEnded, parts, run)? {
                        return Ok(false);
                    }
                }
            }
        }
    }

    fn launch(&self, session: usize, waiting: usize, part: &mut Part<S>, run: &mut Run) {
        let (name, steps) = &self.explorer.sessions[session];
        let (label, step) = &steps[part.next];
        part.next += 1;
        let full_name = full_name(name, label);
        if !run.schedule.is_empty() {
            run.schedule.push(' ');
        }
        run.schedule.push_str(&full_name);
        let deadlocks = match (waiting, part.quick_deadlocks) {
            _ if !self.quick_deadlocks => None,
            (0, true) => Some(&USUAL_DEADLOCKS),
            (0, false) => None,
            (waiting, _) => QUICK_DEADLOCKS.get(waiting - 1).or(QUICK_DEADLOCKS.last()),
        };
        part.quick_deadlocks = waiting > 0;
        let job = job(
            Arc::clone(step),
            Arc::clone(&part.state),
            deadlocks.copied(),
        );
        part.pending = Some((full_name, self.sessions[session].start(label, job)));
    }

    /// Waits for the steps that are under way, takes note of those that have ended, and says
    /// whether none has hung.
    fn settle(
        &self,
        until: Until,
        parts: &mut [Part<S>],
        run: &mut Run,
    ) -> Result<bool, HarnessError> {
        let is_busy = |&session: &usize| parts[session].pending.is_some();
        let busy: Vec<usize> = (0..parts.len()).filter(is_busy).collect();
        match self.stage.wait(&busy, until) {
            Err(HarnessError::Step {
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
            let part = &mut parts[session];
            let ended = part.pending.take_if(|(_, pending)| pending.is_finished());
            if let Some((step, pending)) = ended {
                let problem = self.problem(step, pending.join(), &mut part.failed)?;
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
    ) -> Result<Option<Problem>, HarnessError> {
        *failed = ended.is_err();
        let error = match ended {
            Ok(()) => return Ok(None),
            Err(StepError::Broken(HarnessError::Step { problem, .. })) => {
                return Ok(Some(Problem::Broken { step, problem }));
            }
            Err(StepError::Broken(error)) => return Err(error),
            Err(StepError::Failed(error)) => match error.downcast::<DieselError>() {
                Ok(error) => LockError::from(*error).into(),
                Err(error) => error,
            },
        };
        let allowed = |error: &LockError| (self.explorer.allowed)(error);
        let known = error::chain(&*error).find_map(|error| error.downcast_ref());
        if known.is_some_and(allowed) {
            return Ok(None);
        }
        Ok(Some(match error::is_deadlock(&*error) {
            true => Problem::Deadlock { step, error },
            false => Problem::Failed { step, error },
        }))
    }

    /// Has every session let go of what it has, and says whether it is fit for the next schedule.
    fn reset(&self) -> bool {
        let let_go = |conn: &mut C| conn.batch_execute(&format!("{LET_GO}; {USUAL_DEADLOCKS}"));
        let pending: Vec<_> = (self.sessions.iter())
            .map(|session| session.start("reset", let_go))
            .collect();
        let reset: Vec<_> = pending.into_iter().map(Pending::join).collect();
        reset.iter().all(Result::is_ok)
    }

    /// Looks at the invariants.
    fn check(&mut self, parts: Vec<Part<S>>, run: &mut Run) {
        let sessions = parts.into_iter().zip(&self.explorer.sessions);
        let ends: Vec<_> = sessions
            .map(|(part, (name, _))| SessionEnd {
                name: name.clone(),
                state: mem::take(&mut *lock(&part.state)),
                failed: part.failed,
            })
            .collect();
        for (name, holds) in &self.explorer.invariants {
            let reason = match guarded(|| holds(&mut self.control, &ends)) {
                Ok(true) => continue,
                Ok(false) => None,
                Err(error) => Some(error::words(&*error)),
            };
            let name = name.clone();
            run.problems.push(Problem::Invariant { name, reason });
        }
    }
}

impl<S: Default> Part<S> {
    fn new() -> Self {
        Self {
            state: Arc::default(),
            next: 0,
            pending: None,
            quick_deadlocks: false,
            failed: false,
        }
    }
}

/// A step as its session does it: one that fails has its transaction rolled back at once, so that
/// nobody waits for it.
fn job<C, S>(
    step: Step<C, S>,
    state: Arc<Mutex<S>>,
    deadlocks: Option<&'static str>,
) -> impl FnOnce(&mut C) -> StepResult
where
    C: LoadConnection<Backend = Pg>,
{
    move |conn| {
        if let Some(deadlocks) = deadlocks {
            conn.batch_execute(deadlocks)?;
        }
        let done = panic::catch_unwind(AssertUnwindSafe(|| step(conn, &mut lock(&state))));
        if !matches!(done, Ok(Ok(()))) {
            // On a connection that is lost there is nothing to roll back.
            let _ = conn.batch_execute("ROLLBACK");
        }
        done.unwrap_or_else(|payload| panic::resume_unwind(payload))
    }
}

/// Runs the setup or the teardown.
fn prepare<C>(
    what: &str,
    prepare: &Option<Prepare<'_, C>>,
    conn: &mut C,
) -> Result<(), HarnessError> {
    let Some(prepare) = prepare else {
        return Ok(());
    };
    guarded(|| prepare(conn)).map_err(|source| HarnessError::Prepare {
        what: what.to_owned(),
        source,
    })
}

/// Makes an error of a panic.
fn guarded<T>(work: impl FnOnce() -> StepResult<T>) -> StepResult<T> {
    panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|payload| Err(panic_message(&*payload).into()))
}

/// A state that a panic has left is as good as one that an error has left.
fn lock<S>(state: &Mutex<S>) -> MutexGuard<'_, S> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
