//! What the runs so far have shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::state::{Coming, Effect, Next, State, Taken};
use crate::explorer::footprint::Shapes;

/// What follows what, and which orders were run.
#[derive(Debug, Default)]
pub(crate) struct Knowledge {
    pub(crate) shapes: Shapes,
    /// Every step may depend on every other one.
    pub(crate) is_exhaustive: bool,
    /// Sessions may be ended.
    pub(crate) crashes: bool,
    nexts: HashMap<u64, Option<Arc<Next>>>,
    effects: HashMap<u64, Effect>,
    /// The orders that were run, all that are the same as one, with the number of their end.
    run: HashMap<u64, usize>,
    /// How many events each session had, at most.
    lengths: HashMap<usize, usize>,
    /// The same has led to something else.
    pub(crate) is_contradictory: bool,
}

/// What is known of a state.
#[derive(Debug)]
pub(crate) enum Known {
    /// The sessions that can go on.
    Ways(Vec<Way>),
    /// What the sessions do next has to be found out.
    Nothing,
}

/// Who goes on, and how: the session, and 0 if it does its next step, or else the number of the way
/// in which it is ended.
pub(crate) type Actor = (usize, usize);

#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) actor: Actor,
    pub(crate) coming: Coming,
    /// None has to be found out.
    pub(crate) effect: Option<Effect>,
}

impl Knowledge {
    /// Takes note of a run.
    pub(crate) fn learn(&mut self, start: &[Option<Arc<Next>>], taken: &[Taken], end: usize) {
        let mut state = self.start(start.len());
        for (session, next) in start.iter().enumerate() {
            self.note_next(state.key(session), next);
        }
        for taken in taken {
            let coming = state.coming(taken.session, &taken.next, &self.shapes);
            // It may be known by now that a wait is not as good as coming later.
            let mut effect = taken.effect.clone();
            effect.holds &= coming.waits_for().is_some();
            self.note_effect(coming.number, &effect);
            state.take(&coming, &effect);
            for (session, next) in &taken.after {
                self.note_next(state.key(*session), next);
            }
        }
        self.run.entry(state.trace()).or_insert(end);
        for session in 0..start.len() {
            let own = taken
                .iter()
                .filter(|taken| taken.session == session)
                .count();
            let length = self.lengths.entry(session).or_default();
            *length = own.max(*length);
        }
    }

    /// How many events the session has, as far as is known.
    pub(crate) fn length(&self, session: usize) -> usize {
        self.lengths.get(&session).copied().unwrap_or_default()
    }

    /// Where every run begins.
    pub(crate) fn start(&self, sessions: usize) -> State {
        State::new(sessions, self.is_exhaustive, self.shapes.has_unknown)
    }

    /// Forgets the runs, but not the statements.
    pub(crate) fn forget(&mut self) {
        *self = Self {
            shapes: std::mem::take(&mut self.shapes),
            is_exhaustive: self.is_exhaustive,
            crashes: self.crashes,
            ..Self::default()
        };
    }

    fn note_next(&mut self, key: u64, next: &Option<Arc<Next>>) {
        match self.nexts.entry(key) {
            Entry::Occupied(known) => {
                self.is_contradictory |= known.get() != next;
                let statement = |next: &Option<Arc<Next>>| next.as_ref()?.statement.clone();
                if let (Some(one), Some(other)) = (statement(known.get()), statement(next)) {
                    self.is_contradictory |= !self.shapes.compare(&one, &other);
                }
            }
            Entry::Vacant(new) => {
                new.insert(next.clone());
            }
        }
    }

    fn note_effect(&mut self, number: u64, effect: &Effect) {
        match self.effects.entry(number) {
            Entry::Occupied(known) => self.is_contradictory |= known.get() != effect,
            Entry::Vacant(new) => {
                new.insert(effect.clone());
            }
        }
    }

    /// The number of the end to which this has led, if it is an order that was run.
    pub(crate) fn end(&self, state: &State) -> Option<usize> {
        self.run.get(&state.trace()).copied()
    }

    /// How the state can go on, without the sessions that sleep.
    pub(crate) fn ways(&self, state: &State, sessions: usize) -> Known {
        if state.is_stuck {
            return Known::Ways(Vec::new());
        }
        let (mut coming, mut crashes) = (Vec::new(), Vec::new());
        for session in (0..sessions).filter(|&session| !state.is_waiting(session)) {
            match self.nexts.get(&state.key(session)) {
                Some(Some(next)) => {
                    coming.push((session, state.coming(session, next, &self.shapes)));
                    if self.crashes && !state.has_crashed && state.has_begun(session) {
                        let ways = next.crashes().into_iter().enumerate();
                        crashes.extend(ways.map(|(number, crash)| {
                            let actor = (session, number + 1);
                            (actor, state.coming(session, &crash, &self.shapes))
                        }));
                    }
                }
                Some(None) => {}
                None => return Known::Nothing,
            }
        }
        let enabled = state.enabled(&coming);
        let goes_on = |session: &usize| {
            let known = coming.iter().find(|(other, _)| other == session);
            known.map(|(session, coming)| ((*session, 0), coming.clone()))
        };
        let ways = enabled.iter().filter_map(goes_on).chain(crashes);
        let ways = ways.map(|(actor, coming)| Way {
            actor,
            effect: self.effects.get(&coming.number).cloned(),
            coming,
        });
        Known::Ways(ways.collect())
    }
}
