//! What is said of single events, within bounds: others decide how many there are.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use metrics::counter;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{EventType, Received};
use crate::telemetry::names;

/// Types that get a label of their own: those that Pepay documents.
const KNOWN: [&str; 7] = [
    "commerce.order.created",
    "commerce.order.updated",
    "invoice.created",
    "invoice.updated",
    "invoice_payment.created",
    "invoice_payment.updated",
    PING,
];

/// A test of Pepay's dashboard, which names nothing.
const PING: &str = "test.ping";

/// Types that are warned of, at most.
const TYPES: usize = 64;

/// At most one line in this time, in milliseconds.
const LOG_INTERVAL: u64 = 10_000;

/// Events that name no object.
#[derive(Debug, Default)]
pub(super) struct Nameless {
    told: RefCell<HashSet<EventType>>,
}

impl Nameless {
    /// Counts an event of type `kind` and warns of the first one of each type.
    pub(super) fn count(&self, kind: &EventType) {
        let label = KNOWN.into_iter().find(|known| *known == kind.as_str()).unwrap_or("other");
        counter!(names::EVENTS_WITHOUT_OBJECT, "type" => label).increment(1);
        let mut told = self.told.borrow_mut();
        if label != PING && told.len() < TYPES && told.insert(kind.clone()) {
            tracing::warn!(
                %kind,
                "an event names no order, invoice or payment, so it has no place in an order and is found by its id \
                 alone; further ones of this type are counted in {}",
                names::EVENTS_WITHOUT_OBJECT
            );
        }
    }
}

/// Events that came under the id of another one.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// When the last line was logged; `None` for never.
    logged_at: Cell<Option<UnixMillis>>,
    /// Conflicts since that line.
    unlogged: Cell<u64>,
}

impl Conflicts {
    /// Warns of `event`, unless another one was warned of a moment ago.
    pub(super) fn tell(&self, event: &Received) {
        let now = event.received_at;
        if self.logged_at.get().is_some_and(|at| now.0.abs_diff(at.0) < LOG_INTERVAL) {
            self.unlogged.set(self.unlogged.get() + 1);
            return;
        }
        self.logged_at.set(Some(now));
        let Received { event, source, origin, .. } = event;
        tracing::warn!(
            event_id = %event.id, kind = %event.kind, source = source.as_str(), %origin,
            unlogged = self.unlogged.take(),
            "conflict: another event is held under this id; this one is kept beside it and not delivered"
        );
    }
}
