//! A server that is wrong once.

use super::*;

impl World {
    /// Returns the answer with the fault `lie`.
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
                return self.answer(&top, self.listing.as_ref().unwrap().1);
            }
            Lie::Shuffled if self.ordered_ids => {
                page.events.reverse();
                page.last = page.events.last().map(|event| event.id.clone());
            }
            // The order of events of one second is not known if their ids do not show it.
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
}
