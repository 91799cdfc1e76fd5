use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::observe::lock::LockWait;
use crate::observe::session::{SessionId, SessionInfo};

/// The graph by numbers of its sessions, and what follows from who waits for whom.
pub(super) struct Analysis<'g> {
    pub(super) sessions: Vec<&'g SessionInfo>,
    /// What each of them waits for.
    pub(super) waits: Vec<Vec<&'g LockWait>>,
    /// Behind whom each of them is.
    pub(super) blockers: Vec<Vec<usize>>,
    /// Who is behind each of them.
    pub(super) behind: Vec<Vec<usize>>,
    /// Those that wait for each other; most are alone.
    components: Vec<Vec<usize>>,
    /// In which of these each of them is.
    component: Vec<usize>,
}

impl<'g> Analysis<'g> {
    pub(super) fn of(known: &'g BTreeMap<SessionId, SessionInfo>, all: &'g [LockWait]) -> Self {
        let sessions: Vec<_> = known.values().collect();
        let ids = known.keys().enumerate();
        let at: HashMap<&SessionId, usize> = ids.map(|(at, id)| (id, at)).collect();
        let mut waits = vec![Vec::new(); sessions.len()];
        let mut edges = BTreeSet::new();
        for wait in all {
            let Some(&waiter) = at.get(&wait.waiter()) else {
                continue;
            };
            waits[waiter].push(wait);
            let blockers = wait.blockers.iter().filter_map(|blocker| at.get(blocker));
            edges.extend(blockers.map(|&blocker| (waiter, blocker)));
        }
        let mut blockers = vec![Vec::new(); sessions.len()];
        let mut behind = vec![Vec::new(); sessions.len()];
        for (waiter, blocker) in edges {
            blockers[waiter].push(blocker);
            behind[blocker].push(waiter);
        }
        let (components, component) = components(&blockers, &behind);
        Self {
            sessions,
            waits,
            blockers,
            behind,
            components,
            component,
        }
    }

    /// Those that wait for each other.
    pub(super) fn cycles(&self) -> impl Iterator<Item = &[usize]> {
        let several = self.components.iter().filter(|members| members.len() > 1);
        several.map(Vec::as_slice)
    }

    /// Whether two wait for each other.
    pub(super) fn is_cycle(&self, one: usize, other: usize) -> bool {
        one != other && self.component[one] == self.component[other]
    }

    /// Whether it is in a cycle.
    pub(super) fn is_in_cycle(&self, at: usize) -> bool {
        self.components[self.component[at]].len() > 1
    }

    /// Those that wait for nobody else, with how many they hold up, most first.
    pub(super) fn roots(&self) -> Vec<(&[usize], usize)> {
        let waits_for_none = |members: &&Vec<usize>| {
            let mut blockers = members.iter().flat_map(|&at| &self.blockers[at]);
            blockers.all(|blocker| members.contains(blocker))
        };
        let mut roots: Vec<_> = (self.components.iter())
            .filter(waits_for_none)
            .map(|members| (members.as_slice(), self.held_up(members).len()))
            .filter(|(members, holds_up)| *holds_up > 0 || members.len() > 1)
            .collect();
        roots.sort_by_key(|(members, holds_up)| {
            (std::cmp::Reverse(*holds_up), members.first().copied())
        });
        roots
    }

    /// Who is behind them, directly or not, in the order of the distance; each with the one that it
    /// is behind directly.
    pub(super) fn held_up(&self, members: &[usize]) -> Vec<(usize, usize)> {
        let mut seen: BTreeSet<_> = members.iter().copied().collect();
        let mut next: VecDeque<_> = members.iter().copied().collect();
        let mut found = Vec::new();
        while let Some(blocker) = next.pop_front() {
            for &waiter in &self.behind[blocker] {
                if seen.insert(waiter) {
                    found.push((waiter, blocker));
                    next.push_back(waiter);
                }
            }
        }
        found
    }
}

/// The strongly connected components, without recursion, which a long queue would make deep: all
/// are visited along the edges, and then against them in the opposite order of their ends.
fn components(along: &[Vec<usize>], against: &[Vec<usize>]) -> (Vec<Vec<usize>>, Vec<usize>) {
    let mut ended = Vec::new();
    let mut seen = vec![false; along.len()];
    for start in 0..along.len() {
        let mut open = vec![(start, 0)];
        while let Some((at, edge)) = open.pop() {
            if edge == 0 && std::mem::replace(&mut seen[at], true) {
                continue;
            }
            match along[at].get(edge) {
                Some(&to) => open.extend([(at, edge + 1), (to, 0)]),
                None => ended.push(at),
            }
        }
    }
    let mut components: Vec<Vec<usize>> = Vec::new();
    let mut component = vec![usize::MAX; along.len()];
    while let Some(start) = ended.pop() {
        let mut members = Vec::new();
        let mut open = vec![start];
        while let Some(at) = open.pop() {
            if component[at] == usize::MAX {
                component[at] = components.len();
                members.push(at);
                open.extend(&against[at]);
            }
        }
        if !members.is_empty() {
            members.sort_unstable();
            components.push(members);
        }
    }
    (components, component)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by_edges(sessions: usize, edges: &[(usize, usize)]) -> Vec<Vec<usize>> {
        let (mut along, mut against) = (vec![Vec::new(); sessions], vec![Vec::new(); sessions]);
        for &(from, to) in edges {
            along[from].push(to);
            against[to].push(from);
        }
        let (mut components, component) = components(&along, &against);
        for (at, &of) in component.iter().enumerate() {
            assert!(components[of].contains(&at));
        }
        components.sort_unstable();
        components
    }

    #[test]
    fn those_that_wait_for_each_other_are_together_and_all_others_alone() {
        assert_eq!(by_edges(3, &[(0, 1), (1, 2), (0, 2)]), [[0], [1], [2]]);
        assert_eq!(by_edges(3, &[(0, 1), (1, 2), (2, 0)]), [[0, 1, 2]]);
        let two = by_edges(5, &[(0, 1), (1, 0), (1, 2), (2, 3), (3, 2), (4, 0)]);
        assert_eq!(two, [vec![0, 1], vec![2, 3], vec![4]]);
    }

    #[test]
    fn a_long_queue_overflows_no_stack() {
        let edges: Vec<_> = (1..100_000).map(|at| (at, at - 1)).collect();
        assert_eq!(by_edges(100_000, &edges).len(), 100_000);
    }
}
