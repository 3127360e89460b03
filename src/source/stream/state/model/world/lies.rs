//! A server that is wrong for once, and what holds all the same.

use super::*;

impl World {
    /// What a server that is wrong for once answers instead.
    pub(super) fn falsify(&self, lie: Lie, answer: Result<Page, Failure>) -> Result<Page, Failure> {
        let mut page = answer?;
        match lie {
            Lie::Empty => {
                (page.events, page.last, page.has_more) = (Vec::new(), None, false);
            }
            Lie::CutOff => page.has_more = false,
            Lie::Top => {
                let asked = self.listing.as_ref().unwrap().0.clone();
                let top = ListQuery { starting_after: None, ending_before: None, ..asked };
                return self.answer(&top);
            }
            Lie::Shuffled if self.ordered_ids => {
                page.events.reverse();
                page.last = page.events.last().map(|event| event.id.clone());
            }
            // Nothing shows the order of events of one second whose ids do not.
            Lie::Shuffled => {}
            Lie::OldOnTop if page.events.is_empty() => {}
            Lie::OldOnTop => {
                let id: EventId = "evt_odd".parse().unwrap();
                let odd = Event { id, created: 1, ..self.event(0) };
                page.events.insert(0, odd);
            }
            Lie::Unreadable => return Err(failure(FailureKind::Malformed)),
        }
        Ok(page)
    }

    /// Live frames leave within the bound, and so few requests are made that a rate
    /// limit would let them through.
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
