//! Readiness: the bridge is ready if the store commits, its disk has room, and every source works.

use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

use super::{STORE_LIMIT, View, within};
use crate::domain::clock::UnixMillis;
use crate::domain::event::Source;
use crate::domain::status::{StreamPhase, StreamStatus};
use crate::store::view::{Quiet, Usage};

/// The time for which the result of a probe is reused. However many health checks come, one probe runs
/// at a time, and the next one begins this long after its end.
const PROBE_STANDS: Duration = Duration::from_secs(1);

/// The time for which a stream may have no connection before the bridge is not ready. A reconnect takes
/// less.
const RECONNECT_GRACE: Duration = Duration::from_mins(2);

/// Determines for one router whether the bridge is ready.
pub(super) struct Readiness {
    pub(super) view: View,
    /// Whether a reason quotes Pepay's message about a stream.
    quotes: bool,
    /// The time for which the result of a probe is reused.
    stands: Duration,
    /// The time limit of a call to the store.
    patience: Duration,
    probed: Mutex<Probed>,
}

struct Probed {
    at: Option<Instant>,
    failure: Option<String>,
    room: Room,
}

/// The room on the store's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// It was not told.
    Unknown,
    /// There is enough.
    Enough,
    /// The reason why the store will soon be unable to write.
    Low(String),
}

/// The result of one check.
pub(super) struct Verdict {
    /// The reason why the store does not commit, if it does not.
    pub(super) store_failure: Option<String>,
    /// The room on the store's disk.
    pub(super) room: Room,
    /// The reasons why the bridge is not ready; empty if it is ready.
    pub(super) reasons: Vec<String>,
    /// Warnings for an operator, which do not affect readiness.
    pub(super) warnings: Vec<String>,
}

impl Readiness {
    pub(super) fn new(view: View) -> Self {
        // This failure is reported only before the first probe has ended, or if its caller has left.
        let failure = Some("the store has not been asked yet".to_owned());
        let probed = Mutex::new(Probed { at: None, failure, room: Room::Unknown });
        Self { view, quotes: true, stands: PROBE_STANDS, patience: STORE_LIMIT, probed }
    }

    /// Returns the same checks without Pepay's messages, which are not public.
    pub(super) fn without_quotes(self) -> Self {
        Self { quotes: false, ..self }
    }

    /// Checks the store and every source.
    pub(super) async fn look(&self) -> Verdict {
        let mut verdict = self.intake().await;
        let now = self.view.clock.now();
        verdict.reasons.extend(self.view.stalled());
        let streams = self.view.streams();
        verdict.reasons.extend(streams.iter().filter_map(|stream| unusable(stream, now, self.quotes)));
        // A quiet source is a warning and not a reason. A bridge that is not ready gets no webhooks, so a
        // quiet webhook endpoint would stay quiet for ever.
        verdict.warnings.extend(self.view.operator.quiet().iter().map(in_words));
        verdict
    }

    /// Checks the conditions for taking webhooks: the bridge is not stopping, and the store commits and
    /// has room.
    pub(super) async fn intake(&self) -> Verdict {
        let (store_failure, room) = self.store().await;
        let stopping = self.view.stopping.is_cancelled().then(|| "shutting down".to_owned());
        // A disk whose free room is unknown does not count as full.
        let low_disk = if let Room::Low(reason) = &room { Some(reason.clone()) } else { None };
        let reasons = stopping.into_iter().chain(store_failure.clone()).chain(low_disk).collect();
        Verdict { store_failure, room, reasons, warnings: Vec::new() }
    }

    /// Returns the reason why the store does not commit, and the room on its disk.
    async fn store(&self) -> (Option<String>, Room) {
        // The lock is held during the probe, so that concurrent requests share its result.
        let mut probed = self.probed.lock().await;
        if probed.at.is_none_or(|at| at.elapsed() >= self.stands) {
            // The time is noted before the probe, too. If a client disconnects during the probe, the next
            // request must not start another one.
            probed.at = Some(Instant::now());
            let operator = &self.view.operator;
            let (commits, usage) = tokio::join!(
                within(self.patience, operator.probe()),
                within(self.patience, operator.usage())
            );
            probed.failure = commits.err();
            probed.room = usage.map_or(Room::Unknown, |usage| Room::of(&usage));
            // A probe of a store that does not respond takes longer than its result stands. The requests
            // that have waited for it must not start one each: they would wait for one after another, and
            // use up the connections of the listener.
            probed.at = Some(Instant::now());
        }
        (probed.failure.clone(), probed.room.clone())
    }
}

impl Room {
    fn of(usage: &Usage) -> Self {
        let (least, left) = (Usage::least_free(usage.disk_total_bytes), usage.disk_free_bytes);
        if left >= least {
            return Self::Enough;
        }
        let mib = |bytes: u64| bytes >> 20;
        Self::Low(format!(
            "the disk of the store is nearly full: {} MiB are left, less than {}",
            mib(left),
            mib(least)
        ))
    }
}

pub(super) fn in_words(quiet: &Quiet) -> String {
    let (source, missed) = (quiet.source.as_str(), quiet.missed);
    let since = humantime::format_rfc3339_seconds(quiet.since.into());
    let other = if quiet.source == Source::Stream { "webhook" } else { "stream" };
    format!(
        "source {source} is quiet: since {since}, the last {missed} events were brought by source {other} alone"
    )
}

/// Returns the reason why `stream` does not work, if it has not worked for long enough. With `quotes` the
/// reason includes the stream's own problem. A connected stream that is catching up counts as working,
/// unless it reports a problem.
pub(super) fn unusable(stream: &StreamStatus, now: UnixMillis, quotes: bool) -> Option<String> {
    let works = stream.connected && (stream.phase == StreamPhase::Live || stream.problem.is_none());
    let seconds = now.since(stream.since).as_secs();
    let unsteady =
        stream.unsteady_since.map(|since| now.since(since)).filter(|since| *since >= RECONNECT_GRACE);
    let state = if stream.behind {
        "brings less than Pepay has".to_owned()
    } else if let Some(unsteady) = unsteady {
        format!("has been let in and thrown out again for {} s", unsteady.as_secs())
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
    Some(match stream.problem.as_ref().filter(|_| quotes) {
        Some(problem) => format!("stream {name} {state}: {problem}"),
        None => format!("stream {name} {state}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{NOW, Shown};

    /// Returns a stream that lost its connection this many seconds ago.
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
        assert_eq!(unusable(&lost(0), NOW, true), None);
        assert_eq!(unusable(&lost(119), NOW, true), None);
        let reason = unusable(&lost(120), NOW, true).unwrap();
        assert_eq!(reason, "stream commerce has been without a connection for 120 s");
        let back = StreamStatus { connected: true, ..lost(3600) };
        assert_eq!(unusable(&back, NOW, true), None);
    }

    #[test]
    fn a_stream_that_was_never_connected_is_a_reason_at_once() {
        let status =
            StreamStatus { problem: Some("401: bad key".to_owned()), ever_connected: false, ..lost(0) };
        let reason = unusable(&status, NOW, true).unwrap();
        assert_eq!(reason, "stream commerce has not been connected since the start: 401: bad key");
        let reason = unusable(&status, NOW, false).unwrap();
        assert_eq!(reason, "stream commerce has not been connected since the start");
    }

    #[test]
    fn a_connected_stream_is_a_reason_only_while_a_problem_keeps_it_from_catching_up() {
        let connected = StreamStatus { connected: true, phase: StreamPhase::Backfilling, ..lost(120) };
        assert_eq!(unusable(&connected, NOW, true), None);
        let stuck = StreamStatus { problem: Some("the REST list answers 500".to_owned()), ..connected };
        let reason = unusable(&stuck, NOW, true).unwrap();
        assert_eq!(reason, "stream commerce has not caught up within 120 s: the REST list answers 500");
        let live = StreamStatus { phase: StreamPhase::Live, ..stuck };
        assert_eq!(unusable(&live, NOW, true), None);
        let behind = StreamStatus { behind: true, problem: None, ..live };
        assert_eq!(unusable(&behind, NOW, true).unwrap(), "stream commerce brings less than Pepay has");
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

    #[tokio::test]
    async fn many_checks_of_a_store_that_does_not_answer_wait_for_one_probe() {
        let shown = Shown::idle().await;
        // As in production, a result stands for half as long as the probe takes.
        let (stands, patience) = (Duration::from_millis(50), Duration::from_millis(100));
        let readiness = Readiness { stands, patience, ..Readiness::new(shown.view.clone()) };
        let began = Instant::now();
        let verdicts = futures_util::future::join_all((0..100).map(|_| readiness.intake())).await;
        assert!(verdicts.iter().all(|verdict| verdict.reasons == ["the store does not answer"]));
        assert!(began.elapsed() < 50 * patience, "{:?}", began.elapsed());
    }

    #[test]
    fn a_disk_that_is_nearly_full_is_a_reason_before_it_is_full() {
        let usage = |free: u64, total: u64| Usage {
            last_backup_at: None,
            database_bytes: 0,
            wal_bytes: 0,
            free_bytes: 0,
            disk_free_bytes: free << 20,
            disk_total_bytes: total << 20,
        };
        assert_eq!(Room::of(&usage(256, 100_000)), Room::Enough);
        let reason = "the disk of the store is nearly full: 255 MiB are left, less than 256";
        assert_eq!(Room::of(&usage(255, 100_000)), Room::Low(reason.to_owned()));
        assert_eq!(Room::of(&usage(100, 1000)), Room::Enough, "a small disk is never far from full");
        assert!(matches!(Room::of(&usage(99, 1000)), Room::Low(_)));
    }

    #[test]
    fn a_quiet_source_is_named_beside_the_one_that_is_not() {
        let quiet = Quiet { source: Source::Webhook, missed: 35, since: NOW };
        let expected = "source webhook is quiet: since 2024-12-21T11:20:00Z, the last 35 events were brought by source stream alone";
        assert_eq!(in_words(&quiet), expected);
    }
}
