use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::time::{Duration, Instant};

/// How often, and how soon, a transaction that failed is run again.
///
/// Only failures that [`is_retryable`](crate::is_retryable) finds are: a deadlock or a serialization
/// failure, which PostgreSQL resolves by ending one of the transactions; and those that
/// [`Retrying::retry_if`](crate::Retrying::retry_if) adds. See [*Serialization Failure Handling*],
/// section 13.5 of the PostgreSQL documentation.
///
/// [*Serialization Failure Handling*]: https://www.postgresql.org/docs/current/mvcc-serialization-failure-handling.html
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "it does nothing before `conn.retrying` has it"]
pub struct Retry {
    attempts: u32,
    first_pause: Duration,
    longest_pause: Duration,
    deadline: Option<Duration>,
}

impl Retry {
    /// Five attempts, with pauses from 10 ms up to 1 s, and no deadline.
    pub fn new() -> Self {
        Self {
            attempts: 5,
            first_pause: Duration::from_millis(10),
            longest_pause: Duration::from_secs(1),
            deadline: None,
        }
    }

    /// How many attempts there are at most, the first one included; 0 is taken for 1.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts;
        self
    }

    /// The pause after the first attempt, which doubles from attempt to attempt, up to the
    /// longest. Each pause is cut by chance to between half and all of that, so that those who
    /// have met once do not meet again.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.first_pause = first;
        self.longest_pause = longest;
        self
    }

    /// Gives up when the next attempt could not begin within `deadline` of the first one. It ends
    /// no attempt that has begun.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The pause after the failed attempt of this number, unless that was the last one. The first
    /// one began at `begun`.
    pub(crate) fn pause_after(&self, attempt: u32, begun: Instant) -> Option<Duration> {
        let pause = self.pause(attempt);
        let is_late = |deadline| begun.elapsed().saturating_add(pause) > deadline;
        (attempt < self.attempts && !self.deadline.is_some_and(is_late)).then_some(pause)
    }

    /// The pause after the failed attempt of this number, counted from 1.
    pub(crate) fn pause(&self, attempt: u32) -> Duration {
        let doubled = 2_u32.saturating_pow(attempt - 1);
        let pause = self
            .first_pause
            .saturating_mul(doubled)
            .min(self.longest_pause);
        // Each `RandomState` hashes in its own way.
        let chance = RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64;
        let half = pause / 2;
        half.saturating_add(half.mul_f64(chance))
    }
}

impl Default for Retry {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_are_cut_by_at_most_a_half() {
        let second = Duration::from_secs(1);
        let retry = Retry::new().backoff(second, 5 * second);
        for (attempt, longest) in [(1, 1), (2, 2), (3, 4), (4, 5), (40, 5), (u32::MAX, 5)] {
            let pause = retry.pause(attempt);
            let longest = longest * second;
            assert!(
                longest / 2 <= pause && pause <= longest,
                "{attempt}: {pause:?}"
            );
        }
        let endless = Retry::new().backoff(Duration::MAX, Duration::MAX);
        assert!(endless.pause(2) >= Duration::MAX / 2 - second);
    }
}
