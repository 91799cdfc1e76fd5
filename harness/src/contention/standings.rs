use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::hold::Event;
use super::observer::Observer;
use super::outcome::Standing;
use super::{HarnessConnection, HarnessError};

/// How long to listen to the contenders before the server is asked who waits: an attempt that
/// ends at once never costs the connection that it takes to ask.
const PATIENCE: Duration = Duration::from_millis(10);

/// How long until the server is asked again, at first and at last.
const POLL: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// How long contenders have to end by themselves when the time is over.
const GRACE: Duration = Duration::from_secs(1);

/// Knows how the contenders stand, by what they tell and by what the server says.
pub(super) struct Referee<C, F> {
    standings: Vec<Standing>,
    /// How many are connected.
    ready: usize,
    /// The contenders' sessions, where the backend can say who waits.
    pids: Vec<Option<i32>>,
    events: Receiver<Event>,
    connect: F,
    observer: Option<Observer<C>>,
}

impl<C, F> Referee<C, F>
where
    C: HarnessConnection,
    F: Fn() -> Result<C, HarnessError>,
{
    pub(super) fn new(contenders: usize, events: Receiver<Event>, connect: F) -> Self {
        Self {
            standings: vec![Standing::Unsettled; contenders],
            ready: 0,
            pids: vec![None; contenders],
            events,
            connect,
            observer: None,
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
    ) -> Result<Vec<Standing>, HarnessError> {
        let observable = self.pids.iter().all(Option::is_some);
        let mut pause = POLL.0;
        let mut look = observable.then(|| Instant::now() + PATIENCE);
        while self.standings.contains(&Standing::Unsettled) {
            let next = [look, deadline].into_iter().flatten().min();
            if self.hear(next) {
                continue;
            }
            if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
                break;
            }
            self.look()?;
            look = Some(Instant::now() + pause);
            pause = POLL.1.min(pause * 2);
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

    /// Asks the server who waits.
    ///
    /// One that does is settled only if all others are: what it waits for may be something that
    /// another contender does on the way to the lock.
    fn look(&mut self) -> Result<(), HarnessError> {
        let pids: Vec<i32> = self.pids.iter().flatten().copied().collect();
        let waiting = self
            .observer()?
            .waiting(&pids)
            .map_err(|error| HarnessError::Observe(error.into()))?;
        let mut seen = self.standings.clone();
        for (standing, pid) in seen.iter_mut().zip(&self.pids) {
            if *standing == Standing::Unsettled && pid.is_some_and(|pid| waiting.contains(&pid)) {
                *standing = Standing::Waiting;
            }
        }
        if !seen.contains(&Standing::Unsettled) {
            self.standings = seen;
        }
        Ok(())
    }

    fn terminate(&mut self) -> Result<(), HarnessError> {
        let sessions = self.standings.iter().zip(&self.pids);
        let left: Vec<i32> = sessions
            .filter(|(standing, _)| **standing != Standing::Ended)
            .filter_map(|(_, pid)| *pid)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        self.observer()?
            .terminate(&left)
            .map_err(|error| HarnessError::Observe(error.into()))
    }

    fn observer(&mut self) -> Result<&mut Observer<C>, HarnessError> {
        match &mut self.observer {
            Some(observer) => Ok(observer),
            none => Ok(none.insert(Observer::new((self.connect)()?))),
        }
    }
}
