//! Time as a value that is passed in, so that tests determine it.

mod rfc3339;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use rfc3339::InvalidTime;

/// A point in time: milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixMillis(pub i64);

impl UnixMillis {
    /// Returns the same point in whole seconds, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// Returns the point that is later by `by`; saturates instead of wrapping.
    pub fn plus(self, by: Duration) -> Self {
        Self(self.0.saturating_add(signed_millis(by)))
    }

    /// Returns the point that is earlier by `by`; saturates instead of wrapping.
    pub fn minus(self, by: Duration) -> Self {
        Self(self.0.saturating_sub(signed_millis(by)))
    }

    /// Returns how long after `earlier` this point lies; zero if it lies before it.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

impl From<UnixMillis> for SystemTime {
    fn from(at: UnixMillis) -> Self {
        UNIX_EPOCH + at.since(UnixMillis(0))
    }
}

/// Returns the whole milliseconds of `duration`, for logs, metrics and JSON; saturates.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Returns the whole milliseconds of `duration`, for a column of a table; saturates.
pub fn signed_millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The source of the current time.
#[derive(Clone)]
pub struct Clock {
    now: Arc<dyn Fn() -> UnixMillis + Send + Sync>,
    /// The milliseconds that are added, shared by all clones; `None` for a clock that is not
    /// adjustable.
    correction: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// Returns the machine's own clock.
    #[expect(clippy::disallowed_methods, reason = "this is where the time that is passed in comes from")]
    pub fn system() -> Self {
        Self::from_fn(|| {
            let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            UnixMillis(signed_millis(since_epoch))
        })
    }

    /// Creates a clock that returns the time of `now`.
    pub fn from_fn(now: impl Fn() -> UnixMillis + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), correction: None }
    }

    /// Returns a clock that shows the same time until it is [adjusted](Self::adjust), together with its
    /// clones.
    pub fn adjustable(&self) -> Self {
        Self { correction: Some(Arc::default()), ..self.clone() }
    }

    /// Returns the current time.
    pub fn now(&self) -> UnixMillis {
        self.corrected((self.now)())
    }

    /// Returns the time of this clock when the clock that it was made from shows `at`.
    pub fn corrected(&self, at: UnixMillis) -> UnixMillis {
        let correction = self.correction.as_ref().map_or(0, |correction| correction.load(Relaxed));
        UnixMillis(at.0.saturating_add(correction))
    }

    /// Sets the clock by another one, which has shown `theirs` at some time between two times of this
    /// one. A difference that could be less than `tolerance` changes nothing. Returns the milliseconds
    /// that were added.
    pub fn adjust(
        &self,
        (before, after): (UnixMillis, UnixMillis),
        theirs: UnixMillis,
        tolerance: Duration,
    ) -> Option<i64> {
        let correction = self.correction.as_ref()?;
        let is_set_back = after < before;
        if is_set_back || (before <= theirs.plus(tolerance) && theirs <= after.plus(tolerance)) {
            return None;
        }
        let middle = before.0.saturating_add(after.0.saturating_sub(before.0) / 2);
        let by = theirs.0.saturating_sub(middle);
        correction.fetch_add(by, Relaxed);
        Some(by)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_millis(250);

    fn at(now: i64) -> Clock {
        Clock::from_fn(move || UnixMillis(now)).adjustable()
    }

    #[test]
    fn a_clock_and_its_clones_go_by_another_one_once_they_are_adjusted() {
        let (ours, raw) = (at(100_000), UnixMillis(100_000));
        let clone = ours.clone();
        let between = (UnixMillis(100_000), UnixMillis(100_100));
        assert_eq!(ours.adjust(between, UnixMillis(40_050), TOLERANCE), Some(-60_000));
        assert_eq!((clone.now(), clone.corrected(raw)), (UnixMillis(40_000), UnixMillis(40_000)));
        assert_eq!(clone.adjustable().corrected(raw), raw, "it is made of the same one");
        let between = (UnixMillis(40_000), UnixMillis(40_100));
        assert_eq!(ours.adjust(between, UnixMillis(40_050), TOLERANCE), None);
    }

    #[test]
    fn a_difference_within_the_time_of_the_question_adjusts_nothing() {
        let ours = at(100_000);
        let slow = (UnixMillis(100_000), UnixMillis(102_000));
        for theirs in [99_750, 100_000, 102_250] {
            assert_eq!(ours.adjust(slow, UnixMillis(theirs), TOLERANCE), None, "{theirs}");
        }
        assert_eq!(ours.adjust(slow, UnixMillis(99_749), TOLERANCE), Some(-1_251));
        assert_eq!(ours.adjust((UnixMillis(2), UnixMillis(1)), UnixMillis(90_000), TOLERANCE), None);
    }

    #[test]
    fn a_clock_that_is_not_adjustable_stays_as_it_is() {
        let ours = Clock::from_fn(|| UnixMillis(5));
        assert_eq!(ours.adjust((UnixMillis(5), UnixMillis(5)), UnixMillis(90_000), TOLERANCE), None);
        assert_eq!(ours.now(), UnixMillis(5));
    }
}
