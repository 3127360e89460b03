//! The writer's metrics, looked up once.

use metrics::{Counter, Histogram, counter, histogram};

use crate::domain::event::Source;
use crate::store::inbox::Recorded;
use crate::telemetry::names;

/// The writer's metrics.
#[derive(Debug)]
pub(super) struct Meters {
    sources: [SourceMeters; Source::ALL.len()],
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
}

impl Meters {
    pub(super) fn new() -> Self {
        let of = |source: Source| SourceMeters {
            received: counter!(names::EVENTS_RECEIVED, "source" => source.as_str()),
            unique: counter!(names::EVENTS_UNIQUE, "source" => source.as_str()),
            duplicate: counter!(names::EVENTS_DUPLICATE, "source" => source.as_str()),
        };
        Self {
            sources: Source::ALL.map(of),
            commit: histogram!(names::STORE_COMMIT),
            batch: histogram!(names::STORE_BATCH),
        }
    }

    /// An event of `source` was read.
    pub(super) fn count(&self, source: Source, recorded: Recorded) {
        let meters = &self.sources[source as usize];
        meters.received.increment(1);
        match recorded {
            Recorded::New => meters.unique.increment(1),
            Recorded::Duplicate => meters.duplicate.increment(1),
        }
    }
}
