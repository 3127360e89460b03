//! The rate limit of a target: requests are sent one by one at even intervals. Pure.

use std::time::Duration;

use crate::domain::clock::UnixMillis;

/// The intervals of a target with `rate_limit`.
#[derive(Debug)]
pub(super) struct RateLimiter {
    /// Microseconds between two requests: milliseconds would round 300 a second to 333.
    interval: i64,
    /// When the next request may be sent, in microseconds since the epoch.
    next: i64,
}

impl RateLimiter {
    /// Creates a limiter of `rate` requests per second.
    pub(super) fn new(rate: f64) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / rate).unwrap_or(Duration::MAX);
        Self { interval: i64::try_from(interval.as_micros()).unwrap_or(i64::MAX), next: 0 }
    }

    /// Allows one request at `now`, or returns as an error from when on it may be sent.
    pub(super) fn ask(&mut self, now: UnixMillis) -> Result<(), UnixMillis> {
        let micros = now.0.saturating_mul(1000);
        // The time is further away than the interval only if the clock was set back.
        self.next = self.next.min(micros.saturating_add(self.interval));
        if micros < self.next {
            // Rounded up, so that the caller does not wake too early and ask again.
            return Err(UnixMillis(self.next.saturating_add(999) / 1000));
        }
        // Unused time is not saved up, except the millisecond that the clock rounds away.
        self.next = self.next.max(micros.saturating_sub(1000)).saturating_add(self.interval);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_keep_their_distance_and_the_rate_is_met() {
        let (mut pace, mut now, mut sent) = (RateLimiter::new(300.0), UnixMillis(1_000_000), 0);
        let end = now.plus(Duration::from_secs(10));
        while now < end {
            match pace.ask(now) {
                Ok(()) => sent += 1,
                Err(later) => now = later,
            }
        }
        assert!((2_999..=3_001).contains(&sent), "{sent}");
    }

    #[test]
    fn idle_time_is_not_saved_up_for_a_burst() {
        let mut pace = RateLimiter::new(1.0);
        assert_eq!(pace.ask(UnixMillis(1_000_000)), Ok(()));
        let later = UnixMillis(9_000_000);
        assert_eq!(pace.ask(later), Ok(()));
        assert!(pace.ask(later).is_err());
    }

    #[test]
    fn a_clock_that_was_set_back_stops_the_traffic_for_one_interval_at_most() {
        let mut pace = RateLimiter::new(1.0);
        assert_eq!(pace.ask(UnixMillis(9_000_000)), Ok(()));
        assert_eq!(pace.ask(UnixMillis(1_000_000)), Err(UnixMillis(1_001_000)));
    }
}
