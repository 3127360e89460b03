//! When something may be asked for again, and how fast.

use std::time::Duration;

use super::Moment;
use crate::domain::backoff::{Backoff, Jitter};

/// When something may be tried again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RetryTimer {
    pub(super) failures: u32,
    pub(super) not_before: Duration,
}

/// Pages that may be asked for at once, after a rest.
const PAGES_AT_ONCE: u32 = 20;

/// How far apart further pages are.
const BETWEEN_PAGES: Duration = Duration::from_millis(100);

/// The rate limit of the pages of the list, whatever they are for: [`PAGES_AT_ONCE`],
/// then one each [`BETWEEN_PAGES`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateLimiter {
    /// When all of them would have been due at the steady pace.
    earned: Duration,
}

impl RateLimiter {
    pub(super) fn next(&self) -> Duration {
        self.earned.saturating_sub(BETWEEN_PAGES * (PAGES_AT_ONCE - 1))
    }

    pub(super) fn count(&mut self, now: Moment) {
        self.earned = self.earned.max(now.at) + BETWEEN_PAGES;
    }
}

impl RetryTimer {
    /// After a failure: the next try waits as the schedule says, and never less
    /// than Pepay asked for.
    pub(super) fn failed(&mut self, now: Moment, backoff: Backoff, jitter: &Jitter, floor: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let wait = match floor {
            // Above the floor, so that many bridges do not return as one.
            Some(floor) => {
                (floor + backoff.delay(1, jitter.next())).max(backoff.delay(self.failures, jitter.next()))
            }
            None => backoff.delay(self.failures, jitter.next()),
        };
        self.not_before = now.at + wait;
    }

    /// After a refusal that only an operator can end: the slowest pace, never faster.
    pub(super) fn refused(
        &mut self,
        now: Moment,
        backoff: Backoff,
        jitter: &Jitter,
        floor: Option<Duration>,
    ) {
        self.failures = self.failures.saturating_add(1);
        let slowest = backoff.max().mul_f64(1.0 + 0.1 * jitter.next());
        self.not_before = now.at + slowest.max(floor.unwrap_or_default());
    }
}
