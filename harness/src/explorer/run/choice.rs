//! Who goes on next.

use std::sync::Arc;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::steering::Steering;
use crate::explorer::model::{Actor, Coming, Next};
use crate::explorer::ran::lock;

impl<C> Steering<'_, '_, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// Chooses one of the sessions that stand before a step.
    pub(super) fn choose(&mut self, standing: &[(usize, Arc<Next>)]) -> (Actor, Arc<Next>, Coming) {
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
}
