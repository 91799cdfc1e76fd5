use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How far an exploration is, for [`Explorer::on_progress`](crate::Explorer::on_progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// How many schedules were run.
    pub schedules: usize,
    /// How many of them have problems.
    pub failures: usize,
    /// How many schedules there are at most: so many, if no step ever waits.
    pub at_most: u128,
    /// Whether the exploration has ended, for whatever reason.
    pub has_ended: bool,
}

/// Tells of an exploration from its begin to its end, however that comes.
pub(super) struct Telling<'t> {
    report: &'t (dyn Fn(Progress) + Sync),
    last: Mutex<Progress>,
}

impl<'t> Telling<'t> {
    pub(super) fn begin(report: &'t (dyn Fn(Progress) + Sync), at_most: u128) -> Self {
        let progress = Progress {
            schedules: 0,
            failures: 0,
            at_most,
            has_ended: false,
        };
        report(progress);
        Self {
            report,
            last: Mutex::new(progress),
        }
    }

    /// So many schedules have been run, by whichever thread.
    pub(super) fn tell(&self, schedules: usize, failures: usize) {
        // Held meanwhile, so that no count is told before a smaller one.
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if schedules > last.schedules {
            last.schedules = schedules;
            last.failures = failures;
            (self.report)(*last);
        }
    }
}

impl Drop for Telling<'_> {
    fn drop(&mut self) {
        let last = (self.last.get_mut()).unwrap_or_else(PoisonError::into_inner);
        last.has_ended = true;
        (self.report)(*last);
    }
}

/// How long an exploration takes until the bar appears.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often it is drawn.
const PACE: Duration = Duration::from_millis(100);

/// How wide it is.
const WIDTH: u128 = 30;

/// A bar on standard error, for [`Explorer::on_progress`](crate::Explorer::on_progress).
///
/// It appears where that is a terminal and the exploration takes longer than a second, and is gone
/// when the exploration has ended.
///
/// ```
/// use diesel::prelude::*;
/// use diesel_locks_harness::{Explorer, Steps, TestDatabase, progress_bar};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let database = TestDatabase::new()?;
/// let steps: Steps<PgConnection, ()> = Steps::new().step("only", |_, _| Ok(()));
/// Explorer::new(|| PgConnection::establish(database.url()))
///     .session("first", steps.clone())
///     .session("second", steps)
///     .on_progress(progress_bar())
///     .explore()?
///     .assert_passed();
/// # Ok(())
/// # }
/// ```
pub fn progress_bar() -> impl Fn(Progress) + Send + Sync {
    let next = Mutex::new(None);
    let is_terminal = io::stderr().is_terminal();
    move |progress| {
        if is_terminal {
            draw(
                progress,
                &mut next.lock().unwrap_or_else(PoisonError::into_inner),
            );
        }
    }
}

/// `next` is when the bar is to be drawn for the next time; none, before an exploration.
fn draw(progress: Progress, next: &mut Option<Instant>) {
    let now = Instant::now();
    // A progress that can't be shown is no reason to stop.
    if progress.has_ended {
        *next = None;
        let _ = write!(io::stderr(), "\r\x1b[K");
    } else if now >= *next.get_or_insert(now + PATIENCE) {
        *next = Some(now + PACE);
        let _ = write!(io::stderr(), "\r{}", line(progress));
    }
}

fn line(progress: Progress) -> String {
    let Progress {
        schedules,
        failures,
        at_most,
        ..
    } = progress;
    let at_most = at_most.max(schedules as u128).max(1);
    let bar = "=".repeat((schedules as u128 * WIDTH / at_most) as usize);
    format!("[{bar:<30}] {schedules} of at most {at_most} schedules, {failures} failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_is_as_long_as_the_part_that_was_run() {
        let progress = |schedules, at_most| Progress {
            schedules,
            failures: 1,
            at_most,
            has_ended: false,
        };
        let line = |schedules, at_most| super::line(progress(schedules, at_most));
        let half = format!("[{}{}]", "=".repeat(15), " ".repeat(15));
        assert_eq!(
            line(3, 6),
            format!("{half} 3 of at most 6 schedules, 1 failed")
        );
        assert!(line(0, 0).starts_with(&format!("[{}]", " ".repeat(30))));
        // More than there are, if chance has chosen some twice.
        assert!(line(9, 6).starts_with(&format!("[{}]", "=".repeat(30))));
        assert!(line(1, u128::MAX).contains("1 of at most"));
    }
}
