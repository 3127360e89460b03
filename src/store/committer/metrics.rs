//! Counts and logs single events. Each metric is looked up once. The number of log lines is
//! bounded, since senders decide how many events there are.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::sync::Arc;

use metrics::{Counter, Histogram, counter, histogram};

use crate::domain::clock::UnixMillis;
use crate::domain::delivery::Next;
use crate::domain::event::{EventType, Received, Source};
use crate::store::counts::Counters;
use crate::store::types::{Appended, Recorded};
use crate::telemetry::names;

/// The committer's metrics.
#[derive(Debug)]
pub(super) struct Meters {
    sources: [SourceMeters; Source::ALL.len()],
    counters: Arc<Counters>,
    nameless: Nameless,
    conflicts: Conflicts,
    /// The time that each commit took, in seconds.
    pub(super) commit: Histogram,
    /// The number of events of each group.
    pub(super) batch: Histogram,
}

#[derive(Debug)]
struct SourceMeters {
    received: Counter,
    unique: Counter,
    duplicate: Counter,
    conflicting: Counter,
    lag: Histogram,
}

impl Meters {
    pub(super) fn new(counters: Arc<Counters>) -> Self {
        let of = |source: Source| SourceMeters {
            received: counter!(names::EVENTS_RECEIVED, "source" => source.as_str()),
            unique: counter!(names::EVENTS_UNIQUE, "source" => source.as_str()),
            duplicate: counter!(names::EVENTS_DUPLICATE, "source" => source.as_str()),
            conflicting: counter!(names::EVENTS_CONFLICTING, "source" => source.as_str()),
            lag: histogram!(names::SOURCE_LAG, "source" => source.as_str()),
        };
        // A series that begins at its first event would hide that one from `increase()`.
        counter!(names::AUDIT_UNWRITTEN).increment(0);
        Self {
            sources: Source::ALL.map(of),
            counters,
            nameless: Nameless::new(),
            conflicts: Conflicts::default(),
            commit: histogram!(names::STORE_COMMIT),
            batch: histogram!(names::STORE_BATCH),
        }
    }

    /// Counts `event`, by the result of storing it.
    pub(super) fn count(&self, event: &Received, appended: &Appended) {
        let meters = &self.sources[event.source as usize];
        meters.received.increment(1);
        match appended.recorded {
            Recorded::New => meters.unique.increment(1),
            Recorded::Duplicate | Recorded::Conflict => meters.duplicate.increment(1),
        }
        if appended.recorded == Recorded::New && event.event.subject.object.is_none() {
            self.nameless.count(&event.event.kind);
        }
        if appended.news {
            meters.conflicting.increment(1);
            self.counters.count_conflict(event.source);
            self.conflicts.tell(event);
        }
        if let Some(lag) = appended.lag {
            meters.lag.record(lag);
        }
        self.counters.count(event.source, appended.recorded, event.received_at);
    }

    /// Counts an attempt at `target` that has ended, by the state that follows.
    pub(super) fn count_attempt(&self, target: &Arc<str>, next: Next) {
        match next {
            Next::Delivered => self.counters.count_delivered(target),
            Next::Retrying { .. } | Next::Held | Next::Dead => self.counters.count_failed(target),
        }
    }
}

/// The types that get a label of their own: those that Pepay documents.
const KNOWN: [&str; 7] = [
    "commerce.order.created",
    "commerce.order.updated",
    "invoice.created",
    "invoice.updated",
    "invoice_payment.created",
    "invoice_payment.updated",
    PING,
];

/// The label of every other type.
const OTHER: &str = "other";

/// The type of a test event of Pepay's dashboard. It names no object.
const PING: &str = "test.ping";

/// The largest number of types that are warned of.
const TYPES: usize = 64;

/// The shortest time between two lines about conflicts, in milliseconds.
const LOG_INTERVAL: u64 = 10_000;

/// Counts the events that name no object.
#[derive(Debug)]
pub(super) struct Nameless {
    told: RefCell<HashSet<EventType>>,
}

impl Nameless {
    fn new() -> Self {
        for label in KNOWN.into_iter().chain([OTHER]) {
            counter!(names::EVENTS_WITHOUT_OBJECT, "type" => label).increment(0);
        }
        Self { told: RefCell::default() }
    }

    /// Counts an event of type `kind` and warns of the first one of each type.
    pub(super) fn count(&self, kind: &EventType) {
        let label = KNOWN.into_iter().find(|known| *known == kind.as_str()).unwrap_or(OTHER);
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

/// Logs the events that came under the id of another one.
#[derive(Debug, Default)]
pub(super) struct Conflicts {
    /// When the last line was logged; `None` before the first.
    logged_at: Cell<Option<UnixMillis>>,
    /// The number of conflicts since that line.
    unlogged: Cell<u64>,
}

impl Conflicts {
    /// Logs `event` as a warning, unless the last line is more recent than [`LOG_INTERVAL`].
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
