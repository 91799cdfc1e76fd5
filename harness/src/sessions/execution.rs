//! What the sessions of a test share: who does what, what happened, and who waits for whom.

mod state;
mod waiting;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::blocked::Blocked;
use super::error::SessionError;
use super::problem::StepProblem;
use crate::transcript::{Transcript, What};
use crate::waits::Observer;
use state::{State, Step, Task};

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// All of the sessions' steps have ended.
    Ended,
    /// One of them has.
    OneEnded,
    /// Each of them has ended, or the server says that it waits.
    Settled,
}

/// The sessions of a test, each with the step that it does, and the connection that observes them.
pub(crate) struct Execution {
    state: Mutex<State>,
    /// A step has ended, or a session.
    changed: Condvar,
    /// How often that was so.
    changes: AtomicU64,
    observer: Mutex<Box<dyn Observer + Send>>,
    /// Whether to find out what the locks are called, which takes longer than to see a wait.
    names_locks: bool,
}

impl Execution {
    /// Without the names of the locks that are waited for.
    pub(crate) fn new(observer: impl Observer + Send + 'static) -> Self {
        Self {
            names_locks: false,
            state: Mutex::new(State {
                begun: Instant::now(),
                deadline: None,
                transcript: Transcript::default(),
                tasks: Vec::new(),
            }),
            changed: Condvar::new(),
            changes: AtomicU64::new(0),
            observer: Mutex::new(Box::new(observer)),
        }
    }

    /// With the names of the locks.
    pub(crate) fn with_names(observer: impl Observer + Send + 'static) -> Self {
        Self {
            names_locks: true,
            ..Self::new(observer)
        }
    }

    /// Makes the server ready for both questions, which takes it longer than the answers.
    pub(crate) fn warm(&self) -> Result<(), SessionError> {
        self.observe(|observer| {
            observer
                .waits(&[], &[])
                .and_then(|_| observer.waited_lock(0))
        })?;
        Ok(())
    }

    /// Begins the time, and a new transcript. No step may be under way.
    pub(crate) fn begin(&self, limit: Duration) {
        let mut state = self.state();
        state.begun = Instant::now();
        // None is a time that no clock reaches.
        state.deadline = state.begun.checked_add(limit);
        state.transcript = Transcript::default();
        let state = &mut *state;
        for task in &mut state.tasks {
            task.step = None;
            state.transcript.add_session(&task.name);
        }
    }

    /// Adds a session, and returns its number, unless one has this name.
    pub(crate) fn enter(&self, name: &str, pid: i32) -> Option<usize> {
        let mut state = self.state();
        if state.tasks.iter().any(|task| task.name == name) {
            return None;
        }
        state.tasks.push(Task {
            name: name.to_owned(),
            pid,
            step: None,
            serial: 0,
            given_up: None,
            gone: false,
        });
        Some(state.transcript.add_session(name))
    }

    /// The server's process of the session.
    pub(crate) fn pid(&self, session: usize) -> i32 {
        self.state().tasks[session].pid
    }

    /// The session goes on with another connection.
    pub(crate) fn reenter(&self, session: usize, pid: i32) {
        self.state().tasks[session].pid = pid;
    }

    pub(crate) fn transcript(&self) -> Transcript {
        let mut state = self.state();
        for session in 0..state.tasks.len() {
            state.note_end(session);
        }
        state.transcript.clone()
    }

    /// An error about a step, with the transcript.
    pub(crate) fn error(&self, session: usize, step: &str, problem: StepProblem) -> SessionError {
        let transcript = Box::new(self.transcript());
        SessionError::Step {
            session: self.state().tasks[session].name.clone(),
            step: step.to_owned(),
            problem,
            transcript,
        }
    }

    /// Begins a step, where the one before has ended or ends without being seen to wait, and
    /// returns its number.
    pub(crate) fn start(&self, session: usize, label: &str) -> Result<u64, StepProblem> {
        // Whether the time is over or the server can't be asked, is told by what follows.
        let _ = self.wait(&[session], Until::Settled);
        let mut state = self.state();
        state.note_end(session);
        let is_late = state.is_late();
        let task = &mut state.tasks[session];
        if task.gone {
            return Err(StepProblem::SessionEnded);
        }
        if is_late {
            return Err(StepProblem::TooLate);
        }
        if let Some(step) = &task.step {
            return Err(StepProblem::Busy {
                with: step.label.clone(),
            });
        }
        let started = Instant::now();
        task.serial += 1;
        task.step = Some(Step {
            label: label.to_owned(),
            started,
            wait: None,
            ended: None,
        });
        let serial = task.serial;
        state.note(session, started, label, What::Started);
        Ok(serial)
    }

    /// Says that the session's step has ended. One that was given up has no more to say.
    pub(crate) fn end(&self, session: usize, what: What) {
        let mut state = self.state();
        if let Some(step) = &mut state.tasks[session].step {
            step.ended = Some((Instant::now(), what));
        }
        drop(state);
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Says that the session has ended, with its thread.
    pub(crate) fn leave(&self, session: usize) {
        let mut state = self.state();
        let task = &mut state.tasks[session];
        task.gone = true;
        if let Some(step) = task.step.as_mut().filter(|step| step.ended.is_none()) {
            let what = What::Panicked("the session's thread has ended".to_owned());
            step.ended = Some((Instant::now(), what));
        }
        drop(state);
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether the step of this number has ended.
    pub(crate) fn has_ended(&self, session: usize, serial: u64) -> bool {
        let mut state = self.state();
        state.note_end(session);
        let task = &state.tasks[session];
        task.serial != serial || task.step.is_none()
    }

    /// What the session's step waits for, if it was seen to wait.
    pub(crate) fn blocked(&self, session: usize) -> Option<Blocked> {
        let state = self.state();
        let step = state.tasks[session].step.as_ref()?;
        step.wait.as_ref().map(|wait| wait.blocked.clone())
    }

    /// How many steps have been seen to wait, and have not ended.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting().count()
    }

    /// Whether some of the sessions wait for each other in a circle, which the server will end.
    pub(crate) fn is_deadlocked(&self) -> bool {
        self.state().is_deadlocked()
    }

    /// Whether the time is over.
    pub(crate) fn is_late(&self) -> bool {
        self.state().is_late()
    }

    /// What became of the step of this number, if it was stopped because the time was over.
    pub(crate) fn given_up(&self, session: usize, serial: u64) -> Option<StepProblem> {
        match &self.state().tasks[session].given_up {
            Some((step, problem)) if *step == serial => Some(problem.clone()),
            _ => None,
        }
    }

    pub(crate) fn is_running(&self, session: usize) -> bool {
        self.state().tasks[session].is_running()
    }

    fn observe<T>(
        &self,
        look: impl FnOnce(&mut (dyn Observer + Send)) -> diesel::QueryResult<T>,
    ) -> Result<T, SessionError> {
        (self.with_observer(look)).map_err(SessionError::Observe)
    }

    /// Does something on the connection that observes.
    pub(crate) fn with_observer<T>(&self, work: impl FnOnce(&mut (dyn Observer + Send)) -> T) -> T {
        let mut observer = (self.observer.lock()).unwrap_or_else(PoisonError::into_inner);
        work(&mut **observer)
    }

    /// Nothing panics that has it, and its data is whole at any time.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
