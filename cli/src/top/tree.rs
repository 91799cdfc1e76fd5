//! The graph of waits as lines: each session once, below one of those that it waits for.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use diesel_locks::{LockInfo, LockWait, SessionId, SessionInfo, WaitGraph};

use crate::words::{doing, id, one_line};

/// A session, or a lock of one.
#[derive(Debug, Clone)]
pub(super) struct Row {
    pub(super) session: SessionInfo,
    /// The lines that lead to it, and then its pid.
    pub(super) place: String,
    /// What it waits for or holds, and how.
    pub(super) lock: String,
    pub(super) waiting: Option<Duration>,
    /// How many others a root blocker holds up.
    pub(super) holds_up: usize,
    pub(super) is_deadlocked: bool,
}

impl Row {
    pub(super) fn is_root(&self) -> bool {
        self.holds_up > 0
    }

    pub(super) fn contains(&self, text: &str) -> bool {
        if text.is_empty() {
            return true;
        }
        let session = &self.session;
        let names = [&session.application, &session.user, &session.database];
        let names = names.into_iter().flatten().map(|name| one_line(name));
        [id(session), self.lock.clone(), doing(session)]
            .into_iter()
            .chain(names)
            .any(|field| field.to_lowercase().contains(text))
    }
}

/// Which of several comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    HoldsUp,
    Waiting,
    Age,
    Pid,
}

impl Order {
    pub(super) fn next(self) -> Self {
        match self {
            Self::HoldsUp => Self::Waiting,
            Self::Waiting => Self::Age,
            Self::Age => Self::Pid,
            Self::Pid => Self::HoldsUp,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::HoldsUp => "held up",
            Self::Waiting => "wait",
            Self::Age => "age",
            Self::Pid => "pid",
        }
    }

    fn sort(self, trees: &mut [Vec<Row>]) {
        trees.sort_by_key(|tree| {
            let longest = tree.iter().filter_map(|row| row.waiting).max();
            let (first, time) = match self {
                Self::HoldsUp => (tree[0].holds_up, longest),
                Self::Waiting => (0, longest),
                Self::Age => (0, tree[0].session.age),
                Self::Pid => (0, None),
            };
            (std::cmp::Reverse((first, time)), tree[0].session.pid)
        });
    }
}

/// The trees of the root blockers in which `filter` occurs, one after the other.
pub(super) fn waits(graph: &WaitGraph, order: Order, filter: &str) -> Vec<Row> {
    let branches = Branches::of(graph);
    let mut seen = BTreeSet::new();
    let mut trees = Vec::new();
    for root in graph.roots() {
        let is_deadlocked = root.sessions.len() > 1;
        // Those of a circle stand beside each other.
        seen.extend(root.sessions.iter().map(|session| session.id()));
        let mut tree = Vec::new();
        for session in root.sessions {
            let mut row = branches.row(session, String::new());
            row.holds_up = root.holds_up.max(1);
            row.is_deadlocked = is_deadlocked;
            tree.push(row);
            branches.below(&session.id(), "", order, &mut seen, &mut tree);
        }
        trees.push(tree);
    }
    trees.retain(|tree| tree.iter().any(|row| row.contains(filter)));
    order.sort(&mut trees);
    trees.concat()
}

/// Locks in which `filter` occurs.
pub(super) fn locks(locks: &[LockInfo], order: Order, filter: &str) -> Vec<Row> {
    let rows = locks.iter().map(|lock| Row {
        session: lock.session.clone(),
        place: id(&lock.session),
        lock: format!("{}, {}", lock.object, lock.mode),
        waiting: lock.waiting,
        holds_up: 0,
        is_deadlocked: false,
    });
    let mut rows: Vec<_> = rows
        .filter(|row| row.contains(filter))
        .map(|row| vec![row])
        .collect();
    order.sort(&mut rows);
    rows.concat()
}

struct Branches<'g> {
    waiters: BTreeMap<SessionId, Vec<&'g SessionInfo>>,
    waits: BTreeMap<SessionId, &'g LockWait>,
}

impl<'g> Branches<'g> {
    fn of(graph: &'g WaitGraph) -> Self {
        let mut waiters = BTreeMap::<_, Vec<_>>::new();
        for edge in graph.edges() {
            waiters
                .entry(edge.blocker.id())
                .or_default()
                .push(edge.waiter);
        }
        let waits = graph.waits().iter().map(|wait| (wait.waiter(), wait));
        Self {
            waiters,
            waits: waits.collect(),
        }
    }

    fn row(&self, session: &SessionInfo, lines: String) -> Row {
        let wait = self.waits.get(&session.id());
        let lock = wait.map_or_else(String::new, |wait| {
            format!("{}, {}", wait.lock.object, wait.lock.mode)
        });
        Row {
            session: session.clone(),
            place: format!("{lines}{}", id(session)),
            lock,
            waiting: wait.and_then(|wait| wait.lock.waiting),
            holds_up: 0,
            is_deadlocked: false,
        }
    }

    /// Adds those that wait for `blocker` and have no place yet. Without recursion, which a long
    /// queue would make deep.
    fn below(
        &self,
        blocker: &SessionId,
        lines: &str,
        order: Order,
        seen: &mut BTreeSet<SessionId>,
        tree: &mut Vec<Row>,
    ) {
        let mut open = vec![self.twigs(blocker, lines, order, seen)];
        while let Some(twigs) = open.last_mut() {
            let Some((row, deeper)) = twigs.pop() else {
                open.pop();
                continue;
            };
            let id = row.session.id();
            tree.push(row);
            open.push(self.twigs(&id, &deeper, order, seen));
        }
    }

    /// Those directly below, the last one first, each with the lines for what is below it.
    fn twigs(
        &self,
        blocker: &SessionId,
        lines: &str,
        order: Order,
        seen: &mut BTreeSet<SessionId>,
    ) -> Vec<(Row, String)> {
        let mut waiters = self.waiters.get(blocker).cloned().unwrap_or_default();
        waiters.retain(|waiter| seen.insert(waiter.id()));
        waiters.sort_by_key(|waiter| {
            let waiting = self
                .waits
                .get(&waiter.id())
                .and_then(|wait| wait.lock.waiting);
            let time = match order {
                Order::HoldsUp | Order::Waiting => waiting,
                Order::Age => waiter.age,
                Order::Pid => None,
            };
            (std::cmp::Reverse(time), waiter.pid)
        });
        let last = waiters.len().saturating_sub(1);
        let twigs = waiters.into_iter().enumerate().map(|(nth, waiter)| {
            let (branch, deeper) = match nth == last {
                true => ("└ ", "  "),
                false => ("├ ", "│ "),
            };
            let row = self.row(waiter, format!("{lines}{branch}"));
            (row, format!("{lines}{deeper}"))
        });
        let mut twigs: Vec<_> = twigs.collect();
        twigs.reverse();
        twigs
    }
}
