//! The sessions on their way through a schedule, and what they have done so far.

use std::sync::{Arc, Mutex};

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use crate::explorer::model::{Knowledge, Next, State};
use crate::explorer::problem::Problem;
use crate::explorer::program::Program;
use crate::explorer::ran::{Ran, lock};
use crate::explorer::schedule::Schedule;
use crate::explorer::scout::Scout;
use crate::explorer::worker::Worker;
use crate::sessions::{Execution, StepProblem};
use crate::transcript::Transcript;

/// Steers the sessions through a schedule.
pub(crate) struct Steering<'r, 'w, C>
where
    C: LoadConnection<Backend = Pg>,
{
    pub(super) program: &'r Program<'r, C>,
    pub(super) knowledge: &'r Mutex<Knowledge>,
    pub(super) execution: &'w Arc<Execution>,
    pub(super) workers: &'w [Worker<'r, C>],
    pub(super) scout: &'w Scout<C>,
    pub(super) schedule: Schedule,
    pub(super) state: State,
    pub(super) ran: Ran,
    /// What each session is about.
    pub(super) current: Vec<Option<usize>>,
    pub(super) has_ended: bool,
    /// Those that sleep outside of the server.
    pub(super) outside: Vec<usize>,
}

impl<'r, 'w, C> Steering<'r, 'w, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    pub(crate) fn new(
        program: &'r Program<'r, C>,
        knowledge: &'r Mutex<Knowledge>,
        execution: &'w Arc<Execution>,
        workers: &'w [Worker<'r, C>],
        scout: &'w Scout<C>,
        schedule: Schedule,
    ) -> Self {
        let state = lock(knowledge).start(workers.len());
        Self {
            ran: Ran::new(schedule.only(), Transcript::default()),
            state,
            current: vec![None; workers.len()],
            has_ended: false,
            outside: Vec::new(),
            program,
            knowledge,
            execution,
            workers,
            scout,
            schedule,
        }
    }

    /// What has happened, and whether all sessions came to an end.
    pub(crate) fn into_ran(mut self) -> (Ran, bool) {
        self.ran.has_strayed = self.schedule.has_strayed();
        (self.ran, self.has_ended)
    }

    /// What a session stands before, with what that touches learnt.
    pub(super) fn stands_before(&mut self, session: usize) -> Option<Arc<Next>> {
        let next = self.workers[session].gate.parked()?;
        if !self.state.is_exhaustive() {
            let shapes = &mut lock(self.knowledge).shapes;
            match &next.statement {
                // What it means now is not what it means at another time.
                Some(_) if self.state.is_lost() || next.is_mixed => shapes.note_unknown(),
                Some(statement) => self.scout.ask(|conn| shapes.learn(conn, statement)),
                None => shapes.note_unknown(),
            }
        }
        Some(next)
    }

    /// The sessions that are about a step.
    pub(super) fn busy(&self) -> Vec<usize> {
        let is_going = |session: &usize| self.workers[*session].gate.is_going();
        let takes_part = |session: &usize| {
            self.schedule
                .only()
                .is_none_or(|only| only.contains(session))
        };
        (0..self.workers.len())
            .filter(takes_part)
            .filter(is_going)
            .collect()
    }

    /// Takes note of a step after which nothing can go on.
    pub(super) fn note_broken(&mut self, step: String, problem: StepProblem) {
        let problem = Problem::Broken { step, problem };
        self.ran.run.problems.push(problem);
    }
}
