//! What came of a step.

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::held::{is_held, is_there};
use super::steering::Steering;
use crate::explorer::model::{Coming, Next};
use crate::explorer::ran::lock;

impl<C> Steering<'_, '_, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// A step has ended: notes how, and says whether it has failed.
    pub(super) fn ended(&mut self, session: usize) -> bool {
        let error = self.workers[session].gate.take_error();
        if let Some(at) = self.current[session].take() {
            self.ran.run.steps[at].error = error.as_ref().map(ToString::to_string);
        }
        error.is_some()
    }

    /// Takes note of a statement that has failed by what it found, where it might have waited.
    pub(super) fn note_failing(&self, session: usize, next: &Next, coming: &Coming) {
        let fails = self.workers[session].gate.fails_itself();
        let own = next.statement.as_ref().filter(|_| fails);
        if let (Some(statement), Some(_)) = (own, coming.waits_for()) {
            lock(self.knowledge).shapes.note_failing(statement);
        }
    }

    /// The session waits: notes what for, and says for whom.
    pub(super) fn waits_for(&mut self, session: usize) -> Vec<usize> {
        let blocked = self.execution.blocked(session);
        let names = blocked.as_ref().map_or(&[][..], |blocked| blocked.by());
        if let (Some(blocked), Some(step)) = (&blocked, self.ran.run.steps.last_mut()) {
            step.wanted = Some(blocked.lock().to_owned());
        }
        self.ran.waits_outside |= self.outside.contains(&session);
        let is_named = |other: &usize| names.contains(&self.program.sessions[*other].name);
        (0..self.workers.len()).filter(is_named).collect()
    }

    /// Of those that waited before the session's step, the ones that have gone on, and whether what
    /// they waited with has failed.
    pub(super) fn resumed(&mut self, session: usize, waited: &[usize]) -> Vec<(usize, bool)> {
        let mut resumed = Vec::new();
        for &other in waited {
            if other != session && !self.workers[other].gate.is_going() {
                let is_victim = self.workers[other].gate.is_victim();
                // It looked for the circle later than the one that closed it: time has done that.
                self.ran.is_late |= is_victim && self.workers[other].finds_deadlocks;
                resumed.push((other, self.ended(other)));
            }
        }
        let is_one_of_several = !resumed.is_empty() && !self.busy().is_empty();
        self.ran.is_chosen |= is_one_of_several || resumed.len() > 1;
        resumed
    }

    /// Sessions have gone on by themselves.
    pub(super) fn note_resumed(&mut self) {
        let gone_on = |session: &usize| {
            self.state.is_waiting(*session) && !self.workers[*session].gate.is_going()
        };
        let gone_on: Vec<usize> = (0..self.workers.len()).filter(gone_on).collect();
        // Time has done it, and may do otherwise.
        self.ran.is_chosen = true;
        for session in gone_on {
            let fails = self.ended(session);
            let next = self.stands_before(session);
            if let Some(last) = self.ran.record.taken.last_mut() {
                last.effect.resumes.push((session, fails));
                last.after.push((session, next));
            }
        }
        // What was taken of the last event is not what it was.
        self.state.is_stuck = false;
        for session in 0..self.workers.len() {
            if !self.workers[session].gate.is_going() {
                self.state.wake(session);
            }
        }
    }

    /// Whether the session's statement has the lock for which it might have waited.
    pub(super) fn holds(&mut self, session: usize, next: &Next, coming: &Coming) -> bool {
        let Some(statement) = &next.statement else {
            return false;
        };
        let touch = lock(self.knowledge).shapes.touch(statement);
        match touch.and_then(|touch| touch.row) {
            // Whoever asks for a row that is not there has none, nor one with an old snapshot of one
            // that has come since.
            Some(row) => {
                let pid = self.execution.pid(session);
                let asked = self.scout.ask(|conn| match coming.sees_now() {
                    true => is_there(conn, &row),
                    false => is_held(conn, &row, pid),
                });
                asked.unwrap_or(false)
            }
            None => true,
        }
    }
}
