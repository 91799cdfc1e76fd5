use std::cell::Cell;

use crossbeam::channel::{Receiver, Sender};

/// What a contender tells of itself.
#[derive(Debug, Clone, Copy)]
pub(super) enum Event {
    /// It is connected, to this session where the backend can say, and can begin.
    Ready(usize, Option<i32>),
    /// It has the lock, and holds it.
    Holds(usize),
    /// It has ended, in whatever way.
    Ended(usize),
}

/// The point at which an attempt holds what it was granted.
///
/// Given to an attempt by [`Contention::run_scoped`](crate::Contention::run_scoped).
#[derive(Debug)]
pub struct Hold {
    contender: usize,
    events: Sender<Event>,
    begin: Receiver<()>,
    let_go: Receiver<()>,
    was_held: Cell<bool>,
}

impl Hold {
    pub(super) fn new(
        contender: usize,
        events: Sender<Event>,
        begin: Receiver<()>,
        let_go: Receiver<()>,
    ) -> Self {
        Self {
            contender,
            events,
            begin,
            let_go,
            was_held: Cell::new(false),
        }
    }

    /// Says that this contender can begin, and returns, when all can, whether it is to do so.
    pub(super) fn ready(&self, pid: Option<i32>) -> bool {
        self.tell(Event::Ready(self.contender, pid));
        self.begin.recv().is_ok()
    }

    /// Says that this contender has the lock, and returns when every other one has settled, or
    /// when the time is over. It sends nothing to the server. A second call returns at once.
    pub fn until_settled(&self) {
        if self.was_held.replace(true) {
            return;
        }
        self.tell(Event::Holds(self.contender));
        // Nothing is ever sent: this ends when the other end is dropped.
        let _ = self.let_go.recv();
    }

    fn tell(&self, event: Event) {
        // Who is gone need not know.
        let _ = self.events.send(event);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.tell(Event::Ended(self.contender));
    }
}
