//! Beginnings by a clock that may have been set back since: what began before that seems to be younger
//! than it is, or to begin only in the future. A monotonic clock gives the least age.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::clock::UnixMillis;

/// The smallest correction. Clocks that are kept in step differ by less.
const TOLERANCE: Duration = Duration::from_secs(1);

/// A part of the bridge, and the state of it that has begun.
type Subject = (&'static str, Arc<str>);

/// The beginnings that were asked about. Clones share them.
#[derive(Clone)]
pub struct Ages {
    seen: Arc<Mutex<HashMap<Subject, Seen>>>,
    monotonic: Arc<dyn Fn() -> Instant + Send + Sync>,
}

/// The present beginning of a subject, and when it was first asked about.
#[derive(Clone, Copy, Debug)]
struct Seen {
    begin: UnixMillis,
    at: Instant,
}

impl Ages {
    /// Begins without any. `monotonic` is the present time of a clock that is never set back.
    pub fn by(monotonic: impl Fn() -> Instant + Send + Sync + 'static) -> Self {
        Self { seen: Arc::default(), monotonic: Arc::new(monotonic) }
    }

    /// Returns `begin`, the beginning of what `subject` is in now. If it has been asked about for longer
    /// than it seems to last at `now`, returns an earlier time.
    pub(super) fn begin(&self, subject: Subject, begin: UnixMillis, now: UnixMillis) -> UnixMillis {
        let at = (self.monotonic)();
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = all.entry(subject).or_insert(Seen { begin, at });
        if seen.begin != begin {
            *seen = Seen { begin, at };
        }
        let first_seen = now.minus(at.duration_since(seen.at));
        if first_seen.plus(TOLERANCE) < begin { first_seen } else { begin }
    }
}

impl fmt::Debug for Ages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ages")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::status::{StreamPhase, StreamStatus};
    use crate::web::readiness::unusable;
    use crate::web::tests::{NOW, Shown};

    const HOUR: Duration = Duration::from_hours(1);

    /// Returns ages by a clock that goes on by the call of a function alone.
    fn ages() -> (Ages, impl Fn(Duration)) {
        let (begin, passed) = (Instant::now(), Arc::new(Mutex::new(Duration::ZERO)));
        let now = Arc::clone(&passed);
        (Ages::by(move || begin + *now.lock().unwrap()), move |time| *passed.lock().unwrap() += time)
    }

    #[test]
    fn an_age_grows_although_the_clock_was_set_back() {
        let (ages, pass) = ages();
        let begin = |begin, now| ages.begin(("stream", "commerce".into()), begin, now);
        assert_eq!(begin(NOW, NOW), NOW);
        pass(Duration::from_mins(5));
        assert_eq!(begin(NOW, NOW.plus(Duration::from_mins(5))), NOW);
        let set_back = NOW.minus(HOUR);
        assert_eq!(set_back.since(begin(NOW, set_back)), Duration::from_mins(5));
        assert_eq!(begin(set_back, set_back), set_back, "another state has begun");
    }

    #[test]
    fn a_state_that_began_before_it_was_asked_about_keeps_its_beginning() {
        let (ages, pass) = ages();
        let begin = || ages.begin(("backlog", "orders".into()), NOW, NOW.plus(HOUR));
        assert_eq!(begin(), NOW);
        pass(Duration::from_mins(1));
        assert_eq!(begin(), NOW);
    }

    #[tokio::test]
    async fn a_stream_that_is_down_is_told_although_the_clock_was_set_back() {
        let (mut shown, (ages, pass)) = (Shown::idle().await, ages());
        shown.view.ages = ages;
        shown.view.clock = shown.view.clock.adjustable();
        let down = StreamStatus::new("commerce".into(), NOW);
        shown.stream.send_replace(StreamStatus { ever_connected: true, phase: StreamPhase::Waiting, ..down });
        let told = || unusable(&shown.view.streams()[0], shown.view.clock.now(), true);
        assert_eq!(told(), None);
        assert!(shown.view.clock.adjust((NOW, NOW), NOW.minus(HOUR), Duration::ZERO).is_some());
        pass(Duration::from_mins(3));
        assert_eq!(told().unwrap(), "stream commerce has been without a connection for 180 s");
    }

    #[tokio::test]
    async fn a_backlog_ages_although_the_clock_was_set_back() {
        let (mut shown, (ages, pass)) = (Shown::new().await, ages());
        shown.view.ages = ages;
        shown.store_event("evt_1", -3600).await;
        let age = async || NOW.since(shown.view.backlogs().await.unwrap()[0].oldest.unwrap());
        assert_eq!(age().await, Duration::ZERO);
        pass(Duration::from_mins(20));
        assert_eq!(age().await, Duration::from_mins(20));
        shown.close().await;
    }
}
