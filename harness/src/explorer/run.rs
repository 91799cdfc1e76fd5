//! One run: the sessions take their steps, one at a time.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::error::ExplorerError;
use super::held::is_held;
use super::model::{Actor, Coming, Effect, Knowledge, Next, State, Taken};
use super::problem::Problem;
use super::program::{Program, full_name};
use super::ran::{Ran, lock};
use super::report::RunStep;
use super::schedule::Schedule;
use super::scout::Scout;
use super::session::SessionKind;
use super::worker::Worker;
use crate::sessions::{Execution, Until};
use crate::transcript::Transcript;

/// How long a session that waits has had to look for a circle, before another one goes on: so the
/// one that closes a circle is the one that finds it.
const LOOKED: Duration = Duration::from_millis(10);

/// Steers the sessions through a schedule.
pub(super) struct Steering<'r, 'w, C> {
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
    pub(super) fn new(
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
    pub(super) fn into_ran(mut self) -> (Ran, bool) {
        self.ran.has_strayed = self.schedule.has_strayed();
        (self.ran, self.has_ended)
    }

    pub(super) fn take_steps(&mut self) -> Result<(), ExplorerError> {
        let only: Vec<usize> = match self.schedule.only() {
            Some(only) => only.to_vec(),
            None => (0..self.workers.len()).collect(),
        };
        for session in 0..self.workers.len() {
            let next = match only.contains(&session) {
                true => {
                    let worker = &self.workers[session];
                    let retries = self.program.retries;
                    worker.begin(&self.program.sessions[session], retries);
                    if !worker.gate.await_arrival(self.program.timeout) {
                        let problem = crate::sessions::StepProblem::TimedOut {
                            after: self.program.timeout,
                            idle: true,
                        };
                        let step = full_name(&self.program.sessions[session].name, "start");
                        self.ran
                            .run
                            .problems
                            .push(Problem::Broken { step, problem });
                        return Ok(());
                    }
                    self.stands_before(session)
                }
                false => None,
            };
            self.ran.record.start.push(next);
        }
        loop {
            let standing: Vec<(usize, Arc<Next>)> = (only.iter())
                .filter_map(|&session| Some((session, self.workers[session].gate.parked()?)))
                .collect();
            if standing.is_empty() {
                let is_going = |session: &&usize| self.workers[**session].gate.is_going();
                if only.iter().find(is_going).is_none() {
                    self.has_ended = true;
                    return Ok(());
                }
                if let Some(stuck) = self.stuck() {
                    self.ran.run.problems.push(stuck);
                    return Ok(());
                }
                // They wait for what ends by itself, or one has hung.
                let busy = self.waiting();
                if !self.settle(&busy, Until::OneEnded)? || !self.settle_all()? {
                    return Ok(());
                }
                self.note_resumed();
                continue;
            }
            let (actor, next, coming) = self.choose(&standing);
            if !self.step(actor, next, coming)? {
                return Ok(());
            }
        }
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
        for session in self.waiting() {
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

    /// What a session stands before, with what that touches learnt.
    fn stands_before(&mut self, session: usize) -> Option<Arc<Next>> {
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

    fn choose(&mut self, standing: &[(usize, Arc<Next>)]) -> (Actor, Arc<Next>, Coming) {
        let knowledge = lock(self.knowledge);
        let coming: Vec<(usize, Coming)> = (standing.iter())
            .map(|(session, next)| {
                let coming = self.state.coming(*session, next, &knowledge.shapes);
                (*session, coming)
            })
            .collect();
        let enabled = self.state.enabled(&coming);
        let sessions: Vec<usize> = standing.iter().map(|(session, _)| *session).collect();
        let done = |session| {
            self.ran
                .run
                .steps
                .iter()
                .filter(|step| step.session == session)
                .count()
        };
        let steps = |session: usize| match &self.program.sessions[session].labels {
            Some(labels) => labels.len(),
            None => knowledge.length(session),
        };
        let left = |session| steps(session).saturating_sub(done(session));
        let chosen = self.schedule.choose(&sessions, &enabled, left);
        let (session, way) = chosen;
        let at = sessions
            .iter()
            .position(|&other| other == session)
            .unwrap_or(0);
        let (_, next) = &standing[at];
        let crash = way
            .checked_sub(1)
            .and_then(|way| next.crashes().into_iter().nth(way));
        if let Some(crash) = crash {
            let coming = self.state.coming(session, &crash, &knowledge.shapes);
            return (chosen, Arc::new(crash), coming);
        }
        let (_, coming) = &coming[at];
        ((session, 0), Arc::clone(next), coming.clone())
    }

    /// Has the session go on, and says whether none has hung.
    fn step(
        &mut self,
        (session, way): Actor,
        next: Arc<Next>,
        coming: Coming,
    ) -> Result<bool, ExplorerError> {
        let name = &self.program.sessions[session].name;
        self.current[session] = Some(self.ran.run.steps.len());
        self.ran
            .run
            .steps
            .push(RunStep::new(session, full_name(name, &next.label), &next));
        let waiting = self.waiting();
        if self.execution.start(session, &next.label).is_err() {
            let problem = crate::sessions::StepProblem::TooLate;
            let step = self.ran.run.last_step(session);
            self.ran
                .run
                .problems
                .push(Problem::Broken { step, problem });
            return Ok(false);
        }
        match way {
            0 => self.workers[session].gate.release(),
            1 => self.crash(session),
            _ => self.workers[session].gate.crash_after(),
        }
        self.ran.crashed = self.ran.crashed.or((way > 0).then_some(session));
        let is_going_on = self.settle_all()?;
        let mut effect = Effect {
            is_stuck: !is_going_on,
            ..Effect::default()
        };
        let mut after = Vec::new();
        let gate = &self.workers[session].gate;
        if gate.is_going() {
            let blocked = self.execution.blocked(session);
            let names = blocked.as_ref().map_or(&[][..], |blocked| blocked.by());
            if let (Some(blocked), Some(step)) = (&blocked, self.ran.run.steps.last_mut()) {
                step.wanted = Some(blocked.lock().to_owned());
            }
            let is_named = |other: &usize| names.contains(&self.program.sessions[*other].name);
            effect.waits = Some((0..self.workers.len()).filter(is_named).collect());
            self.ran.waits_outside |= self.outside.contains(&session);
            if is_going_on && !self.outside.contains(&session) {
                thread::sleep(LOOKED);
            }
        } else {
            let own = next.statement.as_ref().filter(|_| gate.fails_itself());
            if let (Some(statement), Some(_)) = (own, coming.waits_for()) {
                lock(self.knowledge).shapes.note_failing(statement);
            }
            effect.fails = self.ended(session);
            effect.closes = self.workers[session].gate.take_closed();
            after.push(session);
        }
        for other in waiting {
            if other != session && !self.workers[other].gate.is_going() {
                let is_victim = self.workers[other].gate.is_victim();
                // It looked for the circle later than the one that closed it: time has done that.
                self.ran.is_late |= is_victim && self.workers[other].finds_deadlocks;
                effect.resumes.push((other, self.ended(other)));
                after.push(other);
            }
        }
        let still = self.waiting();
        let is_one_of_several = !effect.resumes.is_empty() && !still.is_empty();
        self.ran.is_chosen |= is_one_of_several || effect.resumes.len() > 1;
        if effect.waits.is_none() && !effect.fails && !self.state.is_exhaustive() {
            effect.holds = coming.waits_for().is_some() && self.holds(&next, &coming);
        }
        self.state.take(&coming, &effect);
        let after = after
            .into_iter()
            .map(|session| (session, self.stands_before(session)))
            .collect();
        self.ran.record.taken.push(Taken {
            session,
            next,
            effect,
            after,
        });
        Ok(is_going_on)
    }

    /// Ends a session: its connection is cut, and then its thread unwound.
    fn crash(&mut self, session: usize) {
        if self.program.sessions[session].kind != SessionKind::Call {
            self.execution.cut(session);
        }
        self.workers[session].gate.crash_now();
    }

    /// A step has ended: notes how, and says whether it has failed.
    fn ended(&mut self, session: usize) -> bool {
        let error = self.workers[session].gate.take_error();
        if let Some(at) = self.current[session].take() {
            self.ran.run.steps[at].error = error.as_ref().map(ToString::to_string);
        }
        error.is_some()
    }

    /// Sessions have gone on by themselves.
    fn note_resumed(&mut self) {
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

    /// Whether the statement has the lock for which it might have waited.
    fn holds(&mut self, next: &Next, coming: &Coming) -> bool {
        let Some(statement) = &next.statement else {
            return false;
        };
        let touch = lock(self.knowledge).shapes.touch(statement);
        match touch.and_then(|touch| touch.row) {
            // Whoever asks for a row that is not there has none. Others may have it too, and with an
            // old snapshot it may not be there.
            Some(row) => match self.scout.ask(|conn| is_held(conn, &row)) {
                Ok((is_there, is_held)) => is_there && (coming.sees_now() || is_held),
                Err(_) => false,
            },
            None => true,
        }
    }
}
