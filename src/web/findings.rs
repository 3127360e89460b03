//! The findings for alerts, from the same state as `/status`.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::View;
use super::readiness::{Readiness, Room, in_words, unusable};
use crate::domain::alert::{Finding, Findings, Kind};
use crate::domain::clock::UnixMillis;
use crate::domain::status::{Circuit, GapStatus, StreamStatus, TargetStatus};
use crate::store::view::{Backlog, SourceTally};

/// Searches the state for findings.
pub struct Finder(Readiness);

impl Finder {
    /// Creates a finder for the state in `view`.
    pub fn new(view: View) -> Self {
        Self(Readiness::new(view))
    }

    /// Returns this finder as a function that searches the state at each call.
    pub fn looking(self) -> impl Fn() -> BoxFuture<'static, Findings> {
        let finder = Arc::new(self);
        move || {
            let finder = Arc::clone(&finder);
            Box::pin(async move { finder.look().await })
        }
    }

    /// Returns the present findings. If the store does not return the backlogs, `Dead` and `Held` are
    /// unknown, and so is `Disk` if the room on its disk is.
    pub async fn look(&self) -> Findings {
        let view = &self.0.view;
        let (backlogs, verdict) = tokio::join!(view.backlogs(), self.0.intake());
        let (now, parts) = (view.clock.now(), view.parts());
        let mut findings = Findings::default();
        match backlogs {
            Ok(backlogs) => findings.all.extend(backlogs.iter().flat_map(of_backlog)),
            // There may be dead or held deliveries, although they cannot be counted.
            Err(_) => findings.unknown.extend([Kind::Dead, Kind::Held]),
        }
        findings.all.extend(parts.targets().iter().flat_map(of_target));
        findings.all.extend(view.streams().iter().flat_map(|stream| of_stream(stream, now)));
        findings.all.extend(view.operator.tally().sources.iter().filter_map(conflicts));
        match verdict.room {
            Room::Low(summary) => findings.all.push(finding(Kind::Disk, "", summary)),
            // It may be as full as before.
            Room::Unknown => findings.unknown.push(Kind::Disk),
            Room::Enough => {}
        }
        findings.all.extend(
            view.operator
                .quiet()
                .iter()
                .map(|quiet| finding(Kind::SourceQuiet, quiet.source.as_str(), in_words(quiet))),
        );
        findings
    }
}

fn finding(kind: Kind, name: &str, summary: String) -> Finding {
    Finding { kind, name: name.to_owned(), summary, occurrence: 0 }
}

fn of_backlog(backlog: &Backlog) -> Vec<Finding> {
    let Backlog { target, dead, held, .. } = backlog;
    let counted = |count: u64| format!("{count} {}", if count == 1 { "delivery" } else { "deliveries" });
    let mut found = Vec::new();
    if *dead > 0 {
        let summary = format!("{} to target {target} dead: retry or cancel", counted(*dead));
        found.push(finding(Kind::Dead, target, summary));
    }
    if *held > 0 {
        let summary =
            format!("{} to target {target} held, the outcome unknown: release or close", counted(*held));
        found.push(finding(Kind::Held, target, summary));
    }
    found
}

fn of_target(target: &TargetStatus) -> Vec<Finding> {
    let name = &target.name;
    let mut found = Vec::new();
    if let Some(rejecting) = &target.rejecting {
        let paused = if target.paused { "; it is paused" } else { "" };
        let summary = format!(
            "target {name} refuses everything, {} requests in a row: {}{paused}",
            rejecting.refusals, rejecting.error
        );
        found.push(finding(Kind::Rejecting, name, summary));
    }
    // While a target is paused, no probe shows whether it works again.
    if target.circuit != Circuit::Closed && !target.paused {
        let error = target.last_error.as_ref().map(|last| format!(": {}", last.error)).unwrap_or_default();
        found.push(finding(Kind::TargetDown, name, format!("target {name} is down{error}")));
    }
    found
}

fn of_stream(stream: &StreamStatus, now: UnixMillis) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(summary) = unusable(stream, now, true) {
        found.push(finding(Kind::StreamDown, &stream.name, summary));
    }
    if let GapStatus::Unproven { after, before, at } = &stream.gap {
        let to = before.as_ref().map(|before| format!(" and {before}")).unwrap_or_default();
        let name = &stream.name;
        let summary = format!(
            "stream {name} has a gap that Pepay can no longer fill: events after {after}{to} may be missing"
        );
        found.push(Finding { occurrence: at.0, ..finding(Kind::Gap, name, summary) });
    }
    found
}

fn conflicts(tally: &SourceTally) -> Option<Finding> {
    let (source, count) = (tally.source.as_str(), tally.conflicting);
    let summary = format!(
        "another event came under a known id by {source}, {count} since the start: it is kept, and not delivered"
    );
    let occurrence = i64::try_from(count).unwrap_or(i64::MAX);
    (count > 0).then(|| Finding { occurrence, ..finding(Kind::Conflict, source, summary) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::tests::{NOW, Shown};

    fn kinds(findings: &Findings) -> Vec<(Kind, &str)> {
        findings.all.iter().map(|finding| (finding.kind, &*finding.name)).collect()
    }

    #[tokio::test]
    async fn a_healthy_bridge_has_nothing_to_alert_of() {
        let mut shown = Shown::new().await;
        let findings = Finder::new(shown.view.clone()).look().await;
        assert_eq!(findings, Findings::default());
        shown.close().await;
    }

    #[tokio::test]
    async fn a_gap_and_a_stream_in_trouble_are_found() {
        let mut shown = Shown::new().await;
        shown.stream.send_modify(|stream| {
            stream.behind = true;
            let (after, before) = ("evt_1".to_owned(), Some("evt_9".to_owned()));
            stream.gap = GapStatus::Unproven { after, before, at: NOW };
        });
        let findings = Finder::new(shown.view.clone()).look().await;
        assert_eq!(kinds(&findings), [(Kind::StreamDown, "commerce"), (Kind::Gap, "commerce")]);
        assert!(findings.all[1].summary.contains("evt_1 and evt_9"), "{findings:?}");
        assert_eq!(findings.all[1].occurrence, NOW.0);
        shown.close().await;
    }

    #[tokio::test]
    async fn a_state_that_the_store_does_not_tell_is_unknown_and_not_resolved() {
        let mut shown = Shown::new().await;
        shown.view.operator.fail_reads().await;
        let findings = Finder::new(shown.view.clone()).look().await;
        let unknown = vec![Kind::Dead, Kind::Held, Kind::Disk];
        assert_eq!((findings.all, findings.unknown), (Vec::new(), unknown));
        shown.close().await;
    }
}
