//! Deliveries and events as the API returns them: the rows of the store, together with the state of the
//! running targets.

use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use crate::domain::next_try::{NextTry, Waiting};
use crate::domain::operator::{Mismatch, Routing};
use crate::store::view::{Conflict, DeliveryDetail, DeliverySummary, EventDetail, EventFacts, Sighting};

/// A delivery in a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListedDelivery {
    #[serde(flatten)]
    delivery: DeliverySummary,
    /// Why it waits; null if it is on the wire, or has ended.
    #[schema(required)]
    next_try: Option<NextTry>,
}

/// A delivery with its attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownDelivery {
    #[serde(flatten)]
    delivery: DeliveryDetail,
    /// Why it waits; null if it is on the wire, or has ended.
    #[schema(required)]
    next_try: Option<NextTry>,
    /// The key of its target's present configuration that leaves its event out: an operator has it sent
    /// all the same. Null if the target takes the event, or is not configured.
    #[schema(required)]
    mismatch: Option<Mismatch>,
}

impl ShownDelivery {
    /// Returns whether it goes to `target`.
    pub(super) fn goes_to(&self, target: &str) -> bool {
        *self.delivery.delivery.target == *target
    }
}

/// Everything about one event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ShownEvent {
    #[serde(flatten)]
    event: EventFacts,
    /// Its deliveries, by target.
    pub(super) deliveries: Vec<ShownDelivery>,
    /// Whether each configured target matches it, as the target is configured now; empty
    /// once the body has been removed.
    routing: Vec<Routing>,
    /// The first time each source brought it, in the order of time.
    sightings: Vec<Sighting>,
    /// The conflicts: events that came under its id with another content, in the order of time; at most
    /// 8 are kept.
    conflicts: Vec<Conflict>,
    /// The exact text that Pepay sent; null once removed.
    #[schema(required)]
    body: Option<String>,
    /// The SHA-256 of the body's bytes, in hexadecimal.
    #[schema(required)]
    body_sha256: Option<String>,
}

impl Api {
    /// `delivery` in a list.
    pub(super) fn listed(&self, delivery: DeliverySummary) -> ListedDelivery {
        ListedDelivery { next_try: self.next_try(&delivery), delivery }
    }

    fn shown(&self, delivery: DeliveryDetail, routing: &[Routing]) -> ShownDelivery {
        let mismatch = routing.iter().find(|routing| *routing.target == *delivery.delivery.target);
        let mismatch = mismatch.and_then(|routing| routing.mismatch);
        ShownDelivery { next_try: self.next_try(&delivery.delivery), mismatch, delivery }
    }

    /// `event` with its deliveries.
    pub(super) fn shown_event(&self, event: EventDetail) -> ShownEvent {
        let EventDetail { event, deliveries, sightings, conflicts, body, body_sha256 } = event;
        let route = |body: &String| self.operations.routing(&event.kind, event.environment, body.as_bytes());
        let routing = body.as_ref().map(route).unwrap_or_default();
        let deliveries = deliveries.into_iter().map(|delivery| self.shown(delivery, &routing)).collect();
        ShownEvent { event, deliveries, routing, sightings, conflicts, body, body_sha256 }
    }

    fn next_try(&self, delivery: &DeliverySummary) -> Option<NextTry> {
        let parts = self.view().parts();
        let target = parts.targets.iter().find(|target| target.borrow().name == delivery.target);
        let waiting = Waiting {
            state: delivery.state,
            tried: delivery.attempts > 0,
            due_at: delivery.due_at,
            behind: delivery.waits_for.as_deref(),
        };
        waiting.next_try(target.map(|target| target.borrow()).as_deref(), self.view().clock.now())
    }
}
