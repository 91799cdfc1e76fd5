//! Waits for the steps of an execution, and stops those that come to no end.

use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::state::{State, Step, Task, Wait};
use super::{Execution, Until};
use crate::sessions::blocked::Blocked;
use crate::sessions::error::SessionError;
use crate::sessions::problem::StepProblem;
use crate::transcript::What;
use crate::waits::{self, Stop, if_all_wait};

/// How long to stay awake for a step that may end in a moment.
const AWAKE: Duration = Duration::from_micros(400);

/// How long a step has to end when it was cancelled, and then when its session was ended.
const GRACE: Duration = Duration::from_secs(2);

/// How long it has where there is nothing to be cancelled.
const SHORT_GRACE: Duration = Duration::from_millis(50);

impl Execution {
    /// Waits for the steps that these sessions do.
    ///
    /// When the time is over, the first of them that has not ended is stopped, and that is the
    /// error.
    pub(crate) fn wait(&self, sessions: &[usize], until: Until) -> Result<(), SessionError> {
        let mut state = self.state();
        let mut look = state.first_look(sessions);
        let awake = Instant::now() + AWAKE;
        loop {
            let running = state.running(sessions);
            let over = match until {
                Until::OneEnded => running.len() < sessions.len(),
                Until::Ended | Until::Settled => running.is_empty(),
            };
            let now = Instant::now();
            if over {
                break;
            }
            if state.is_late() {
                drop(state);
                return Err(self.give_up(running[0]));
            }
            if now < awake && now < look {
                let changes = self.changes.load(Ordering::Acquire);
                drop(state);
                self.stay_awake(changes, awake.min(look));
                state = self.state();
                continue;
            }
            if until == Until::Settled && look <= now {
                drop(state);
                let all_wait = self.all_wait(&running)?;
                state = self.state();
                if all_wait {
                    break;
                }
                look = state.next_look(&running);
                continue;
            }
            let others = match until {
                Until::Ended => state.others(sessions),
                Until::OneEnded | Until::Settled => Vec::new(),
            };
            if !others.is_empty() && look <= now {
                drop(state);
                self.note_waits(&others);
                state = self.state();
                look = state.next_look(&others);
                continue;
            }
            let looks = until == Until::Settled || !others.is_empty();
            let next = [looks.then_some(look), state.deadline];
            state = self.await_change(state, next.into_iter().flatten().min());
        }
        for &session in sessions {
            state.note_end(session);
        }
        Ok(())
    }

    /// Whether each of these sessions has ended its step, or is seen to wait.
    pub(crate) fn do_all_wait(&self, sessions: &[usize]) -> Result<bool, SessionError> {
        let state = self.state();
        let running = state.running(sessions);
        // Where it is known of old that they wait, that is now: it must not be later than now.
        let look = state.first_look(&running);
        let is_early = Instant::now() < look;
        drop(state);
        Ok(running.is_empty() || (!is_early && self.all_wait(&running)?))
    }

    /// Whether all of these steps wait for sessions of the test, and will until another step
    /// changes that.
    fn all_wait(&self, running: &[usize]) -> Result<bool, SessionError> {
        let question = self.state().question(running);
        let waits = self.observe(|observer| if_all_wait(observer, &question))?;
        let Some(waits) = waits else {
            return Ok(false);
        };
        if self.state().running(running) != running {
            return Ok(false);
        }
        for &session in running {
            let pid = self.state().tasks[session].pid;
            if let Some(wait) = waits.iter().find(|wait| wait.session == pid) {
                self.note_wait(session, wait);
            }
        }
        Ok(true)
    }

    /// Looks which of these steps wait, for the transcript: one of them may be what closes a
    /// circle, and nobody else asks about it before that is gone.
    fn note_waits(&self, sessions: &[usize]) {
        for &session in sessions {
            // What keeps that from being seen is no reason to fail.
            let _ = self.all_wait(&[session]);
        }
    }

    /// Notes that a session waits, if that was not known, and says for what.
    fn note_wait(&self, session: usize, seen: &waits::Wait) {
        let mut state = self.state();
        let (waiter, blockers) = (seen.waiter, seen.blockers.clone());
        let known = |step: &Step| {
            let wait = step.wait.as_ref();
            wait.is_some_and(|wait| (wait.waiter, &wait.blockers) == (waiter, &blockers))
        };
        if state.tasks[session].step.as_ref().is_none_or(known) {
            return;
        }
        drop(state);
        // What the lock is called is not worth failing for.
        let lock = match self.names_locks {
            true => self
                .observe(|observer| observer.waited_lock(waiter))
                .unwrap_or_default(),
            false => String::new(),
        };
        state = self.state();
        let now = Instant::now();
        let by = state.names(&blockers);
        let blocked = Blocked { by, lock };
        let Some(step) = &mut state.tasks[session].step else {
            return;
        };
        step.wait = Some(Wait {
            waiter,
            blockers,
            blocked: blocked.clone(),
        });
        let label = step.label.clone();
        let Blocked { by, lock } = blocked;
        state.note(session, now, &label, What::Waiting { by, lock });
    }

    /// Stops the step of a session for which the time is over.
    fn give_up(&self, session: usize) -> SessionError {
        let idle = self.stop(session);
        let mut state = self.state();
        let now = Instant::now();
        let after = now - state.begun;
        let problem = StepProblem::TimedOut { after, idle };
        let task = &mut state.tasks[session];
        task.given_up = Some((task.serial, problem.clone()));
        let label = match task.step.take() {
            Some(step) => step.label,
            None => String::new(),
        };
        state.note(session, now, &label, What::TimedOut);
        drop(state);
        self.error(session, &label, problem)
    }

    /// Has the server cancel what the session does, or else end the session, and says whether it
    /// was idle on the server: then there is nothing there to be cancelled, nor to wait for.
    pub(crate) fn stop(&self, session: usize) -> bool {
        let (pid, waiter) = self.state().tasks[session].processes();
        let idle = self.observe(|observer| waits::idle(observer, &[pid]));
        let idle = waiter == pid && idle.is_ok_and(|idle| idle.contains(&pid));
        let grace = if idle { SHORT_GRACE } else { GRACE };
        for stop in [Stop::Cancel, Stop::Terminate] {
            // Where the server can't be reached, the step ends by itself, or not at all.
            let stopped = self.observe(|observer| observer.stop(waiter, stop));
            if stopped.is_err() || self.within(grace, session, |task| !task.is_running()) {
                break;
            }
        }
        idle
    }

    /// Has the server end the session, and waits until it has let go of what it had.
    pub(crate) fn cut(&self, session: usize) {
        let pid = self.state().tasks[session].pid;
        let deadline = Instant::now() + GRACE;
        // Where the server can't be reached, there is nothing to be cut.
        let mut is_there = self
            .observe(|observer| observer.stop(pid, Stop::Terminate))
            .is_ok();
        while is_there && Instant::now() < deadline {
            thread::sleep(Duration::from_micros(200));
            is_there = self
                .observe(|observer| observer.is_there(pid))
                .unwrap_or(false);
        }
    }

    /// Waits for the session's thread to end, and says whether it has.
    pub(crate) fn has_left(&self, session: usize) -> bool {
        self.within(GRACE, session, |task| task.gone)
    }

    fn within(&self, grace: Duration, session: usize, is_so: impl Fn(&Task) -> bool) -> bool {
        let deadline = Instant::now() + grace;
        let mut state = self.state();
        while !is_so(&state.tasks[session]) {
            if deadline <= Instant::now() {
                return false;
            }
            state = self.await_change(state, Some(deadline));
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

    fn await_change<'s>(
        &self,
        state: MutexGuard<'s, State>,
        until: Option<Instant>,
    ) -> MutexGuard<'s, State> {
        let Some(until) = until else {
            let waited = self.changed.wait(state);
            return waited.unwrap_or_else(PoisonError::into_inner);
        };
        let timeout = until.saturating_duration_since(Instant::now());
        let waited = self.changed.wait_timeout(state, timeout);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}
