use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::report::{Exploration, Run};
use super::schedule::{Choice, Schedule};

/// The schedules that are left to run, shared by the workers.
///
/// Each run says where it could have gone another way, and every such way is the beginning of
/// further schedules; so each schedule is run once, and none that blocking makes impossible. Those
/// with the fewest preemptions come first, because most faults show with one or two.
pub(super) struct Frontier {
    state: Mutex<State>,
    changed: Condvar,
    bounds: Bounds,
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

struct State {
    left: BinaryHeap<Reverse<Beginning>>,
    running: usize,
    begun: usize,
    ended: usize,
    /// Whether something was left out.
    cut: bool,
    stopped: bool,
    failures: Vec<(usize, Run)>,
}

/// The beginning of a schedule: the sessions in their order. What comes first is run first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Beginning {
    preemptions: usize,
    sessions: Vec<usize>,
}

impl Frontier {
    pub(super) fn new(bounds: Bounds) -> Self {
        let all = Beginning {
            preemptions: 0,
            sessions: Vec::new(),
        };
        Self {
            state: Mutex::new(State {
                left: BinaryHeap::from([Reverse(all)]),
                running: 0,
                begun: 0,
                ended: 0,
                cut: bounds.seed.is_some(),
                stopped: false,
                failures: Vec::new(),
            }),
            changed: Condvar::new(),
            bounds,
        }
    }

    /// The next schedule to run. Waits for runs that may lead to more; none if all is done.
    pub(super) fn next(&self) -> Option<Schedule> {
        let mut state = self.state();
        loop {
            if state.stopped || state.begun >= self.bounds.schedules {
                state.cut |= !state.left.is_empty();
                return None;
            }
            let schedule = match self.bounds.seed {
                // Another seed for each, so that it does not matter which worker runs it.
                Some(seed) => Some(Schedule::random(seed.wrapping_add(state.begun as u64))),
                None => (state.left.pop()).map(|Reverse(next)| Schedule::from_start(next.sessions)),
            };
            if let Some(schedule) = schedule {
                state.begun += 1;
                state.running += 1;
                return Some(schedule);
            }
            if state.running == 0 {
                return None;
            }
            let waited = self.changed.wait(state);
            state = waited.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes note of a run, and of the ways that it could have gone.
    pub(super) fn ran(&self, run: Run, schedule: &Schedule) -> Counts {
        let mut state = self.state();
        let mut preemptions = 0;
        // The server has decided otherwise than the last time, and what is left of this way is not
        // known.
        state.cut |= schedule.has_strayed();
        let branches = self.bounds.seed.is_none() && !schedule.has_strayed();
        for (at, choice) in schedule.choices().iter().enumerate() {
            if branches && at >= schedule.given() {
                let ways = choice.others().map(|other| Beginning {
                    preemptions: preemptions + usize::from(choice.preempts(other)),
                    sessions: Choice::sessions(&schedule.choices()[..at], other),
                });
                for way in ways {
                    match way.preemptions <= self.bounds.preemptions {
                        true => state.left.push(Reverse(way)),
                        false => state.cut = true,
                    }
                }
            }
            preemptions += usize::from(choice.preempts(choice.chosen));
        }
        if !run.problems().is_empty() {
            let known = |failure: &(usize, Run)| failure.1.schedule() == run.schedule();
            if !state.failures.iter().any(known) {
                state.failures.push((preemptions, run));
            }
            state.stopped |= state.failures.len() >= self.bounds.failures;
        }
        state.running -= 1;
        state.ended += 1;
        self.changed.notify_all();
        Counts {
            ended: state.ended,
            failures: state.failures.len(),
        }
    }

    /// Has all workers stop after the schedule that they run.
    pub(super) fn stop(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    pub(super) fn into_exploration(self) -> Exploration {
        let mut state = (self.state.into_inner()).unwrap_or_else(PoisonError::into_inner);
        let key = |(preemptions, run): &(usize, Run)| (*preemptions, run.schedule().to_owned());
        state.failures.sort_by_key(key);
        let failures = state.failures.into_iter().map(|(_, run)| run).collect();
        Exploration::new(state.ended, !state.cut, failures)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many schedules have been run, and how many of them have problems.
#[derive(Debug, Clone, Copy)]
pub(super) struct Counts {
    pub(super) ended: usize,
    pub(super) failures: usize,
}
