//! Reports on the gaps of a stream.

use metrics::counter;
use tracing::warn;

use super::Report;
use crate::domain::event::EventId;
use crate::domain::status::GapStatus;
use crate::source::backfill::Hole;
use crate::telemetry::names;

impl Report {
    pub(super) fn unproven(&mut self, hole: &Hole) {
        let (after, after_created) = &hole.after;
        let (before, before_created) =
            hole.before.as_ref().map_or((None, None), |(id, created)| (Some(id.to_string()), Some(*created)));
        warn!(
            stream = &*self.name,
            after = %after,
            after_created,
            before,
            before_created,
            "Pepay no longer shows what lies between these events: some may be lost"
        );
        self.count_gap("unproven");
        self.hole_counted = true;
        self.hole = Some(GapStatus::Unproven { after: after.to_string(), before, at: self.clock.now() });
    }

    pub(super) fn hold_ended(&mut self, frames: usize, after: Option<EventId>) {
        let after = after.map(|id| id.to_string());
        warn!(
            stream = &*self.name,
            frames,
            after,
            "the list of events holds live events back no longer: they pass, and what may be missing after this one is not proven"
        );
        if !self.hole_counted {
            self.count_gap("unproven");
            self.hole_counted = true;
        }
        let passed_since = Some(self.clock.now());
        self.status.send_modify(|status| status.gap = GapStatus::Open { passed_since });
    }

    pub(super) fn count_gap(&self, outcome: &'static str) {
        counter!(names::STREAM_GAPS, "stream" => self.name.to_string(), "outcome" => outcome).increment(1);
    }
}

/// Returns whether `gap` stays in the status.
pub(super) const fn is_hole(gap: &GapStatus) -> bool {
    matches!(gap, GapStatus::Unproven { .. })
}
