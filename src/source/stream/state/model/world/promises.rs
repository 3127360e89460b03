//! The promises that are checked at every commit and at every step.

use super::*;

impl World {
    /// Stores a batch and checks the promises of the machine.
    pub(super) fn commit(
        &mut self,
        events: &[Received],
        cursor: Option<Position>,
        history: Option<String>,
    ) -> Vec<Recorded> {
        let mut results = Vec::new();
        for received in events {
            if received.event.id.as_str() == "evt_odd" {
                assert!(self.start_from == StartFrom::Earliest, "an event of long ago is taken in");
                results.push(Recorded::New);
                continue;
            }
            let index = Self::index(&received.event.id);
            assert!(self.may_be_brought(index), "{index} is taken in under {:?}", self.subscribed);
            // Events of a backfill by an operator may be older.
            let is_asked = received.source == Source::Backfill && cursor.is_none();
            if self.start_from == StartFrom::Now && !is_asked {
                let floor = START.seconds() - 300;
                assert!(received.event.created >= floor, "{index} was created before the first start");
            }
            // Only frames that pass an open gap may break the order.
            let passed = received.source == Source::Stream && self.machine.gap.is_passed();
            if received.source != Source::Reconcile && !self.lossy && !passed {
                self.check_order(index, received.source);
            }
            let new = self.stored.insert(index);
            results.push(if new { Recorded::New } else { Recorded::Duplicate });
        }
        if let Some(cursor) = cursor {
            self.history = history.or(self.history.take());
            let reached = cursor.event.as_ref().map(Self::index);
            // Without an event in its cursor, the stream has to bring events created from its
            // beginning on.
            let by_time = self.log.iter().position(|logged| logged.created >= cursor.created);
            let by_time = by_time.unwrap_or(self.log.len());
            let mut first = *self.first.get_or_insert(reached.map_or(by_time, |index| index + 1));
            if self.cursor.as_ref().is_some_and(|cursor| cursor.event.is_none()) {
                // An empty account and one that has forgotten everything look the same.
                first = first.max(self.forgotten);
                self.first = Some(first);
            }
            if let Some(reached) = reached
                && !self.lossy
            {
                for index in first..=reached {
                    assert!(
                        self.stored.contains(&index)
                            || !self.has_to_be_brought(index)
                            || (index < self.forgotten && (self.holes > 0 || self.has_resubscribed())),
                        "the cursor stands at {reached} and {index} is not stored"
                    );
                }
            }
            self.cursor = Some(cursor);
        }
        results
    }

    /// Checks that no earlier event of the same object is missing.
    pub(super) fn check_order(&self, index: usize, source: Source) {
        let first = self.first.unwrap_or(0).max(self.forgotten);
        for earlier in first..index {
            assert!(
                !self.is_about_the_same(earlier, index)
                    || !self.has_to_be_brought(earlier)
                    || self.stored.contains(&earlier),
                "{index} is handed over by {source:?} before {earlier} of the same object, {:?}",
                self.machine.gap
            );
        }
    }

    /// Checks that live frames leave within the bound, and that the requests stay within the rate
    /// limit.
    pub(super) fn check_bounds(&mut self) {
        if self.machine.held.is_empty() {
            self.held_since = None;
        } else {
            let since = *self.held_since.get_or_insert(self.now.at);
            let longest = settings().hold_limit * 10 + Duration::from_secs(21);
            assert!(self.now.at.saturating_sub(since) <= longest, "frames are held for ever");
        }
        let allowed = 21 + u32::try_from(self.now.at.as_millis() / 100).unwrap();
        assert!(self.requests <= allowed, "{} requests in {:?}", self.requests, self.now.at);
    }
}
