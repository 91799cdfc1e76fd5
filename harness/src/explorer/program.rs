use std::time::Duration;

use diesel_locks::LockError;

use super::error::ExplorerError;
use super::report::SessionEnd;
use super::steps::{Script, StepResult};

pub(super) type Connect<'e, C> = Box<dyn Fn() -> StepResult<C> + Sync + 'e>;
pub(super) type Prepare<'e, C> = Box<dyn Fn(&mut C) -> StepResult + Sync + 'e>;
pub(super) type Invariant<'e, C, S> =
    Box<dyn Fn(&mut C, &[SessionEnd<S>]) -> StepResult<bool> + Sync + 'e>;

/// What is run in every order.
pub(super) struct Program<'e, C, S> {
    pub(super) sessions: Vec<(String, Script<C, S>)>,
    pub(super) setup: Option<Prepare<'e, C>>,
    pub(super) teardown: Option<Prepare<'e, C>>,
    pub(super) invariants: Vec<(String, Invariant<'e, C, S>)>,
    pub(super) allowed: Box<dyn Fn(&LockError) -> bool + Sync + 'e>,
    pub(super) timeout: Duration,
}

/// A step's name in a schedule.
pub(super) fn full_name(session: &str, label: &str) -> String {
    format!("{session}.{label}")
}

impl<C, S> Program<'_, C, S> {
    /// The sessions of a schedule, in its order.
    pub(super) fn parse(&self, schedule: &str) -> Result<Vec<usize>, ExplorerError> {
        let mut next = vec![0; self.sessions.len()];
        let mut order = Vec::new();
        for name in schedule.split_whitespace() {
            let is_next = |&session: &usize| {
                let (session_name, steps) = &self.sessions[session];
                let step = steps.get(next[session]);
                step.is_some_and(|(label, _)| name == full_name(session_name, label))
            };
            let Some(session) = (0..self.sessions.len()).find(is_next) else {
                return Err(ExplorerError::Schedule {
                    step: name.to_owned(),
                });
            };
            next[session] += 1;
            order.push(session);
        }
        Ok(order)
    }

    pub(super) fn check_labels(&self) -> Result<(), ExplorerError> {
        let is_word = |label: &str| !label.is_empty() && !label.contains(char::is_whitespace);
        for (name, steps) in &self.sessions {
            let labels = steps.iter().map(|(label, _)| label);
            let wrong = labels.into_iter().find(|label| !is_word(label));
            // What comes before the first full stop of a step in a schedule is the session.
            let wrong = wrong.or(Some(name).filter(|name| !is_word(name) || name.contains('.')));
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
        for (_, script) in &self.sessions {
            for own in 1..=script.len() as u128 {
                steps += 1;
                // A product of so many neighbours can be divided by each of these.
                orders = orders.saturating_mul(steps) / own;
            }
        }
        orders
    }
}
