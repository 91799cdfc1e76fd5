//! One step of one session, and what it makes the others do.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::steering::Steering;
use crate::explorer::error::ExplorerError;
use crate::explorer::model::{Actor, Coming, Effect, Next, Taken};
use crate::explorer::program::full_name;
use crate::explorer::report::RunStep;
use crate::explorer::session::SessionKind;
use crate::sessions::StepProblem;

/// How long a session that waits has had to look for a circle, before another one goes on: so the
/// one that closes a circle is the one that finds it.
const LOOKED: Duration = Duration::from_millis(10);

impl<C> Steering<'_, '_, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// Has the session go on, and says whether none has hung.
    pub(super) fn step(
        &mut self,
        (session, way): Actor,
        next: Arc<Next>,
        coming: Coming,
    ) -> Result<bool, ExplorerError> {
        let waited = self.busy();
        if !self.begin(session, &next) {
            return Ok(false);
        }
        self.let_go_on(session, way);
        let is_going_on = self.settle_all()?;
        let mut effect = Effect {
            is_stuck: !is_going_on,
            ..Effect::default()
        };
        let mut gone_on = Vec::new();
        if self.workers[session].gate.is_going() {
            effect.waits = Some(self.waits_for(session));
            if is_going_on && !self.outside.contains(&session) {
                thread::sleep(LOOKED);
            }
        } else {
            self.note_failing(session, &next, &coming);
            effect.fails = self.ended(session);
            effect.closes = self.workers[session].gate.take_closed();
            gone_on.push(session);
        }
        effect.resumes = self.resumed(session, &waited);
        gone_on.extend(effect.resumes.iter().map(|(session, _)| *session));
        if effect.waits.is_none() && !effect.fails && !self.state.is_exhaustive() {
            let may_hold = coming.waits_for().is_some();
            effect.holds = may_hold && (coming.has_lock() || self.holds(session, &next, &coming));
        }
        self.state.take(&coming, &effect);
        let after = gone_on
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

    /// Takes note of the step, and says whether there is time left for it.
    fn begin(&mut self, session: usize, next: &Next) -> bool {
        let step = full_name(&self.program.sessions[session].name, &next.label);
        self.current[session] = Some(self.ran.run.steps.len());
        self.ran.run.steps.push(RunStep::new(session, step, next));
        let is_in_time = self.execution.start(session, &next.label).is_ok();
        if !is_in_time {
            let step = self.ran.run.last_step(session);
            self.note_broken(step, StepProblem::TooLate);
        }
        is_in_time
    }

    fn let_go_on(&mut self, session: usize, way: usize) {
        match way {
            0 => self.workers[session].gate.release(),
            1 => self.crash(session),
            _ => self.workers[session].gate.crash_after(),
        }
        self.ran.crashed = self.ran.crashed.or((way > 0).then_some(session));
    }

    /// Ends a session: its connection is cut, and then its thread unwound.
    fn crash(&self, session: usize) {
        if self.program.sessions[session].kind != SessionKind::Call {
            self.execution.cut(session);
        }
        self.workers[session].gate.crash_now();
    }
}
