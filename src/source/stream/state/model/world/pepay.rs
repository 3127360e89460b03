//! Pepay in the model: its events, its list and its connections.

use super::*;
use crate::pepay::envelope;

impl World {
    pub(super) fn id(&self, index: usize) -> EventId {
        let text = if self.ordered_ids {
            format!("evt_{}-{index}", self.log[index].created * 1000)
        } else {
            // The ids are scrambled, so that their order as text is not that of creation.
            format!("{:x}x{index}", (index * 2_654_435_761) % 65_521)
        };
        text.parse().unwrap()
    }

    pub(super) fn index(id: &EventId) -> usize {
        id.as_str().rsplit(['-', 'x']).next().unwrap().parse().unwrap()
    }

    pub(super) fn event(&self, index: usize) -> Event {
        let Logged { order, kind, created } = self.log[index];
        // Both documented forms of an order, and an invoice with and without its order.
        let (kind, object) = match (kind, Self::is_whole(index)) {
            (Kind::Order, true) => ("commerce.order.updated", format!(r#""id":"order_{order}""#)),
            (Kind::Order, false) => ("commerce.order.updated", format!(r#""order_id":"order_{order}""#)),
            (Kind::Invoice, true) => {
                ("invoice.updated", format!(r#""id":"invoice_{order}","commerce_order_id":"order_{order}""#))
            }
            (Kind::Invoice, false) => ("invoice.updated", format!(r#""id":"invoice_{order}""#)),
        };
        let id = self.id(index);
        let body = format!(
            r#"{{"id":"{id}","object":"event","type":"{kind}","created":{created},"data":{{"object":{{{object}}}}}}}"#
        );
        envelope::parse(body.into(), self.now.wall).unwrap()
    }

    pub(super) fn create(&mut self, order: u8, kind: Kind) {
        let index = self.log.len();
        self.log.push(Logged { order, kind, created: self.now.wall.seconds() });
        let is_subscribed = self.is_admitted(index, self.connected_for);
        if let Some(wire) = self.wire.as_mut().filter(|_| is_subscribed) {
            wire.push_back(index);
        }
    }

    pub(super) fn connect(&mut self, replay: Replay) {
        let Some(since) = self.connecting.take() else { return };
        let after = since.as_ref().map_or(self.log.len(), |id| Self::index(id) + 1);
        if after > 0 && after - 1 < self.forgotten && since.is_some() && matches!(replay, Replay::Full) {
            self.machine.connect_failed(self.now, ConnectStep::Upgrade, &failure(FailureKind::Rejected));
            return;
        }
        self.connected_for = self.subscribed;
        let missed: Vec<_> = (after.max(self.forgotten)..self.log.len())
            .filter(|index| self.is_admitted(*index, self.connected_for))
            .collect();
        let wire = match replay {
            Replay::Full => missed,
            Replay::First(count) => missed.into_iter().take(count.into()).collect(),
            Replay::Last(count) => {
                let skipped = missed.len().saturating_sub(count.into());
                missed.into_iter().skip(skipped).collect()
            }
            Replay::Nothing => Vec::new(),
        };
        self.wire = Some(wire.into());
        self.machine.opened(self.now);
    }

    pub(super) fn answer(&self, query: &ListQuery, narrowing: Narrowing) -> Result<Page, Failure> {
        let place = |id: &Option<EventId>| match id.as_ref().map(Self::index) {
            Some(index) if index < self.forgotten => Err(failure(FailureKind::Rejected)),
            place => Ok(place),
        };
        let below = place(&query.starting_after)?.unwrap_or(self.log.len());
        let above = place(&query.ending_before)?;
        if above.is_some() && self.newer == Newer::Refused {
            return Err(failure(FailureKind::Rejected));
        }
        let from = above.map_or(self.forgotten, |index| index + 1);
        let listed = |index: &usize| {
            let is_of_type = narrowing == Narrowing::Bare || self.is_listed(*index);
            let created = self.log[*index].created;
            // One form of the list ignores the upper bound.
            let until = query.created_lte.filter(|_| self.newer != Newer::Refused);
            is_of_type
                && query.created_gte.is_none_or(|bound| created >= bound)
                && until.is_none_or(|bound| created <= bound)
        };
        let mut all: Vec<_> = (from..below).rev().filter(listed).collect();
        let (count, limit) = (all.len(), PAGE.min(query.limit.into()));
        if above.is_some() && self.newer == Newer::NextToCursor {
            all.drain(..count.saturating_sub(limit));
        }
        let events: Vec<_> = all.iter().take(limit).map(|index| self.event(*index)).collect();
        let (last, has_more) = (events.last().map(|event| event.id.clone()), events.len() < count);
        let (received_at, server_time) = (self.now.wall, Some(self.now.wall));
        Ok(Page { events, last, has_more, skipped: None, received_at, server_time })
    }

    /// Returns the answer with the fault `fault`.
    pub(super) fn with_fault(
        &self,
        fault: PageFault,
        answer: Result<Page, Failure>,
    ) -> Result<Page, Failure> {
        let mut page = answer?;
        match fault {
            PageFault::Empty => {
                (page.events, page.last, page.has_more) = (Vec::new(), None, false);
            }
            PageFault::CutOff => page.has_more = false,
            PageFault::Top => {
                let asked = self.listing.as_ref().unwrap().0.clone();
                let top = ListQuery { starting_after: None, ending_before: None, ..asked };
                return self.answer(&top, self.listing.as_ref().unwrap().1);
            }
            PageFault::Shuffled if self.ordered_ids => {
                page.events.reverse();
                page.last = page.events.last().map(|event| event.id.clone());
            }
            // The order of events of one second is not known if their ids do not show it.
            PageFault::Shuffled => {}
            PageFault::OldOnTop if page.events.is_empty() => {}
            PageFault::OldOnTop => {
                let id: EventId = "evt_odd".parse().unwrap();
                let odd = Event { id, created: 1, ..self.event(0) };
                page.events.insert(0, odd);
            }
            PageFault::Unreadable => return Err(failure(FailureKind::Malformed)),
        }
        Ok(page)
    }
}
