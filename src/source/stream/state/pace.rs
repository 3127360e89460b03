//! When something may be asked for again, and how fast.

use std::time::Duration;

use super::{Moment, Narrowing};
use crate::domain::backoff::{Backoff, Jitter};
use crate::pepay::rest::LARGEST_PAGE;

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

/// The fewest entries that a page is asked for because pages take too long.
const LEAST_ENTRIES: u16 = 10;

/// Pages in a row that arrive, after which twice as many entries are asked for.
const IN_TIME: u32 = 5;

/// How many entries a page is asked for at most: fewer, where none arrive. A server may
/// take longer for a large page than it is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageSize {
    most: u16,
    in_time: u32,
}

impl PageSize {
    pub(super) const LARGEST: Self = Self { most: LARGEST_PAGE, in_time: 0 };

    pub(super) fn limit(self, wanted: u16) -> u16 {
        wanted.min(self.most)
    }

    /// A page has not arrived. Returns whether the next one is smaller.
    pub(super) fn failed(&mut self) -> bool {
        let smaller = (self.most / 2).max(LEAST_ENTRIES);
        self.in_time = 0;
        std::mem::replace(&mut self.most, smaller) > smaller
    }

    /// A page has arrived.
    pub(super) fn arrived(&mut self) {
        self.in_time += 1;
        if self.in_time >= IN_TIME {
            *self = Self { most: self.most.saturating_mul(2).min(LARGEST_PAGE), in_time: 0 };
        }
    }
}

/// For how long Pepay is not asked for what it has refused.
const REFUSED_FOR: Duration = Duration::from_hours(1);

/// What to leave out of a request, since Pepay has refused it. A refusal need not have
/// been about that, so it counts for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftOut {
    narrowing: Narrowing,
    /// When Pepay refused something last.
    since: Duration,
}

impl LeftOut {
    pub(super) const fn narrowing(self) -> Narrowing {
        self.narrowing
    }

    /// A request was refused: leaves out more, if there is more to leave out.
    pub(super) fn refused(&mut self, now: Moment) -> Option<Narrowing> {
        self.since = now.at;
        self.narrowing.widen().then_some(self.narrowing)
    }

    /// A new series of requests begins: asks for everything again after a while.
    pub(super) fn begin(&mut self, now: Moment) -> Narrowing {
        if now.at.saturating_sub(self.since) >= REFUSED_FOR {
            self.narrowing = Narrowing::Full;
        }
        self.narrowing
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
