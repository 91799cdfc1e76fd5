use std::fmt::Write;

use diesel::connection::SimpleConnection;
use diesel::result::Error;

use super::script::{Script, ScriptEntry};
use super::sql::{launch, message};
use crate::sessions::{Execution, Pending, Session, SessionError, StepProblem, Until};

/// A permutation that is being run, in isolationtester's way.
///
/// A step that waits is looked after when the next one was launched. It has *completed* not when
/// it has ended, but when that is reported, which its markers can delay.
pub(super) struct Permutation<'a, C> {
    script: &'a Script,
    execution: &'a Execution,
    sessions: &'a [Session<C>],
    /// For each session, the step that was launched and has not completed.
    active: Vec<Option<usize>>,
    /// The steps that were reported to wait, in the order in which they were launched.
    waiting: Vec<Launched<'a>>,
    text: String,
}

struct Launched<'a> {
    entry: &'a ScriptEntry,
    pending: Pending<(), Error>,
}

/// Whether to wait for a step that waits itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    UntilItWaits,
    UntilItEnds,
}

impl<'a, C: SimpleConnection> Permutation<'a, C> {
    pub(super) fn new(
        script: &'a Script,
        execution: &'a Execution,
        sessions: &'a [Session<C>],
    ) -> Self {
        Self {
            script,
            execution,
            sessions,
            active: vec![None; sessions.len()],
            waiting: Vec::new(),
            text: String::new(),
        }
    }

    /// Runs it, and returns what isolationtester prints.
    pub(super) fn run(mut self, entries: &'a [ScriptEntry]) -> Result<String, SessionError> {
        self.text.push_str("starting permutation:");
        for entry in entries {
            let _ = write!(self.text, " {}", self.script.steps[entry.step].name);
        }
        self.text.push('\n');
        for entry in entries {
            let step = &self.script.steps[entry.step];
            self.free(step.session)?;
            let launched = Launched {
                entry,
                pending: launch(&self.sessions[step.session], &step.name, &step.sql),
            };
            self.active[step.session] = Some(entry.step);
            let waits = self.waits_at_first(&launched)?;
            let line = match waits {
                true => format!("step {}: {} <waiting ...>", step.name, step.sql),
                false => format!("step {}: {}", step.name, step.sql),
            };
            self.report(&line);
            let left = match waits {
                true => Some(launched),
                false => {
                    self.complete(launched)?;
                    None
                }
            };
            self.look_after_waiting(Patience::UntilItWaits)?;
            self.waiting.extend(left);
        }
        self.look_after_waiting(Patience::UntilItEnds)?;
        match self.waiting.first() {
            Some(launched) => Err(launched.pending.error(StepProblem::HeldUp)),
            None => Ok(self.text),
        }
    }

    /// Waits until the session's last step has completed.
    fn free(&mut self, session: usize) -> Result<(), SessionError> {
        while let Some(step) = self.active[session] {
            let at = (self.waiting.iter()).position(|waiting| waiting.entry.step == step);
            let Some(at) = at else {
                break;
            };
            if !self.try_complete(at, Patience::UntilItEnds)? {
                self.await_another(session)?;
            }
            self.look_after_waiting(Patience::UntilItWaits)?;
        }
        Ok(())
    }

    /// Waits until a step of another session ends, for which one is held up by its markers.
    fn await_another(&self, session: usize) -> Result<(), SessionError> {
        let running: Vec<usize> = (0..self.sessions.len())
            .filter(|&session| self.execution.is_running(session))
            .collect();
        let held_up = self.waiting.iter().find(|waiting| {
            let step = &self.script.steps[waiting.entry.step];
            running.is_empty() && step.session == session
        });
        match held_up {
            Some(launched) => Err(launched.pending.error(StepProblem::HeldUp)),
            None => self.execution.wait(&running, Until::OneEnded),
        }
    }

    /// Whether a step that was launched is to be reported to wait.
    fn waits_at_first(&self, launched: &Launched<'a>) -> Result<bool, SessionError> {
        Ok(launched.entry.waits_at_first
            || launched.pending.settle()?.is_some()
            || self.is_held_up(launched.entry))
    }

    /// Whether a marker keeps a step from completing.
    fn is_held_up(&self, entry: &ScriptEntry) -> bool {
        let is_active = |step: &usize| {
            let session = self.script.steps[*step].session;
            self.active[session] == Some(*step)
        };
        entry.not_before.iter().any(is_active)
    }

    /// Completes all steps that can be, of those that were reported to wait.
    fn look_after_waiting(&mut self, patience: Patience) -> Result<(), SessionError> {
        loop {
            let before = self.waiting.len();
            let mut at = 0;
            while at < self.waiting.len() {
                if !self.try_complete(at, patience)? {
                    at += 1;
                }
            }
            // What has completed may be what the marker of one before it names.
            let has_markers = |waiting: &Launched<'_>| !waiting.entry.not_before.is_empty();
            if self.waiting.len() == before || !self.waiting.iter().any(has_markers) {
                return Ok(());
            }
        }
    }

    /// Completes a step that was reported to wait, if it can be, and says whether it has.
    fn try_complete(&mut self, at: usize, patience: Patience) -> Result<bool, SessionError> {
        let Launched { entry, pending } = &self.waiting[at];
        let waits = match patience {
            Patience::UntilItWaits => pending.settle()?.is_some(),
            Patience::UntilItEnds => {
                pending.end()?;
                false
            }
        };
        if waits || self.is_held_up(entry) {
            return Ok(false);
        }
        let line = format!(
            "step {}: <... completed>",
            self.script.steps[entry.step].name
        );
        self.report(&line);
        let launched = self.waiting.remove(at);
        self.complete(launched)?;
        Ok(true)
    }

    /// Reports what has come of a step that has ended.
    fn complete(&mut self, launched: Launched<'a>) -> Result<(), SessionError> {
        self.active[self.script.steps[launched.entry.step].session] = None;
        if let Err(error) = launched.pending.returned()? {
            self.report(&message(&error));
        }
        Ok(())
    }

    fn report(&mut self, line: &str) {
        self.text.push_str(line);
        self.text.push('\n');
    }
}
