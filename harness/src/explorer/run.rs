//! One run: the sessions take their steps, one at a time.

mod choice;
mod effect;
mod held;
mod settle;
mod steering;
mod step;

use std::sync::Arc;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::error::ExplorerError;
use super::model::Next;
use super::problem::Problem;
use super::program::full_name;
use crate::sessions::{StepProblem, Until};
pub(super) use steering::Steering;

impl<C> Steering<'_, '_, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    pub(super) fn take_steps(&mut self) -> Result<(), ExplorerError> {
        let only: Vec<usize> = match self.schedule.only() {
            Some(only) => only.to_vec(),
            None => (0..self.workers.len()).collect(),
        };
        let mut is_going_on = self.start_sessions(&only);
        while is_going_on {
            let standing: Vec<(usize, Arc<Next>)> = (only.iter())
                .filter_map(|&session| Some((session, self.workers[session].gate.parked()?)))
                .collect();
            is_going_on = if standing.is_empty() {
                self.await_standing(&only)?
            } else {
                let (actor, next, coming) = self.choose(&standing);
                self.step(actor, next, coming)?
            };
        }
        Ok(())
    }

    /// Brings those that take part before their first step, and says whether all have come there.
    fn start_sessions(&mut self, only: &[usize]) -> bool {
        for session in 0..self.workers.len() {
            let next = match only.contains(&session) {
                true => {
                    let worker = &self.workers[session];
                    let known = &self.program.sessions[session];
                    worker.begin(known, self.program.retries);
                    if !worker.gate.await_arrival(self.program.timeout) {
                        let problem = StepProblem::TimedOut {
                            after: self.program.timeout,
                            idle: true,
                        };
                        self.note_broken(full_name(&known.name, "start"), problem);
                        return false;
                    }
                    self.stands_before(session)
                }
                false => None,
            };
            self.ran.record.start.push(next);
        }
        true
    }

    /// None stands before a step. Waits until one does, and says whether that can be.
    fn await_standing(&mut self, only: &[usize]) -> Result<bool, ExplorerError> {
        let is_going = |session: &usize| self.workers[*session].gate.is_going();
        if !only.iter().any(is_going) {
            self.has_ended = true;
            return Ok(false);
        }
        if let Some(stuck) = self.stuck() {
            self.ran.run.problems.push(stuck);
            return Ok(false);
        }
        // They wait for what ends by itself, or one has hung.
        let busy = self.busy();
        if !self.settle(&busy, Until::OneEnded)? || !self.settle_all()? {
            return Ok(false);
        }
        self.note_resumed();
        Ok(true)
    }

    /// The wait that nothing will end: all wait, and only for sessions that have ended and have left
    /// locks, unless one waits only so long.
    fn stuck(&self) -> Option<Problem> {
        let has_limit = (self.ran.run.steps.iter())
            .filter_map(|step| step.statement.as_ref())
            .any(|(sql, _)| sql.contains("timeout"));
        let has_ended = |name: &String| {
            let session = (self.program.sessions.iter()).position(|known| known.name == *name);
            session.is_some_and(|session| self.workers[session].gate.has_ended())
        };
        let mut first = None;
        for session in self.busy() {
            let blocked = self.execution.blocked(session)?;
            if has_limit || blocked.by().is_empty() || !blocked.by().iter().all(has_ended) {
                return None;
            }
            first = first.or(Some((session, blocked)));
        }
        let (session, blocked) = first?;
        let step = self.ran.run.last_step(session);
        Some(Problem::Stuck { step, blocked })
    }
}
