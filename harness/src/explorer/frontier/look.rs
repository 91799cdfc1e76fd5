//! Which order is looked at next, and which are the same as others.

use std::cmp::Reverse;

use super::node::Node;
use super::{Frontier, Left, Task};
use crate::explorer::footprint::Footprint;
use crate::explorer::model::{Actor, Known, Way};
use crate::explorer::ran::lock;
use crate::explorer::schedule::Schedule;

impl Frontier<'_> {
    /// Looks for a schedule that was not run and is not the same as one that was.
    pub(super) fn look(&self, left: &mut Left) -> Option<Task> {
        if let Some(seed) = self.bounds.seed {
            // Another one for each number, so that it does not matter which worker runs it.
            let schedule = Schedule::random(seed, left.begun);
            let node = None;
            return Some(Task { schedule, node });
        }
        let knowledge = lock(self.knowledge);
        while let Some(Reverse(node)) = left.nodes.pop() {
            let mut order = node.order.clone();
            match knowledge.ways(&node.state, self.sessions) {
                Known::Ways(ways) if !ways.is_empty() => match self.branch(left, &node, &ways) {
                    None => continue,
                    Some(actor) => order.push(actor),
                },
                // All have ended.
                Known::Ways(_) if knowledge.end(&node.state).is_some() => continue,
                Known::Ways(_) | Known::Nothing => {}
            }
            if node.tries > self.sessions * 2 {
                // It does not lead there again.
                left.cut = true;
                continue;
            }
            let schedule = Schedule::from_start(order);
            let node = Some(Node {
                tries: node.tries + 1,
                ..node
            });
            return Some(Task { schedule, node });
        }
        None
    }

    /// Adds the ways in which a state can go on, but those that are the same as others; or says of
    /// which session it has to be found out first what happens when it goes on.
    fn branch(&self, left: &mut Left, node: &Node, ways: &[Way]) -> Option<Actor> {
        let last = node.order.last().map(|(session, _)| *session);
        let could_go_on = |session| ways.iter().any(|way| way.actor == (session, 0));
        let preempts = |way: &Way| {
            let is_other = |last| last != way.actor.0 && could_go_on(last);
            // A crash is rarer than that another one goes on.
            usize::from(last.is_some_and(is_other)) + usize::from(way.actor.1 > 0)
        };
        // Who goes on without a preemption is looked at first.
        let mut ordered: Vec<&Way> = ways.iter().collect();
        ordered.sort_by_key(|way| (way.actor.1 > 0, Some(way.actor.0) != last, way.actor));
        let (mut known, mut is_cut) = (Vec::new(), false);
        for way in ordered {
            let sleeps = node.sleeping.contains(&way.actor);
            if !sleeps && node.preemptions + preempts(way) > self.bounds.preemptions {
                is_cut = true;
                continue;
            }
            let Some(effect) = &way.effect else {
                return Some(way.actor);
            };
            let footprint = node.state.footprint(&way.coming, effect);
            known.push((way, effect, footprint, sleeps));
        }
        left.cut |= is_cut;
        let mut sleeping: Vec<(Actor, &Footprint)> = (known.iter())
            .filter(|(.., sleeps)| *sleeps)
            .map(|(way, _, footprint, _)| (way.actor, footprint))
            .collect();
        for (way, effect, footprint, _) in known.iter().filter(|(.., sleeps)| !sleeps) {
            let mut state = node.state.clone();
            state.take(&way.coming, effect);
            let still = sleeping
                .iter()
                .filter(|(actor, other)| actor.0 != way.actor.0 && !other.depends(footprint));
            let mut order = node.order.clone();
            order.push(way.actor);
            left.nodes.push(Reverse(Node {
                preemptions: node.preemptions + preempts(way),
                order,
                state,
                sleeping: still.map(|(actor, _)| *actor).collect(),
                tries: 0,
                beginning: node.beginning,
            }));
            sleeping.push((way.actor, footprint));
        }
        None
    }

    /// Whether a serial order is the same as one that was run.
    pub(super) fn is_known(&self, order: &[usize]) -> bool {
        let knowledge = lock(self.knowledge);
        let mut state = knowledge.start(self.sessions);
        for &session in order {
            loop {
                let Known::Ways(ways) = knowledge.ways(&state, self.sessions) else {
                    return false;
                };
                let Some(way) = ways.into_iter().find(|way| way.actor == (session, 0)) else {
                    break;
                };
                let Some(effect) = &way.effect else {
                    return false;
                };
                state.take(&way.coming, effect);
            }
        }
        knowledge.end(&state).is_some()
    }
}
