//! Decides which findings become messages. Pure; time is an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::domain::alert::{Alert, Finding, Findings, Kind};
use crate::domain::clock::UnixMillis;

/// The shortest time between two messages that the same state has begun.
const REPEAT: Duration = Duration::from_mins(10);

/// The messages that have been sent so far.
#[derive(Debug, Default)]
pub(super) struct Tracker {
    known: BTreeMap<(Kind, String), Known>,
}

#[derive(Debug)]
struct Known {
    /// Since when the state lasts; `None` if it is over.
    since: Option<UnixMillis>,
    /// The summary of the last finding.
    summary: String,
    /// When the message of its beginning was last sent.
    told_at: Option<UnixMillis>,
    /// The occurrence that this message was about.
    told: i64,
    /// Whether its beginning was sent and its end was not.
    open: bool,
}

impl Tracker {
    /// Returns the messages to send for `findings`.
    pub(super) fn observe(&mut self, findings: Findings, now: UnixMillis) -> Vec<Alert> {
        let Findings { all, unknown } = findings;
        let mut alerts = Vec::new();
        let present: Vec<_> = all.iter().map(|finding| (finding.kind, finding.name.clone())).collect();
        for (key, known) in &mut self.known {
            if known.since.is_some() && !present.contains(key) && !unknown.contains(&key.0) {
                let since = known.since.take().unwrap_or(now);
                if std::mem::take(&mut known.open) && !key.0.is_occurrence() {
                    let (name, summary) = (key.1.clone(), known.summary.clone());
                    alerts.push(Alert { kind: key.0, name, resolved: true, summary, since, at: now });
                }
            }
        }
        for finding in all {
            alerts.extend(self.begin(finding, now));
        }
        // A state that is over and may be sent again at once needs no memory.
        self.known.retain(|_, known| known.since.is_some() || !is_old(known.told_at, now));
        alerts
    }

    fn begin(&mut self, finding: Finding, now: UnixMillis) -> Option<Alert> {
        let Finding { kind, name, summary, occurrence } = finding;
        let known = self.known.entry((kind, name.clone())).or_insert_with(|| Known {
            since: None,
            summary: String::new(),
            told_at: None,
            told: 0,
            open: false,
        });
        let since = *known.since.get_or_insert(now);
        known.summary.clone_from(&summary);
        let is_news = !known.open || (kind.is_occurrence() && known.told != occurrence);
        let has_lasted = since > now || since.plus(patience(kind)) <= now;
        if !is_news || !has_lasted || !is_old(known.told_at, now) {
            return None;
        }
        (known.told_at, known.told, known.open) = (Some(now), occurrence, true);
        let since = if kind.is_occurrence() { now } else { since };
        Some(Alert { kind, name, resolved: false, summary, since, at: now })
    }
}

/// Returns how long a state has to last before it is sent. The restart of a target, and the time
/// that a stream takes to connect after a start, are shorter.
const fn patience(kind: Kind) -> Duration {
    match kind {
        Kind::TargetDown => Duration::from_secs(10),
        Kind::StreamDown => Duration::from_secs(15),
        _ => Duration::ZERO,
    }
}

/// Returns whether a state that was sent `at` may be sent again. A time in the future is from
/// before the clock was set back.
fn is_old(at: Option<UnixMillis>, now: UnixMillis) -> bool {
    at.is_none_or(|at| at > now || at.plus(REPEAT) <= now)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(minutes: u64) -> UnixMillis {
        UnixMillis(1_000_000).plus(Duration::from_mins(minutes))
    }

    fn finding(kind: Kind, name: &str, occurrence: i64) -> Finding {
        Finding { kind, name: name.to_owned(), summary: "so it is".to_owned(), occurrence }
    }

    fn found(all: Vec<Finding>) -> Findings {
        Findings { all, unknown: Vec::new() }
    }

    /// Each alert as its name, with a `!` for a beginning.
    fn told(alerts: &[Alert]) -> Vec<String> {
        alerts
            .iter()
            .map(|alert| format!("{}{}", alert.name, if alert.resolved { "" } else { "!" }))
            .collect()
    }

    #[test]
    fn a_lasting_state_sends_one_alert_at_its_begin_and_one_at_its_end() {
        let mut tracker = Tracker::default();
        let down = || finding(Kind::Rejecting, "orders", 0);
        let dead = || finding(Kind::Dead, "orders", 0);
        assert_eq!(told(&tracker.observe(found(vec![down()]), at(0))), ["orders!"]);
        assert_eq!(told(&tracker.observe(found(vec![down(), dead()]), at(1))), ["orders!"]);
        assert!(tracker.observe(found(vec![down(), dead()]), at(90)).is_empty());
        let over = tracker.observe(found(vec![dead()]), at(91));
        assert_eq!(
            (told(&over), over[0].kind, over[0].since),
            (vec!["orders".to_owned()], Kind::Rejecting, at(0))
        );
        assert!(tracker.observe(found(vec![dead()]), at(92)).is_empty());
    }

    #[test]
    fn an_alert_that_comes_and_goes_is_sent_at_a_bounded_rate() {
        let mut tracker = Tracker::default();
        let down = || found(vec![finding(Kind::Rejecting, "orders", 0)]);
        let up = Findings::default;
        assert_eq!(told(&tracker.observe(down(), at(0))), ["orders!"]);
        assert_eq!(told(&tracker.observe(up(), at(1))), ["orders"]);
        assert!(tracker.observe(down(), at(2)).is_empty());
        assert!(tracker.observe(up(), at(3)).is_empty(), "its beginning was not told");
        assert!(tracker.observe(down(), at(4)).is_empty());
        assert_eq!(told(&tracker.observe(down(), at(10))), ["orders!"], "it still stands");
        assert_eq!(told(&tracker.observe(up(), at(11))), ["orders"]);
    }

    #[test]
    fn a_short_outage_is_not_alerted() {
        let mut tracker = Tracker::default();
        let starting = found(vec![finding(Kind::StreamDown, "commerce", 0)]);
        assert!(tracker.observe(starting, at(0)).is_empty());
        assert!(tracker.observe(Findings::default(), at(0).plus(Duration::from_secs(1))).is_empty());
        let down = || found(vec![finding(Kind::TargetDown, "orders", 0)]);
        let seconds = |seconds| at(0).plus(Duration::from_secs(seconds));
        assert!(tracker.observe(down(), seconds(0)).is_empty());
        assert!(tracker.observe(Findings::default(), seconds(5)).is_empty());
        assert!(tracker.observe(down(), seconds(10)).is_empty());
        assert!(tracker.observe(down(), seconds(15)).is_empty());
        assert_eq!(told(&tracker.observe(down(), seconds(20))), ["orders!"]);
    }

    #[test]
    fn an_alert_of_unknown_state_is_not_resolved() {
        let mut tracker = Tracker::default();
        tracker.observe(found(vec![finding(Kind::Dead, "orders", 0)]), at(0));
        let unknown = Findings { all: Vec::new(), unknown: vec![Kind::Dead] };
        assert!(tracker.observe(unknown, at(1)).is_empty());
        assert_eq!(told(&tracker.observe(Findings::default(), at(2))), ["orders"]);
    }

    #[test]
    fn every_occurrence_sends_an_alert_and_none_sends_a_resolution() {
        let mut tracker = Tracker::default();
        let gap = |number| found(vec![finding(Kind::Gap, "commerce", number)]);
        assert_eq!(told(&tracker.observe(gap(1), at(0))), ["commerce!"]);
        assert!(tracker.observe(gap(1), at(60)).is_empty());
        assert_eq!(told(&tracker.observe(gap(2), at(61))), ["commerce!"]);
        assert!(tracker.observe(gap(3), at(62)).is_empty(), "at a pace");
        assert_eq!(told(&tracker.observe(gap(4), at(71))), ["commerce!"]);
        assert!(tracker.observe(Findings::default(), at(72)).is_empty());
    }

    proptest! {
        /// Over any history, messages of one thing begin and end in turn, begin at a pace,
        /// and what stands for longer than the pace has been told.
        #[test]
        fn alerts_of_begin_and_end_alternate_at_a_bounded_rate(history in prop::collection::vec((any::<bool>(), any::<bool>(), 0..15_u64), 1..80)) {
            let (mut tracker, mut now) = (Tracker::default(), 0);
            let (mut open, mut told_at) = (false, None);
            for (stands, known, minutes) in history {
                now += minutes;
                let all = if stands && known { vec![finding(Kind::Held, "orders", 0)] } else { Vec::new() };
                let unknown = if known { Vec::new() } else { vec![Kind::Held] };
                let alerts = tracker.observe(Findings { all, unknown }, at(now));
                prop_assert!(alerts.len() <= 1);
                for alert in alerts {
                    prop_assert_eq!(alert.resolved, open);
                    prop_assert_eq!(alert.resolved, !stands);
                    if !alert.resolved {
                        prop_assert!(told_at.is_none_or(|at| at + 10 <= now));
                        told_at = Some(now);
                    }
                    open = !alert.resolved;
                }
                if known {
                    prop_assert!(stands || !open);
                    prop_assert!(!stands || open || told_at.is_some_and(|at| now < at + 10));
                }
            }
        }
    }
}
