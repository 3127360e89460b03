//! Whether the bridge can do its work: the store commits, and every source is usable.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{STORE_LIMIT, View, within};
use crate::domain::clock::UnixMillis;
use crate::domain::status::{StreamPhase, StreamStatus};

/// How long the result of a probe stands. Health checks may come in any number;
/// the store is asked once in this time.
const PROBE_STANDS: Duration = Duration::from_secs(1);

/// How long a stream may be without a connection before that is more than a reconnect.
const RECONNECT_GRACE: Duration = Duration::from_mins(2);

/// Answers whether the bridge is ready, for one router.
pub(super) struct Readiness {
    pub(super) view: View,
    /// How long the result of a probe stands.
    stands: Duration,
    /// How long the store has for an answer.
    patience: Duration,
    probed: Mutex<Probed>,
}

struct Probed {
    at: Option<Instant>,
    failure: Option<String>,
}

/// The state at one moment.
pub(super) struct Verdict {
    /// Why the store does not commit, if it does not.
    pub(super) store_failure: Option<String>,
    /// Why the bridge is not ready; empty if it is.
    pub(super) reasons: Vec<String>,
}

impl Readiness {
    pub(super) fn new(view: View) -> Self {
        // Stands only until the first probe, or if that was abandoned by who asked for it.
        let failure = Some("the store has not been asked yet".to_owned());
        let probed = Mutex::new(Probed { at: None, failure });
        Self { view, stands: PROBE_STANDS, patience: STORE_LIMIT, probed }
    }

    /// Looks at the store and every source.
    pub(super) async fn look(&self) -> Verdict {
        let store_failure = self.store_failure().await;
        let now = self.view.clock.now();
        let stopping = self.view.stopping.is_cancelled().then(|| "shutting down".to_owned());
        let store = store_failure.clone();
        let streams = self.view.parts().streams();
        let streams = streams.iter().filter_map(|stream| unusable(stream, now));
        let reasons = stopping.into_iter().chain(store).chain(streams).collect();
        Verdict { store_failure, reasons }
    }

    async fn store_failure(&self) -> Option<String> {
        // Held while the store is asked, so that whoever comes meanwhile shares the answer.
        let mut probed = self.probed.lock().await;
        if probed.at.is_none_or(|at| at.elapsed() >= self.stands) {
            // Noted before the answer: who asks and hangs up must not make the next one ask again.
            probed.at = Some(Instant::now());
            probed.failure = within(self.patience, self.view.archive.probe()).await.err();
        }
        probed.failure.clone()
    }
}

/// Why `stream` brings no events, if it brings none for long enough to say so.
/// One that is connected is trusted to catch up, unless it reports a problem with that.
fn unusable(stream: &StreamStatus, now: UnixMillis) -> Option<String> {
    let works = stream.connected && (stream.phase == StreamPhase::Live || stream.problem.is_none());
    let seconds = now.since(stream.since).as_secs();
    let state = if stream.behind {
        "brings less than Pepay has".to_owned()
    } else if works {
        return None;
    } else if !stream.ever_connected {
        "has not been connected since the start".to_owned()
    } else if seconds < RECONNECT_GRACE.as_secs() {
        return None;
    } else if stream.connected {
        format!("has not caught up within {seconds} s")
    } else {
        format!("has been without a connection for {seconds} s")
    };
    let name = &stream.name;
    Some(match &stream.problem {
        Some(problem) => format!("stream {name} {state}: {problem}"),
        None => format!("stream {name} {state}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{NOW, Shown};

    /// A stream that lost its connection this many seconds ago.
    fn lost(seconds: u64) -> StreamStatus {
        let now = UnixMillis(NOW.0 - i64::try_from(seconds * 1000).unwrap());
        StreamStatus {
            ever_connected: true,
            phase: StreamPhase::Waiting,
            ..StreamStatus::new("commerce".into(), now)
        }
    }

    #[test]
    fn a_short_reconnect_is_no_reason_and_a_long_one_is() {
        assert_eq!(unusable(&lost(0), NOW), None);
        assert_eq!(unusable(&lost(119), NOW), None);
        let reason = unusable(&lost(120), NOW).unwrap();
        assert_eq!(reason, "stream commerce has been without a connection for 120 s");
        let back = StreamStatus { connected: true, ..lost(3600) };
        assert_eq!(unusable(&back, NOW), None);
    }

    #[test]
    fn a_stream_that_was_never_connected_is_a_reason_at_once() {
        let status =
            StreamStatus { problem: Some("401: bad key".to_owned()), ever_connected: false, ..lost(0) };
        let reason = unusable(&status, NOW).unwrap();
        assert_eq!(reason, "stream commerce has not been connected since the start: 401: bad key");
    }

    #[test]
    fn a_connected_stream_is_a_reason_only_while_a_problem_keeps_it_from_catching_up() {
        let connected = StreamStatus { connected: true, phase: StreamPhase::Backfilling, ..lost(120) };
        assert_eq!(unusable(&connected, NOW), None);
        let stuck = StreamStatus { problem: Some("the REST list answers 500".to_owned()), ..connected };
        let reason = unusable(&stuck, NOW).unwrap();
        assert_eq!(reason, "stream commerce has not caught up within 120 s: the REST list answers 500");
        let live = StreamStatus { phase: StreamPhase::Live, ..stuck };
        assert_eq!(unusable(&live, NOW), None);
        let behind = StreamStatus { behind: true, problem: None, ..live };
        assert_eq!(unusable(&behind, NOW).unwrap(), "stream commerce brings less than Pepay has");
    }

    #[tokio::test]
    async fn the_store_is_not_asked_again_while_a_result_stands() {
        let mut shown = Shown::new().await;
        let readiness = Readiness { stands: Duration::MAX, ..Readiness::new(shown.view.clone()) };
        assert_eq!(readiness.look().await.reasons, [""; 0]);
        shown.close().await;
        assert_eq!(readiness.look().await.reasons, [""; 0]);
        let afresh = Readiness::new(shown.view.clone()).look().await;
        assert_eq!(afresh.reasons.len(), 1);
    }

    #[tokio::test]
    async fn a_store_that_does_not_answer_is_a_reason() {
        let shown = Shown::idle().await;
        let readiness =
            Readiness { patience: Duration::from_millis(1), ..Readiness::new(shown.view.clone()) };
        assert_eq!(readiness.look().await.reasons, ["the store does not answer"]);
    }
}
