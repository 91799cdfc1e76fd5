use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::frontier::Progress;

/// How long an exploration takes until it shows its progress.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it does so.
const PACE: Duration = Duration::from_millis(100);

/// How wide the bar is.
const WIDTH: u128 = 30;

/// A line on a terminal that says how far an exploration is.
pub(super) struct ProgressLine {
    /// How many schedules there are at most.
    bound: u128,
    is_terminal: bool,
    next: Mutex<Instant>,
    /// Whether there is anything to clear.
    begun: Instant,
}

impl ProgressLine {
    pub(super) fn new(bound: u128) -> Self {
        let begun = Instant::now();
        Self {
            bound,
            is_terminal: io::stderr().is_terminal(),
            next: Mutex::new(begun + PATIENCE),
            begun,
        }
    }

    pub(super) fn show(&self, progress: Progress) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if !self.is_terminal || now < *next {
            return;
        }
        *next = now + PACE;
        let Progress { ended, failures } = progress;
        let bound = self.bound.max(ended as u128);
        let bar = "=".repeat((ended as u128 * WIDTH / bound) as usize);
        // A progress that can't be shown is no reason to stop.
        let _ = write!(
            io::stderr(),
            "\r[{bar:<30}] {ended} of at most {bound} schedules, {failures} failed"
        );
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if self.is_terminal && self.begun.elapsed() > PATIENCE {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}
