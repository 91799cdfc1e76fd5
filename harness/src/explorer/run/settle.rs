//! Waits until every session has ended its step or waits.

use std::thread;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::steering::Steering;
use crate::explorer::error::ExplorerError;
use crate::explorer::hook;
use crate::explorer::program::full_name;
use crate::explorer::session::{SessionBody, SessionKind};
use crate::sessions::{SessionError, Until};

/// How often in a row a session was seen to sleep outside of the server when it is taken for waiting.
/// A time alone may have passed while nobody looked.
const ASLEEP: usize = 32;

/// How long it is until it is looked at again.
const LOOK: Duration = Duration::from_micros(300);

impl<C> Steering<'_, '_, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// Waits until each session has ended its step or waits for one that does nothing, and says
    /// whether none has hung.
    pub(super) fn settle_all(&mut self) -> Result<bool, ExplorerError> {
        let mut before = None;
        loop {
            if !self.settle_outside()? {
                return Ok(false);
            }
            let is_inside = |session: &usize| !self.outside.contains(session);
            let busy: Vec<usize> = self.busy().into_iter().filter(is_inside).collect();
            if !self.settle(&busy, Until::Settled)? {
                return Ok(false);
            }
            let is_running = |session: &usize| self.execution.is_running(*session);
            let running: Vec<usize> = busy.into_iter().filter(is_running).collect();
            // What others do meanwhile would depend on how soon the server ends it.
            if self.execution.is_deadlocked() && !self.settle(&running, Until::OneEnded)? {
                return Ok(false);
            }
            let waiting = self.busy();
            // One that was seen to wait may have been let go on since.
            if waiting.is_empty() || before.as_ref() == Some(&waiting) {
                return Ok(true);
            }
            before = Some(waiting);
        }
    }

    /// Waits until who is about something that is not the server's sleeps, where somebody may be:
    /// in code that finds its connections itself.
    fn settle_outside(&mut self) -> Result<bool, ExplorerError> {
        let is_call = |known: &SessionBody<'_, C>| known.kind == SessionKind::Call;
        let has_calls = self.program.sessions.iter().any(is_call);
        if !has_calls && self.shared().is_empty() {
            return Ok(true);
        }
        let mut asleep = 0;
        self.outside.clear();
        loop {
            let busy = self.busy();
            let (outside, inside): (Vec<usize>, Vec<usize>) =
                (busy.iter()).partition(|session| self.workers[**session].gate.is_outside());
            // Where it stands before a statement, another thread of it may come to one too.
            let shared = self.shared();
            let overlaps = |session: &&usize| self.workers[**session].gate.is_overlapping();
            if let Some(&session) = shared.iter().find(overlaps) {
                let session = self.program.sessions[session].name.clone();
                return Err(ExplorerError::Overlap { session });
            }
            if busy.is_empty() && shared.is_empty() {
                return Ok(true);
            }
            let sleeps = |session: &usize| self.workers[*session].gate.is_asleep();
            let all_sleep = outside.iter().chain(&shared).all(sleeps) && !hook::is_connecting();
            asleep = if all_sleep { asleep + 1 } else { 0 };
            if (outside.is_empty() && shared.is_empty()) || asleep > ASLEEP {
                let inside_settled = inside.is_empty() || self.execution.do_all_wait(&inside)?;
                if inside_settled {
                    self.outside = outside;
                    return Ok(true);
                }
            }
            if self.execution.is_late() {
                return self.settle(&busy, Until::Ended);
            }
            thread::sleep(LOOK);
        }
    }

    /// The sessions that have more than one thread.
    fn shared(&self) -> Vec<usize> {
        let is_shared = |session: &usize| self.workers[*session].gate.is_shared();
        (0..self.workers.len()).filter(is_shared).collect()
    }

    /// Waits for the steps that are under way, and says whether none has hung.
    pub(super) fn settle(&mut self, busy: &[usize], until: Until) -> Result<bool, ExplorerError> {
        if busy.is_empty() {
            return Ok(true);
        }
        match self.execution.wait(busy, until) {
            Err(SessionError::Step {
                session,
                step,
                problem,
                ..
            }) => {
                self.note_broken(full_name(&session, &step), problem);
                Ok(false)
            }
            waited => {
                waited?;
                for &session in busy {
                    if !self.execution.is_running(session) {
                        // It is about to say where it stands.
                        self.workers[session]
                            .gate
                            .await_arrival(self.program.timeout);
                    }
                }
                Ok(true)
            }
        }
    }
}
