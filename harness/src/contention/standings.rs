use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::error::ContentionError;
use super::hold::Event;
use super::outcome::Standing;
use crate::connection::HarnessConnection;
use crate::waits::{Question, Stop, idle, if_all_wait, next_look};

/// How long to listen to the contenders before the server is asked who waits: an attempt that
/// ends at once never costs the connection that it takes to ask.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long contenders have to end by themselves when the time is over.
const GRACE: Duration = Duration::from_secs(1);

/// How the contenders stand, by what they tell and by what the server says.
pub(super) struct Standings<C, F> {
    standings: Vec<Standing>,
    /// How many are connected.
    ready: usize,
    /// The contenders' sessions, where the backend can say who waits.
    pids: Vec<Option<i32>>,
    events: Receiver<Event>,
    connect: F,
    observer: Option<C>,
    /// When the attempts began.
    begun: Instant,
}

impl<C, F> Standings<C, F>
where
    C: HarnessConnection,
    F: Fn() -> Result<C, ContentionError>,
{
    pub(super) fn new(contenders: usize, events: Receiver<Event>, connect: F) -> Self {
        Self {
            standings: vec![Standing::Unsettled; contenders],
            ready: 0,
            pids: vec![None; contenders],
            events,
            connect,
            observer: None,
            begun: Instant::now(),
        }
    }

    /// Returns, when all contenders are connected or one cannot be, whether all are.
    pub(super) fn all_ready(&mut self) -> bool {
        while self.ready < self.standings.len() && !self.standings.contains(&Standing::Ended) {
            self.hear(None);
        }
        self.ready == self.standings.len()
    }

    /// Returns how the contenders stand when all have settled, or when the time is over.
    pub(super) fn until_settled(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Vec<Standing>, ContentionError> {
        let observable = self.pids.iter().all(Option::is_some);
        let mut look = observable.then(|| self.begun + PATIENCE);
        while self.standings.contains(&Standing::Unsettled) {
            let next = [look, deadline].into_iter().flatten().min();
            if self.hear(next) {
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                return Ok(self.with_idle());
            }
            self.look()?;
            look = Some(next_look(self.begun));
        }
        Ok(self.standings.clone())
    }

    /// Returns when all contenders have ended. Those that do not when the time is over lose their
    /// sessions.
    pub(super) fn until_ended(&mut self, deadline: Option<Instant>) {
        let mut patience = deadline.map(|deadline| deadline.max(Instant::now() + GRACE));
        while self
            .standings
            .iter()
            .any(|&standing| standing != Standing::Ended)
        {
            if !self.hear(patience) {
                // One that cannot be ended like this ends by itself, or not at all.
                let _ = self.terminate();
                patience = None;
            }
        }
    }

    /// Takes note of what a contender tells, and says whether one did before `until`.
    fn hear(&mut self, until: Option<Instant>) -> bool {
        let heard = match until {
            Some(until) => self.events.recv_deadline(until),
            None => self
                .events
                .recv()
                .map_err(|_| RecvTimeoutError::Disconnected),
        };
        match heard {
            Ok(Event::Ready(contender, pid)) => {
                self.ready += 1;
                self.pids[contender] = pid;
            }
            Ok(Event::Holds(contender)) => self.standings[contender] = Standing::Holding,
            Ok(Event::Ended(contender)) => self.standings[contender] = Standing::Ended,
            Err(_) => return false,
        }
        true
    }

    /// How the contenders stand when the time is over.
    fn with_idle(&mut self) -> Vec<Standing> {
        let unsettled = self.pids_that(|standing| standing == Standing::Unsettled);
        let mut standings = self.standings.clone();
        // Where the server can't be asked, that is not known.
        let observer = (!unsettled.is_empty())
            .then(|| self.observer().ok())
            .flatten();
        let idle = observer.and_then(|observer| idle(observer, &unsettled).ok());
        let idle = idle.unwrap_or_default();
        for (standing, pid) in standings.iter_mut().zip(&self.pids) {
            if *standing == Standing::Unsettled && pid.is_some_and(|pid| idle.contains(&pid)) {
                *standing = Standing::Idle;
            }
        }
        standings
    }

    /// Asks the server who waits.
    ///
    /// One that does is settled only if all others are: what it waits for may be something that
    /// another contender does on the way to the lock.
    fn look(&mut self) -> Result<(), ContentionError> {
        let all: Vec<i32> = self.pids.iter().flatten().copied().collect();
        let unsettled = self.pids_that(|standing| standing == Standing::Unsettled);
        let question = Question {
            busy: unsettled.clone(),
            sessions: unsettled,
            all,
            beside: Vec::new(),
            begun: self.begun,
            started: self.begun,
        };
        let waits = if_all_wait(self.observer()?, &question)
            .map_err(|error| ContentionError::Observe(error.into()))?;
        if waits.is_some() {
            for standing in &mut self.standings {
                if *standing == Standing::Unsettled {
                    *standing = Standing::Waiting;
                }
            }
        }
        Ok(())
    }

    /// Ends the sessions of those that have not ended.
    fn terminate(&mut self) -> Result<(), ContentionError> {
        let left = self.pids_that(|standing| standing != Standing::Ended);
        if left.is_empty() {
            return Ok(());
        }
        let observer = self.observer()?;
        left.iter()
            .try_for_each(|&pid| observer.stop(pid, Stop::Terminate))
            .map_err(|error| ContentionError::Observe(error.into()))
    }

    /// The sessions of those that stand so.
    fn pids_that(&self, stand_so: impl Fn(Standing) -> bool) -> Vec<i32> {
        let sessions = self.standings.iter().zip(&self.pids);
        sessions
            .filter(|(standing, _)| stand_so(**standing))
            .filter_map(|(_, pid)| *pid)
            .collect()
    }

    fn observer(&mut self) -> Result<&mut C, ContentionError> {
        match &mut self.observer {
            Some(observer) => Ok(observer),
            none => Ok(none.insert((self.connect)()?)),
        }
    }
}
