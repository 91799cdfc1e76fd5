#[cfg(test)]
#[expect(clippy::unwrap_used)]
mod properties;

use std::error::Error;
use std::time::Duration;

use diesel_locks::LockError;

use super::error::ExplorerError;
use super::model::{Actor, CRASH, UNANSWERED};
use super::problem::SessionEnd;
use super::session::SessionBody;
use super::steps::StepResult;

pub(super) type Connect<'e, C> = Box<dyn Fn() -> StepResult<C> + Sync + 'e>;
pub(super) type Prepare<'e, C> = Box<dyn Fn(&mut C) -> StepResult + Sync + 'e>;
pub(super) type Invariant<'e, C> =
    Box<dyn Fn(&mut C, &[SessionEnd]) -> StepResult<bool> + Sync + 'e>;
pub(super) type Allowed<'e, E> = Box<dyn Fn(&E) -> bool + Sync + 'e>;

/// What is run in every order.
pub(super) struct Program<'e, C> {
    pub(super) sessions: Vec<SessionBody<'e, C>>,
    pub(super) setup: Option<Prepare<'e, C>>,
    pub(super) teardown: Option<Prepare<'e, C>>,
    pub(super) invariants: Vec<(String, Invariant<'e, C>)>,
    pub(super) allowed: Allowed<'e, LockError>,
    pub(super) allowed_results: Allowed<'e, str>,
    pub(super) allowed_errors: Allowed<'e, dyn Error + Send + Sync>,
    pub(super) timeout: Duration,
    pub(super) is_exhaustive: bool,
    pub(super) is_serializable: bool,
    pub(super) crashes: bool,
    /// What was ended is run a second time.
    pub(super) retries: bool,
    /// What the comparison of ends leaves out: `table.column`.
    pub(super) ignored: Vec<String>,
}

/// A step's name in a schedule.
pub(super) fn full_name(session: &str, label: &str) -> String {
    format!("{session}.{label}")
}

impl<C> Program<'_, C> {
    /// The sessions of a schedule, in its order, and its steps.
    pub(super) fn parse(&self, schedule: &str) -> Result<(Vec<Actor>, Vec<String>), ExplorerError> {
        let mut next = vec![0; self.sessions.len()];
        let (mut order, mut names) = (Vec::new(), Vec::new());
        for name in schedule.split_whitespace() {
            let is_next = |&session: &usize| {
                let known = &self.sessions[session];
                let own = name.strip_prefix(known.name.as_str());
                let Some(label) = own.and_then(|rest| rest.strip_prefix('.')) else {
                    return false;
                };
                let labels = known.labels.as_ref();
                labels.is_none_or(|labels| {
                    labels.get(next[session]).is_some_and(|next| next == label)
                })
            };
            let Some(session) = (0..self.sessions.len()).find(is_next) else {
                return Err(ExplorerError::Schedule {
                    step: name.to_owned(),
                });
            };
            next[session] += 1;
            let label = name.split_once('.').map_or("", |(_, label)| label);
            let is_code = self.sessions[session].labels.is_none();
            let way = [CRASH, UNANSWERED]
                .iter()
                .position(|crash| is_code && *crash == label);
            order.push((session, way.map_or(0, |way| way + 1)));
            names.push(name.to_owned());
        }
        Ok((order, names))
    }

    pub(super) fn check_labels(&self) -> Result<(), ExplorerError> {
        let is_word = |label: &str| !label.is_empty() && !label.contains(char::is_whitespace);
        for session in &self.sessions {
            let labels = session.labels.iter().flatten();
            let wrong = labels.into_iter().find(|label| !is_word(label));
            let name = Some(&session.name);
            // What comes before the first full stop of a step in a schedule is the session.
            let wrong = wrong.or(name.filter(|name| !is_word(name) || name.contains('.')));
            if let Some(label) = wrong {
                return Err(ExplorerError::Label {
                    label: label.clone(),
                });
            }
        }
        Ok(())
    }

    /// How many orders there are if nobody ever waits, as far as numbers go.
    pub(super) fn interleavings(&self) -> u128 {
        let mut steps = 0_u128;
        let mut orders = 1_u128;
        for session in &self.sessions {
            // How many statements there will be is not known.
            let Some(labels) = &session.labels else {
                return u128::MAX;
            };
            for own in 1..=labels.len() as u128 {
                steps += 1;
                // A product of so many neighbours can be divided by each of these.
                orders = orders.saturating_mul(steps) / own;
            }
        }
        orders
    }
}
