//! The writer's metrics, looked up once.

use std::sync::Arc;

use metrics::{Counter, Histogram, counter, histogram};

use super::notices::{Conflicts, Nameless};
use super::record::Written;
use crate::domain::delivery::Next;
use crate::domain::event::{Received, Source};
use crate::store::counts::Counters;
use crate::store::types::Recorded;
use crate::telemetry::names;

/// The writer's metrics.
#[derive(Debug)]
pub(super) struct Meters {
    sources: [SourceMeters; Source::ALL.len()],
    counters: Arc<Counters>,
    nameless: Nameless,
    conflicts: Conflicts,
    /// How long commits took.
    pub(super) commit: Histogram,
    /// How many events they held.
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
        Self {
            sources: Source::ALL.map(of),
            counters,
            nameless: Nameless::default(),
            conflicts: Conflicts::default(),
            commit: histogram!(names::STORE_COMMIT),
            batch: histogram!(names::STORE_BATCH),
        }
    }

    /// `event` was read, and `written` is what became of it.
    pub(super) fn count(&self, event: &Received, written: &Written) {
        let meters = &self.sources[event.source as usize];
        meters.received.increment(1);
        match written.recorded {
            Recorded::New => meters.unique.increment(1),
            Recorded::Duplicate | Recorded::Conflict => meters.duplicate.increment(1),
        }
        if written.recorded == Recorded::New && event.event.subject.object.is_none() {
            self.nameless.count(&event.event.kind);
        }
        if written.news {
            meters.conflicting.increment(1);
            self.conflicts.tell(event);
        }
        if let Some(lag) = written.lag {
            meters.lag.record(lag);
        }
        self.counters.count(event.source, written.recorded, event.received_at);
    }

    /// An attempt at `target` has ended, and this follows.
    pub(super) fn count_attempt(&self, target: &Arc<str>, next: Next) {
        if next == Next::Delivered {
            self.counters.count_delivered(target);
        }
    }
}
