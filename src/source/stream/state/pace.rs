//! The pace of requests: when something may be requested again, and how often.

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

/// The number of pages that may be requested at once, after a pause.
const PAGES_AT_ONCE: u32 = 20;

/// The time between further pages.
const BETWEEN_PAGES: Duration = Duration::from_millis(100);

/// The rate limit of the pages of the list, for all purposes: [`PAGES_AT_ONCE`], then one each
/// [`BETWEEN_PAGES`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RateLimiter {
    /// When all requested pages would have been due at the steady pace.
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

/// The smallest size to which slow pages are reduced.
const LEAST_ENTRIES: u16 = 10;

/// The number of pages in a row that have to arrive before the size is doubled.
const IN_TIME: u32 = 5;

/// The largest number of entries that a page is requested with. It shrinks while no page arrives: a
/// server may take longer for a large page than the bridge waits.
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

    /// Notes that a page has not arrived. Returns whether the next one is smaller.
    pub(super) fn failed(&mut self) -> bool {
        let smaller = (self.most / 2).max(LEAST_ENTRIES);
        self.in_time = 0;
        std::mem::replace(&mut self.most, smaller) > smaller
    }

    /// Notes that a page has arrived.
    pub(super) fn arrived(&mut self) {
        self.in_time += 1;
        if self.in_time >= IN_TIME {
            *self = Self { most: self.most.saturating_mul(2).min(LARGEST_PAGE), in_time: 0 };
        }
    }
}

/// How long refused parameters are left out.
const REFUSED_FOR: Duration = Duration::from_hours(1);

/// The parameters that a request leaves out because Pepay has refused them. The refusal may have
/// had another cause, so it counts only for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct LeftOut {
    narrowing: Narrowing,
    /// When Pepay last refused a request.
    since: Duration,
}

impl LeftOut {
    pub(super) const fn narrowing(self) -> Narrowing {
        self.narrowing
    }

    /// Notes that a request was refused, and leaves out more. Returns what is left out, if there
    /// was more to leave out.
    pub(super) fn refused(&mut self, now: Moment) -> Option<Narrowing> {
        self.since = now.at;
        self.narrowing.widen().then_some(self.narrowing)
    }

    /// Begins a new series of requests. After a while, all parameters are requested again.
    pub(super) fn begin(&mut self, now: Moment) -> Narrowing {
        if now.at.saturating_sub(self.since) >= REFUSED_FOR {
            self.narrowing = Narrowing::Full;
        }
        self.narrowing
    }
}

impl RetryTimer {
    /// Notes a failure. The next try waits by the schedule, and never less than Pepay has asked
    /// for.
    pub(super) fn failed(&mut self, now: Moment, backoff: Backoff, jitter: &Jitter, floor: Option<Duration>) {
        self.failures = self.failures.saturating_add(1);
        let wait = match floor {
            // The wait is added to the floor, so that many bridges do not return at the same time.
            Some(floor) => {
                (floor + backoff.delay(1, jitter.next())).max(backoff.delay(self.failures, jitter.next()))
            }
            None => backoff.delay(self.failures, jitter.next()),
        };
        self.not_before = now.at + wait;
    }

    /// Notes a refusal that only an operator can end. Sets the slowest pace.
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
