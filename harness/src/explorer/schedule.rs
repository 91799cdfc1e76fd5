use std::collections::VecDeque;

use super::model::Actor;

/// How one schedule goes: what is given of it, and how it goes on from there.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    left: VecDeque<Actor>,
    then: Then,
    last: Option<usize>,
    /// Whether something could not be done in the order that was given.
    strayed: bool,
}

#[derive(Debug, Clone)]
enum Then {
    /// With as few preemptions as can be.
    GoOn,
    /// One session after the other.
    Serial(Vec<usize>),
    Random(u64),
}

impl Schedule {
    /// Begins with these sessions, and then goes on with as few preemptions as can be.
    pub(super) fn from_start(actors: Vec<Actor>) -> Self {
        Self {
            left: actors.into(),
            then: Then::GoOn,
            last: None,
            strayed: false,
        }
    }

    /// Each of these sessions, and no other, from its start to its end.
    pub(super) fn serial(sessions: Vec<usize>) -> Self {
        Self {
            then: Then::Serial(sessions),
            ..Self::from_start(Vec::new())
        }
    }

    /// Goes where chance leads it, which is the same way for the same numbers.
    pub(super) fn random(seed: u64, number: usize) -> Self {
        let mut state = seed;
        // Neighbours have nothing in common.
        let seed = next(&mut state) ^ (number as u64).wrapping_mul(0x9e6c_63d0_876a_68ee);
        Self {
            then: Then::Random(seed),
            ..Self::from_start(Vec::new())
        }
    }

    /// The sessions that take part; none are all.
    pub(super) fn only(&self) -> Option<&[usize]> {
        match &self.then {
            Then::Serial(sessions) => Some(sessions),
            _ => None,
        }
    }

    /// Chooses one of the sessions that can go on, of which there is at least one. What is given
    /// may be any that stands before a step; what is not, one of those that are `enabled`.
    ///
    /// A session that is to come next and can't go on waits its turn. `left` says how many steps a
    /// session has left, as far as is known.
    pub(super) fn choose(
        &mut self,
        standing: &[usize],
        enabled: &[usize],
        left: impl Fn(usize) -> usize,
    ) -> Actor {
        let given = self
            .left
            .iter()
            .position(|(next, _)| standing.contains(next));
        self.strayed |= !self.left.is_empty() && given != Some(0);
        let given = given.and_then(|at| self.left.remove(at));
        let chosen = given.unwrap_or_else(|| {
            (
                match (&mut self.then, self.last) {
                    (Then::Random(random), _) => {
                        // Each order of what is left is as probable as any other.
                        let weights: Vec<usize> =
                            enabled.iter().map(|&of| left(of).max(1)).collect();
                        let mut ticket = below(random, weights.iter().sum());
                        let mut chosen = 0;
                        while ticket >= weights[chosen] {
                            ticket -= weights[chosen];
                            chosen += 1;
                        }
                        enabled[chosen]
                    }
                    (Then::Serial(sessions), _) => {
                        let first = sessions.iter().find(|session| enabled.contains(session));
                        first.copied().unwrap_or(enabled[0])
                    }
                    (Then::GoOn, Some(last)) if enabled.contains(&last) => last,
                    (Then::GoOn, _) => enabled[0],
                },
                0,
            )
        });
        self.last = Some(chosen.0);
        chosen
    }

    pub(super) fn has_strayed(&self) -> bool {
        self.strayed
    }
}

/// A number below `bound`, which is good enough for a choice among a few.
fn below(state: &mut u64, bound: usize) -> usize {
    ((u128::from(next(state)) * bound as u128) >> 64) as usize
}

/// SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    fn orders(seed: u64, schedules: usize) -> Vec<Vec<usize>> {
        let order = |number| {
            let mut schedule = Schedule::random(seed, number);
            let mut left = [2, 2];
            let mut order = Vec::new();
            while left != [0, 0] {
                let enabled: Vec<usize> = (0..2).filter(|&at| left[at] > 0).collect();
                let (chosen, _) = schedule.choose(&enabled, &enabled, |at| left[at]);
                left[chosen] -= 1;
                order.push(chosen);
            }
            order
        };
        (0..schedules).map(order).collect()
    }

    #[test]
    fn chance_chooses_each_order_as_often_as_any_other() {
        let mut counts: HashMap<Vec<usize>, usize> = HashMap::new();
        for order in orders(1, 6000) {
            *counts.entry(order).or_default() += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(
            counts.values().all(|&count| (850..1150).contains(&count)),
            "{counts:?}"
        );
    }

    #[test]
    fn another_seed_chooses_other_orders() {
        let pair = |seed| {
            let orders = orders(seed, 40);
            orders.windows(8).map(<[_]>::to_vec).collect::<HashSet<_>>()
        };
        assert!(pair(1).is_disjoint(&pair(2)));
        assert_eq!(pair(3), pair(3));
    }
}
