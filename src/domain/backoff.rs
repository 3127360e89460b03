//! Exponential backoff with full jitter.
//!
//! The wait before try `n + 1` is uniform between zero and
//! `min(max, min × 2^(n-1))`, as in "Exponential Backoff And Jitter" of the AWS
//! Architecture Blog. The random number is an argument: the schedule is a value.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// The source of the random part of a wait: numbers in `0.0..1.0`.
#[derive(Clone)]
pub struct Jitter(Arc<dyn Fn() -> f64 + Send + Sync>);

impl Jitter {
    /// Creates jitter that draws from `next`.
    pub fn from_fn(next: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// Returns the next number.
    pub fn next(&self) -> f64 {
        (self.0)()
    }
}

impl fmt::Debug for Jitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Jitter")
    }
}

/// A retry schedule between two waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    min: Duration,
    max: Duration,
}

impl Backoff {
    /// Creates a schedule between `min` and `max`; `None` if `min` is zero or above `max`.
    pub fn new(min: Duration, max: Duration) -> Option<Self> {
        (!min.is_zero() && min <= max).then_some(Self { min, max })
    }

    /// Creates the schedule between two constants.
    ///
    /// # Panics
    /// If `min` is zero or above `max`; for a constant, at compile time.
    pub const fn between(min: Duration, max: Duration) -> Self {
        assert!(!min.is_zero() && min.as_nanos() <= max.as_nanos());
        Self { min, max }
    }

    /// Returns the shortest wait, before jitter.
    pub const fn min(self) -> Duration {
        self.min
    }

    /// Returns the longest wait of this schedule.
    pub const fn max(self) -> Duration {
        self.max
    }

    /// Returns the longest wait after `failures` failures in a row (1 is the first).
    pub fn ceiling(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.min.saturating_mul(1 << doublings).min(self.max)
    }

    /// Returns the wait after `failures` failures in a row; `jitter` is a random number in `0.0..1.0`.
    pub fn delay(self, failures: u32, jitter: f64) -> Duration {
        self.ceiling(failures).mul_f64(jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(min_ms: u64, max_ms: u64) -> Backoff {
        Backoff::new(Duration::from_millis(min_ms), Duration::from_millis(max_ms)).unwrap()
    }

    #[test]
    fn the_ceiling_of_the_wait_doubles_up_to_the_maximum() {
        let backoff = schedule(100, 1_000);
        let ceilings: Vec<_> = (1..=6).map(|n| backoff.ceiling(n).as_millis()).collect();
        assert_eq!(ceilings, [100, 200, 400, 800, 1_000, 1_000]);
        assert_eq!(backoff.ceiling(u32::MAX), backoff.max());
    }

    #[test]
    fn jitter_spreads_over_the_whole_range() {
        let backoff = schedule(100, 1_000);
        assert_eq!(backoff.delay(3, 0.0), Duration::ZERO);
        assert_eq!(backoff.delay(3, 0.5), Duration::from_millis(200));
        assert!(backoff.delay(3, 0.999) < backoff.ceiling(3));
    }

    #[test]
    fn impossible_schedules_cannot_be_built() {
        assert!(Backoff::new(Duration::ZERO, Duration::from_secs(1)).is_none());
        assert!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)).is_none());
    }
}
