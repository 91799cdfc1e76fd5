mod look;
mod node;

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, VecDeque};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use self::node::Node;
use super::model::{Actor, Knowledge};
use super::ran::{Ran, Record, lock};
use super::report::{Exploration, Run};
use super::schedule::Schedule;

/// The schedules that are left to run, shared by the workers.
///
/// What is known of the program says which orders there are. An order that is the same as another
/// one, because what differs are steps that do not depend on each other, is left out: a session
/// *sleeps* after a step of another one if its own step would have been the same before it, and
/// that was looked at already. Where it is not known what a session does next, a schedule is run
/// to find out. Those with the fewest preemptions come first, because most faults show with one or
/// two.
pub(super) struct Frontier<'f> {
    state: Mutex<Left>,
    changed: Condvar,
    bounds: Bounds,
    knowledge: &'f Mutex<Knowledge>,
    sessions: usize,
}

/// How much to run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) schedules: usize,
    pub(super) preemptions: usize,
    pub(super) failures: usize,
    /// Where the schedules are to be chosen by chance.
    pub(super) seed: Option<u64>,
}

/// What to run next.
pub(super) struct Task {
    pub(super) schedule: Schedule,
    node: Option<Node>,
}

struct Left {
    nodes: BinaryHeap<Reverse<Node>>,
    remembered: VecDeque<Vec<Actor>>,
    serial: VecDeque<Vec<usize>>,
    serial_running: usize,
    running: usize,
    begun: usize,
    /// Whether something was left out.
    cut: bool,
    stopped: bool,
    /// Whether a schedule has come to no end in its time.
    has_hung: bool,
    ends: Vec<String>,
    failures: Vec<(usize, Run)>,
    ran: Vec<String>,
    /// What is to be learnt again, with the numbers of the ends.
    records: Vec<(Record, usize)>,
    /// How often it was begun again, and what was known of the statements then.
    beginning: usize,
    revision: usize,
}

impl Left {
    fn counts(&self) -> Counts {
        Counts {
            ended: self.ran.len(),
            failures: self.failures.len(),
        }
    }
}

impl<'f> Frontier<'f> {
    pub(super) fn new(
        bounds: Bounds,
        knowledge: &'f Mutex<Knowledge>,
        sessions: usize,
        serial: Vec<Vec<usize>>,
    ) -> Self {
        let root = Node::root(lock(knowledge).start(sessions), 0);
        Self {
            state: Mutex::new(Left {
                nodes: BinaryHeap::from([Reverse(root)]),
                remembered: VecDeque::new(),
                serial: serial.into(),
                serial_running: 0,
                running: 0,
                begun: 0,
                cut: bounds.seed.is_some(),
                stopped: false,
                has_hung: false,
                ends: Vec::new(),
                failures: Vec::new(),
                ran: Vec::new(),
                records: Vec::new(),
                beginning: 0,
                revision: 0,
            }),
            changed: Condvar::new(),
            bounds,
            knowledge,
            sessions,
        }
    }

    /// Has these run first, that have failed before.
    pub(super) fn remember(&self, schedules: Vec<Vec<Actor>>) {
        self.left().remembered.extend(schedules);
    }

    /// The next schedule to run. Waits for runs that may lead to more; none if all is done.
    pub(super) fn next(&self) -> Option<Task> {
        let mut left = self.left();
        loop {
            if left.stopped {
                left.cut |= !left.nodes.is_empty() || !left.serial.is_empty() || left.running > 0;
                return None;
            }
            if let Some(order) = left.serial.pop_front() {
                if self.is_known(&order) {
                    continue;
                }
                left.serial_running += 1;
                left.running += 1;
                left.begun += 1;
                return Some(Task {
                    schedule: Schedule::serial(order),
                    node: None,
                });
            }
            let task = match left.serial_running {
                0 => match left.remembered.pop_front() {
                    Some(order) => Some(Task {
                        schedule: Schedule::from_start(order),
                        node: None,
                    }),
                    None => self.look(&mut left),
                },
                // Nothing is judged before they are all known.
                _ => None,
            };
            if let Some(task) = task {
                if left.begun >= self.bounds.schedules {
                    left.cut |= self.bounds.seed.is_none();
                    left.stopped = true;
                    self.changed.notify_all();
                    return None;
                }
                left.begun += 1;
                left.running += 1;
                return Some(task);
            }
            if left.running == 0 && left.serial.is_empty() {
                return None;
            }
            let waited = self.changed.wait(left);
            left = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes note of a run.
    pub(super) fn ran(&self, task: Task, mut ran: Ran) -> Counts {
        let mut left = self.left();
        if ran.run.has_hung() && std::mem::replace(&mut left.has_hung, true) {
            return self.give_up(left);
        }
        ran.run.finish();
        ran.run.end = ran.ending.text();
        let end = match left.ends.iter().position(|known| *known == ran.run.end) {
            Some(known) => known,
            None => {
                left.ends.push(ran.run.end.clone());
                left.ends.len() - 1
            }
        };
        let is_contradictory = self.learn(&mut left, ran.record, end, ran.waits_outside);
        // Where the server has decided otherwise than the last time, what is left of this way is
        // not known.
        left.cut |= is_contradictory || ran.is_chosen;
        left.running -= 1;
        match task.node {
            // It was begun again from the start.
            Some(node) if node.beginning != left.beginning => {}
            // Its order can't be followed.
            Some(_) if ran.has_strayed => left.cut = true,
            Some(node) => left.nodes.push(Reverse(node)),
            None if task.schedule.only().is_some() => left.serial_running -= 1,
            None => {}
        }
        left.ran.push(ran.run.schedule().to_owned());
        if !ran.run.problems().is_empty() {
            let known = |failure: &(usize, Run)| failure.1.schedule() == ran.run.schedule();
            if !left.failures.iter().any(known) {
                let preemptions = preemptions(&ran.run);
                left.failures.push((preemptions, ran.run));
            }
            left.stopped |= left.failures.len() >= self.bounds.failures.max(1);
        }
        self.changed.notify_all();
        left.counts()
    }

    /// Adds to what is known of the program, and says whether something contradicts itself in that.
    fn learn(&self, left: &mut Left, record: Record, end: usize, waits_outside: bool) -> bool {
        let mut knowledge = lock(self.knowledge);
        let is_whole = record.start.len() == self.sessions;
        if is_whole {
            knowledge.learn(&record.start, &record.taken, end);
        }
        if is_whole && !knowledge.is_exhaustive {
            left.records.push((record, end));
        }
        if waits_outside && !knowledge.is_exhaustive {
            // What they wait for is in no footprint.
            knowledge.is_exhaustive = true;
            self.begin_again(left, &mut knowledge);
        }
        while !knowledge.is_exhaustive && knowledge.shapes.revision > left.revision {
            self.begin_again(left, &mut knowledge);
        }
        if knowledge.is_exhaustive {
            left.records.clear();
        }
        knowledge.is_contradictory
    }

    /// More depends on each other than was known: what was run is looked at anew.
    fn begin_again(&self, left: &mut Left, knowledge: &mut Knowledge) {
        left.revision = knowledge.shapes.revision;
        left.beginning += 1;
        knowledge.forget();
        for (record, end) in &left.records {
            knowledge.learn(&record.start, &record.taken, *end);
        }
        left.nodes.clear();
        let root = Node::root(knowledge.start(self.sessions), left.beginning);
        left.nodes.push(Reverse(root));
    }

    /// How long a schedule may take: not as long again where one has come to no end.
    pub(super) fn limit(&self, timeout: Duration) -> Duration {
        match self.left().has_hung {
            true => timeout / 4,
            false => timeout,
        }
    }

    /// Has all workers stop, because schedule after schedule comes to no end.
    fn give_up(&self, mut left: MutexGuard<'_, Left>) -> Counts {
        left.stopped = true;
        left.cut = true;
        left.running -= 1;
        self.changed.notify_all();
        left.counts()
    }

    /// Has all workers stop after the schedule that they run.
    pub(super) fn stop(&self) {
        self.left().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn into_exploration(self) -> Exploration {
        let mut left = (self.state.into_inner()).unwrap_or_else(PoisonError::into_inner);
        let key = |(preemptions, run): &(usize, Run)| {
            (run.steps.len(), *preemptions, run.schedule().to_owned())
        };
        left.failures.sort_by_key(key);
        let failures = left.failures.into_iter().map(|(_, run)| run).collect();
        let outcomes: BTreeSet<String> = left.ends.into_iter().collect();
        left.ran.sort();
        Exploration::new(
            !left.cut,
            failures,
            outcomes.into_iter().collect(),
            left.ran,
        )
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often a session is interrupted that goes on later.
fn preemptions(run: &Run) -> usize {
    let steps = run.steps.iter().enumerate();
    let preempts = steps.filter(|(at, step)| {
        let next = run.steps.get(at + 1);
        next.is_some_and(|next| next.session != step.session)
            && run.steps[at + 1..]
                .iter()
                .any(|later| later.session == step.session)
    });
    preempts.count()
}

/// How many schedules have been run, and how many of them have problems.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) ended: usize,
    pub(super) failures: usize,
}
