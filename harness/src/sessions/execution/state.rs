//! What is known of the sessions of a test.

use std::time::Instant;

use crate::sessions::blocked::Blocked;
use crate::sessions::problem::StepProblem;
use crate::transcript::{Transcript, What};
use crate::waits::{self, Question};

/// The sessions of a test, and what has happened.
pub(super) struct State {
    pub(super) begun: Instant,
    pub(super) deadline: Option<Instant>,
    pub(super) transcript: Transcript,
    pub(super) tasks: Vec<Task>,
}

/// A session.
pub(super) struct Task {
    pub(super) name: String,
    pub(super) pid: i32,
    /// The step that it does, or has done without anybody having looked.
    pub(super) step: Option<Step>,
    /// How many steps it has begun.
    pub(super) serial: u64,
    /// The number of the last step that was stopped because the time was over, and what is told.
    pub(super) given_up: Option<(u64, StepProblem)>,
    pub(super) gone: bool,
}

/// What a session does.
pub(super) struct Step {
    pub(super) label: String,
    pub(super) started: Instant,
    pub(super) wait: Option<Wait>,
    pub(super) ended: Option<(Instant, What)>,
}

/// For whom, and for what, a step was last seen to wait.
pub(super) struct Wait {
    /// Its session, or that of a connection beside it.
    pub(super) waiter: i32,
    pub(super) blockers: Vec<i32>,
    pub(super) blocked: Blocked,
}

impl State {
    pub(super) fn note(&mut self, session: usize, at: Instant, step: &str, what: What) {
        let at = at.saturating_duration_since(self.begun);
        self.transcript.note(session, at, step, what);
    }

    /// Takes note of a step that has ended.
    ///
    /// Not when it ends, but when somebody looks: what is over in one moment is then in the order
    /// in which the test looks at it, and so in the same order every time.
    pub(super) fn note_end(&mut self, session: usize) {
        let ended = self.tasks[session]
            .step
            .take_if(|step| step.ended.is_some());
        if let Some(Step {
            label,
            ended: Some((at, what)),
            ..
        }) = ended
        {
            self.note(session, at, &label, what);
        }
    }

    pub(super) fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| deadline <= Instant::now())
    }

    pub(super) fn running(&self, sessions: &[usize]) -> Vec<usize> {
        let running = |&session: &usize| self.tasks[session].is_running();
        sessions.iter().copied().filter(running).collect()
    }

    /// When to ask the server whether these wait: at once, where that is known of old.
    pub(super) fn first_look(&self, sessions: &[usize]) -> Instant {
        let steps = self.steps(sessions).filter(|step| step.wait.is_none());
        let look = steps.map(|step| waits::first_look(step.started)).max();
        look.unwrap_or_else(Instant::now)
    }

    /// When to ask it again: the longer the steps take, the less often.
    pub(super) fn next_look(&self, sessions: &[usize]) -> Instant {
        waits::next_look(self.started(sessions))
    }

    /// When the last of these began its step.
    fn started(&self, sessions: &[usize]) -> Instant {
        let started = self.steps(sessions).map(|step| step.started).max();
        started.unwrap_or_else(Instant::now)
    }

    pub(super) fn steps(&self, sessions: &[usize]) -> impl Iterator<Item = &Step> {
        sessions
            .iter()
            .filter_map(|&session| self.tasks[session].step.as_ref())
    }

    /// Whether some sessions wait for each other in a circle, as was last seen.
    pub(super) fn is_deadlocked(&self) -> bool {
        let mut waiting: Vec<(&Task, &Wait)> = self.waiting().collect();
        // Who waits for nobody that waits is in no circle, and so neither is who waits for that.
        loop {
            let pids: Vec<[i32; 2]> = (waiting.iter())
                .map(|(task, wait)| [task.pid, wait.waiter])
                .collect();
            let waits = |blocker: &i32| pids.iter().any(|pids| pids.contains(blocker));
            waiting.retain(|(_, wait)| wait.blockers.iter().any(waits));
            if waiting.len() == pids.len() {
                return !waiting.is_empty();
            }
        }
    }

    /// Those that were seen to wait, and how.
    pub(super) fn waiting(&self) -> impl Iterator<Item = (&Task, &Wait)> {
        let running = self.present().filter(|task| task.is_running());
        running.filter_map(|task| Some((task, task.step.as_ref()?.wait.as_ref()?)))
    }

    /// The steps that are under way, not of these sessions, and were not seen to wait.
    pub(super) fn others(&self, sessions: &[usize]) -> Vec<usize> {
        let is_unseen = |task: &Task| {
            let step = task.step.as_ref();
            task.is_running() && step.is_some_and(|step| step.wait.is_none())
        };
        let others = (0..self.tasks.len()).filter(|session| !sessions.contains(session));
        others
            .filter(|&session| is_unseen(&self.tasks[session]))
            .collect()
    }

    /// Whether these sessions wait, for the server.
    pub(super) fn question(&self, sessions: &[usize]) -> Question {
        let busy = self.present().filter(|task| task.is_running());
        let beside = self.waiting().map(|(task, wait)| (task.pid, wait.waiter));
        Question {
            sessions: (sessions.iter().map(|&session| self.tasks[session].pid)).collect(),
            busy: busy.map(|task| task.pid).collect(),
            all: self.present().map(|task| task.pid).collect(),
            beside: beside
                .filter(|(session, waiter)| session != waiter)
                .collect(),
            begun: self.begun,
            started: self.started(sessions),
        }
    }

    pub(super) fn names(&self, pids: &[i32]) -> Vec<String> {
        let tasks = self.present();
        tasks
            .filter(|task| {
                let (pid, waiter) = task.processes();
                pids.contains(&pid) || pids.contains(&waiter)
            })
            .map(|task| task.name.clone())
            .collect()
    }

    /// Those that have not left: a pool may have lent a connection of one that has to another.
    pub(super) fn present(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !task.gone)
    }
}

impl Task {
    /// Its session's, and that of the connection on which it was seen to wait.
    pub(super) fn processes(&self) -> (i32, i32) {
        let wait = self.step.as_ref().and_then(|step| step.wait.as_ref());
        (self.pid, wait.map_or(self.pid, |wait| wait.waiter))
    }

    pub(super) fn is_running(&self) -> bool {
        !self.gone && self.step.as_ref().is_some_and(|step| step.ended.is_none())
    }
}
