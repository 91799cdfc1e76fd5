//! What the sessions of a test share: who does what, what happened, and who waits for whom.

mod cast;
mod watch;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::transcript::What;
use super::{Blocked, HarnessError, StepProblem, Transcript};
use cast::{Actor, Cast, Step, Wait};
pub(super) use watch::{Stop, Watch};

/// How long to stay awake for a step that may end in a moment.
const AWAKE: Duration = Duration::from_micros(400);

/// How long a step has to end when it was cancelled, and then when its session was ended.
const GRACE: Duration = Duration::from_secs(2);

/// What to wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Until {
    /// All of the sessions' steps have ended.
    Ended,
    /// One of them has.
    OneEnded,
    /// Each of them has ended, or the server says that it waits.
    Settled,
}

/// The sessions of a test, each with the step that it does, and the connection that observes them.
pub(super) struct Stage {
    cast: Mutex<Cast>,
    /// A step has ended, or a session.
    changed: Condvar,
    /// How often that was so.
    changes: AtomicU64,
    watch: Mutex<Box<dyn Watch>>,
    /// Whether to find out what the locks are called, which takes longer than to see a wait.
    names_locks: bool,
}

impl Stage {
    /// Without the names of the locks that are waited for.
    pub(super) fn new(watch: impl Watch + 'static) -> Self {
        Self {
            names_locks: false,
            cast: Mutex::new(Cast {
                begun: Instant::now(),
                deadline: None,
                transcript: Transcript::default(),
                actors: Vec::new(),
            }),
            changed: Condvar::new(),
            changes: AtomicU64::new(0),
            watch: Mutex::new(Box::new(watch)),
        }
    }

    /// With the names of the locks, and with the server made ready for both questions, which takes
    /// it longer than the answers.
    pub(super) fn with_names(watch: impl Watch + 'static) -> Result<Self, HarnessError> {
        let stage = Self {
            names_locks: true,
            ..Self::new(watch)
        };
        stage.observe(|watch| watch.waits(&[], &[]).and_then(|_| watch.lock(0)))?;
        Ok(stage)
    }

    /// Begins the time, and a new transcript. No step may be under way.
    pub(super) fn begin(&self, limit: Duration) {
        let mut cast = self.cast();
        cast.begun = Instant::now();
        // None is a time that no clock reaches.
        cast.deadline = cast.begun.checked_add(limit);
        cast.transcript = Transcript::default();
        let cast = &mut *cast;
        for actor in &mut cast.actors {
            actor.step = None;
            cast.transcript.add_session(&actor.name);
        }
    }

    /// Adds a session, and returns its number, unless one has this name.
    pub(super) fn enter(&self, name: &str, pid: i32) -> Option<usize> {
        let mut cast = self.cast();
        if cast.actors.iter().any(|actor| actor.name == name) {
            return None;
        }
        cast.actors.push(Actor {
            name: name.to_owned(),
            pid,
            step: None,
            serial: 0,
            given_up: None,
            gone: false,
        });
        Some(cast.transcript.add_session(name))
    }

    pub(super) fn transcript(&self) -> Transcript {
        let mut cast = self.cast();
        for session in 0..cast.actors.len() {
            cast.note_end(session);
        }
        cast.transcript.clone()
    }

    /// An error about a step, with the transcript.
    pub(super) fn error(&self, session: usize, step: &str, problem: StepProblem) -> HarnessError {
        let transcript = Box::new(self.transcript());
        HarnessError::Step {
            session: self.cast().actors[session].name.clone(),
            step: step.to_owned(),
            problem,
            transcript,
        }
    }

    /// Begins a step, where the one before has ended or ends without being seen to wait, and
    /// returns its number.
    pub(super) fn start(&self, session: usize, label: &str) -> Result<u64, StepProblem> {
        // Whether the time is over or the server can't be asked, is told by what follows.
        let _ = self.wait(&[session], Until::Settled);
        let mut cast = self.cast();
        cast.note_end(session);
        let is_late = cast.is_late();
        let actor = &mut cast.actors[session];
        if actor.gone {
            return Err(StepProblem::SessionEnded);
        }
        if is_late {
            return Err(StepProblem::TooLate);
        }
        if let Some(step) = &actor.step {
            return Err(StepProblem::Busy {
                with: step.label.clone(),
            });
        }
        let started = Instant::now();
        actor.serial += 1;
        actor.step = Some(Step {
            label: label.to_owned(),
            started,
            wait: None,
            ended: None,
        });
        let serial = actor.serial;
        cast.note(session, started, label, What::Started);
        Ok(serial)
    }

    /// Says that the session's step has ended. One that was given up has no more to say.
    pub(super) fn end(&self, session: usize, what: What) {
        let mut cast = self.cast();
        if let Some(step) = &mut cast.actors[session].step {
            step.ended = Some((Instant::now(), what));
        }
        drop(cast);
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Says that the session has ended, with its thread.
    pub(super) fn leave(&self, session: usize) {
        let mut cast = self.cast();
        let actor = &mut cast.actors[session];
        actor.gone = true;
        if let Some(step) = actor.step.as_mut().filter(|step| step.ended.is_none()) {
            let what = What::Panicked("the session's thread has ended".to_owned());
            step.ended = Some((Instant::now(), what));
        }
        drop(cast);
        self.changes.fetch_add(1, Ordering::Release);
        self.changed.notify_all();
    }

    /// Whether the step of this number has ended.
    pub(super) fn has_ended(&self, session: usize, serial: u64) -> bool {
        let mut cast = self.cast();
        cast.note_end(session);
        let actor = &cast.actors[session];
        actor.serial != serial || actor.step.is_none()
    }

    /// What the session's step waits for, if it was seen to wait.
    pub(super) fn blocked(&self, session: usize) -> Option<Blocked> {
        let cast = self.cast();
        let step = cast.actors[session].step.as_ref()?;
        step.wait.as_ref().map(|wait| wait.blocked.clone())
    }

    /// Whether some of the sessions wait for each other in a circle, which the server will end.
    pub(super) fn is_deadlocked(&self) -> bool {
        self.cast().is_deadlocked()
    }

    /// Waits for the steps that these sessions do.
    ///
    /// When the time is over, the first of them that has not ended is stopped, and that is the
    /// error.
    pub(super) fn wait(&self, sessions: &[usize], until: Until) -> Result<(), HarnessError> {
        let mut cast = self.cast();
        let mut look = cast.first_look(sessions);
        let awake = Instant::now() + AWAKE;
        loop {
            let running = cast.running(sessions);
            let over = match until {
                Until::OneEnded => running.len() < sessions.len(),
                Until::Ended | Until::Settled => running.is_empty(),
            };
            let now = Instant::now();
            if over {
                break;
            }
            if cast.is_late() {
                drop(cast);
                return Err(self.give_up(running[0]));
            }
            if now < awake && now < look {
                let changes = self.changes.load(Ordering::Acquire);
                drop(cast);
                self.stay_awake(changes, awake.min(look));
                cast = self.cast();
                continue;
            }
            if until == Until::Settled && look <= now {
                drop(cast);
                let all_wait = self.all_wait(&running)?;
                cast = self.cast();
                if all_wait {
                    break;
                }
                look = cast.next_look(&running);
                continue;
            }
            let look = (until == Until::Settled).then_some(look);
            let next = [look, cast.deadline].into_iter().flatten().min();
            cast = self.await_change(cast, next);
        }
        for &session in sessions {
            cast.note_end(session);
        }
        Ok(())
    }

    /// Whether all of these steps wait for sessions of the test, and will until another step
    /// changes that.
    ///
    /// The server is asked twice: when it is asked once, a step may be seen to wait for one that
    /// was seen to wait a moment later, and that has let it go on in between.
    fn all_wait(&self, running: &[usize]) -> Result<bool, HarnessError> {
        let (waiters, all) = self.cast().pids(running);
        let mut waits = Vec::new();
        for _ in 0..2 {
            waits = self.observe(|watch| watch.waits(&waiters, &all))?;
            let waits_still = |pid| waits.iter().any(|&(waiter, _)| waiter == pid);
            if !waiters.iter().copied().all(waits_still) {
                return Ok(false);
            }
        }
        if self.cast().running(running) != running {
            return Ok(false);
        }
        for &session in running {
            self.note_wait(session, &waits);
        }
        Ok(true)
    }

    /// Notes that a session waits, if that was not known, and says for what.
    fn note_wait(&self, session: usize, waits: &[(i32, i32)]) {
        let mut cast = self.cast();
        let pid = cast.actors[session].pid;
        let blockers: Vec<i32> = waits
            .iter()
            .filter(|(waiter, _)| *waiter == pid)
            .map(|(_, blocker)| *blocker)
            .collect();
        let known = |step: &Step| {
            step.wait
                .as_ref()
                .is_some_and(|wait| wait.blockers == blockers)
        };
        if cast.actors[session].step.as_ref().is_none_or(known) {
            return;
        }
        drop(cast);
        // What the lock is called is not worth failing for.
        let lock = match self.names_locks {
            true => self.observe(|watch| watch.lock(pid)).unwrap_or_default(),
            false => String::new(),
        };
        cast = self.cast();
        let now = Instant::now();
        let by = cast.names(&blockers);
        let blocked = Blocked { by, lock };
        let Some(step) = &mut cast.actors[session].step else {
            return;
        };
        step.wait = Some(Wait {
            blockers,
            blocked: blocked.clone(),
        });
        let label = step.label.clone();
        let Blocked { by, lock } = blocked;
        cast.note(session, now, &label, What::Waiting { by, lock });
    }

    /// Stops the step of a session for which the time is over.
    fn give_up(&self, session: usize) -> HarnessError {
        self.stop(session);
        let mut cast = self.cast();
        let now = Instant::now();
        let after = now - cast.begun;
        let actor = &mut cast.actors[session];
        actor.given_up = Some((actor.serial, after));
        let label = match actor.step.take() {
            Some(step) => step.label,
            None => String::new(),
        };
        cast.note(session, now, &label, What::TimedOut);
        drop(cast);
        self.error(session, &label, StepProblem::TimedOut { after })
    }

    /// What became of the step of this number, if it was stopped because the time was over.
    pub(super) fn given_up(&self, session: usize, serial: u64) -> Option<StepProblem> {
        match self.cast().actors[session].given_up {
            Some((step, after)) if step == serial => Some(StepProblem::TimedOut { after }),
            _ => None,
        }
    }

    /// Has the server cancel what the session does, or else end the session.
    pub(super) fn stop(&self, session: usize) {
        let pid = self.cast().actors[session].pid;
        for stop in [Stop::Cancel, Stop::Terminate] {
            // Where the server can't be reached, the step ends by itself, or not at all.
            let stopped = self.observe(|watch| watch.stop(pid, stop));
            if stopped.is_err() || self.within_grace(session, |actor| !actor.is_running()) {
                break;
            }
        }
    }

    /// Waits for the session's thread to end, and says whether it has.
    pub(super) fn has_left(&self, session: usize) -> bool {
        self.within_grace(session, |actor| actor.gone)
    }

    pub(super) fn is_running(&self, session: usize) -> bool {
        self.cast().actors[session].is_running()
    }

    fn within_grace(&self, session: usize, is_so: impl Fn(&Actor) -> bool) -> bool {
        let deadline = Instant::now() + GRACE;
        let mut cast = self.cast();
        while !is_so(&cast.actors[session]) {
            if deadline <= Instant::now() {
                return false;
            }
            cast = self.await_change(cast, Some(deadline));
        }
        true
    }

    /// Waits for a change without going to sleep, from which to wake up would take longer than most
    /// steps do.
    fn stay_awake(&self, changes: u64, until: Instant) {
        while self.changes.load(Ordering::Acquire) == changes && Instant::now() < until {
            thread::yield_now();
        }
    }

    fn await_change<'c>(
        &self,
        cast: MutexGuard<'c, Cast>,
        until: Option<Instant>,
    ) -> MutexGuard<'c, Cast> {
        let Some(until) = until else {
            let waited = self.changed.wait(cast);
            return waited.unwrap_or_else(PoisonError::into_inner);
        };
        let timeout = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout(cast, timeout);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn observe<T>(
        &self,
        look: impl FnOnce(&mut dyn Watch) -> diesel::QueryResult<T>,
    ) -> Result<T, HarnessError> {
        (self.with_observer(look)).map_err(|error| HarnessError::Observe(error.into()))
    }

    /// Does something on the connection that observes.
    pub(super) fn with_observer<T>(&self, work: impl FnOnce(&mut dyn Watch) -> T) -> T {
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut **watch)
    }

    /// Nothing panics that has it, and its data is whole at any time.
    fn cast(&self) -> MutexGuard<'_, Cast> {
        self.cast.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
