//! Running the schedules.

use std::panic;
use std::sync::Mutex;
use std::thread;

use diesel::connection::LoadConnection;
use diesel::pg::Pg;

use super::Explorer;
use super::error::ExplorerError;
use super::frontier::{Counts, Frontier};
use super::judge::{self, Serial};
use super::model::Knowledge;
use super::program::Connect;
use super::progress::Telling;
use super::report::{Exploration, Run};
use super::runner::Runner;
use super::schedule::Schedule;

impl<'e, C> Explorer<'e, C>
where
    C: LoadConnection<Backend = Pg> + Send + 'static,
{
    /// Runs the schedules, on all databases at once.
    ///
    /// # Errors
    ///
    /// [`SessionError::Connect`](crate::SessionError::Connect): a connection could not be opened.
    /// [`ExplorerError::Prepare`]: the setup or the teardown failed.
    /// [`ExplorerError::Label`], [`SessionError::Duplicate`](crate::SessionError::Duplicate): a name can't be used.
    /// [`SessionError::Observe`](crate::SessionError::Observe): the server could not be asked who waits.
    /// [`ExplorerError::Thread`]: the operating system gave no thread.
    /// [`ExplorerError::Remember`]: the file of [`remember`](Self::remember) can't be used.
    /// [`ExplorerError::Unseen`], [`ExplorerError::Instrumentation`]: the statements of a
    /// [`call`](Self::call) can't be seen.
    /// [`ExplorerError::Overlap`]: two threads of one session send statements at once.
    ///
    /// What a schedule comes to is not an error here, but in the [`Exploration`].
    ///
    /// # Panics
    ///
    /// If the functions that connect or that allow errors panic.
    pub fn explore(&self) -> Result<Exploration, ExplorerError> {
        self.check()?;
        let sessions = self.program.sessions.len();
        let knowledge = Mutex::new(self.knowledge());
        let remembered = match &self.memory {
            Some(memory) => memory.schedules()?,
            None => Vec::new(),
        };
        // What does not fit the sessions any more is of no use.
        let remembered = remembered
            .iter()
            .filter_map(|schedule| self.program.parse(schedule).ok());
        let remembered: Vec<_> = remembered.map(|(order, _)| order).collect();
        let serial = match self.program.is_serializable {
            true => judge::permutations(&(0..sessions).collect::<Vec<_>>()),
            false => Vec::new(),
        };
        let frontier = Frontier::new(self.bounds, &knowledge, sessions, serial);
        frontier.remember(remembered);
        let telling = Telling::begin(&*self.on_progress, self.program.interleavings());
        let serial = Serial::default();
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for connect in &self.databases {
                let work = || self.work(connect, &frontier, &knowledge, &serial, &telling);
                let worker = thread::Builder::new()
                    .name("explorer".to_owned())
                    .spawn_scoped(scope, work);
                if worker.is_err() {
                    frontier.stop();
                }
                workers.push(worker.map_err(ExplorerError::Thread));
            }
            let ended = workers.into_iter().map(|worker| match worker?.join() {
                Ok(worked) => worked,
                Err(payload) => panic::resume_unwind(payload),
            });
            // All are joined, whichever has failed.
            let ended: Vec<_> = ended.collect();
            ended.into_iter().collect::<Result<(), _>>()
        })?;
        drop(telling);
        let mut exploration = frontier.into_exploration();
        let names = self
            .program
            .sessions
            .iter()
            .map(|session| session.name.clone());
        exploration.sessions = names.collect();
        if let Some(memory) = &self.memory {
            memory.add(exploration.failures().iter().map(Run::schedule))?;
        }
        Ok(exploration)
    }

    /// Runs one schedule, in the words in which a [`Run`] or an [`Exploration`] prints it, on the
    /// first database.
    ///
    /// A step whose session waits comes as soon as it can. A schedule that is cut short is gone on
    /// with, with as few preemptions as can be.
    ///
    /// # Errors
    ///
    /// [`ExplorerError::Schedule`]: something in it is not the next step of any session.
    /// Else as for [`explore`](Self::explore).
    pub fn replay(&self, schedule: &str) -> Result<Run, ExplorerError> {
        self.check()?;
        let (order, names) = self.program.parse(schedule)?;
        let knowledge = Mutex::new(self.knowledge());
        let serial = Serial::default();
        thread::scope(|scope| {
            let connect = &self.databases[0];
            let mut runner = Runner::open(&self.program, connect, scope, &knowledge)?;
            let mut ran = runner.run(Schedule::from_start(order))?;
            if self.program.is_serializable {
                serial.judge(&self.program, &mut runner, &knowledge, &mut ran)?;
            }
            ran.run.finish();
            ran.run.end = ran.ending.text();
            match ran.run.differing(&names) {
                Some(step) => Err(ExplorerError::Schedule { step }),
                None => Ok(ran.run),
            }
        })
    }

    fn knowledge(&self) -> Knowledge {
        let mut knowledge = Knowledge::default();
        knowledge.is_exhaustive = self.program.is_exhaustive;
        knowledge.crashes = self.program.crashes;
        knowledge
    }

    fn check(&self) -> Result<(), ExplorerError> {
        match self.is_hidden {
            true => Err(ExplorerError::Instrumentation),
            false => self.program.check_labels(),
        }
    }

    fn work(
        &self,
        connect: &Connect<'e, C>,
        frontier: &Frontier<'_>,
        knowledge: &Mutex<Knowledge>,
        serial: &Serial,
        telling: &Telling<'_>,
    ) -> Result<(), ExplorerError> {
        // Whatever ends this one, the others do not wait for it.
        let _stop = StopAll(frontier);
        thread::scope(|scope| {
            let mut runner = Runner::open(&self.program, connect, scope, knowledge)?;
            while let Some(task) = frontier.next() {
                runner.limit = frontier.limit(self.program.timeout);
                let mut ran = runner.run(task.schedule.clone())?;
                if task.schedule.only().is_some() {
                    serial.add(&ran);
                } else if self.program.is_serializable {
                    serial.judge(&self.program, &mut runner, knowledge, &mut ran)?;
                }
                let Counts { ended, failures } = frontier.ran(task, ran);
                telling.tell(ended, failures);
            }
            Ok(())
        })
    }
}

struct StopAll<'f, 'k>(&'f Frontier<'k>);

impl Drop for StopAll<'_, '_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}
