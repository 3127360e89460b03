//! What a trace shows of events on their way into the store.

use std::sync::Arc;

use super::inbox::{RecordError, Recorded};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{EventId, EventType, Received, Source};
use crate::telemetry::traces;

/// Events that have been handed to the writer, to be told of once they are stored.
pub(super) struct Traced(Vec<Sighting>);

struct Sighting {
    id: EventId,
    kind: EventType,
    source: Source,
    origin: Arc<str>,
    received_at: UnixMillis,
}

impl Traced {
    /// `None` where nothing is traced, which is where this costs nothing.
    pub(super) fn new(events: &[Received]) -> Option<Self> {
        let sighting = |received: &Received| Sighting {
            id: received.event.id.clone(),
            kind: received.event.kind.clone(),
            source: received.source,
            origin: Arc::clone(&received.origin),
            received_at: received.received_at,
        };
        traces::on().then(|| Self(events.iter().map(sighting).collect()))
    }

    /// Tells of `traced`, unless storing it has failed.
    pub(super) fn stored(traced: Option<Self>, recorded: &Result<Vec<Recorded>, RecordError>) {
        let (Some(Self(sightings)), Ok(recorded)) = (traced, recorded) else { return };
        for (sighting, recorded) in sightings.iter().zip(recorded) {
            let event_id = sighting.id.as_str();
            let Some(trace) = traces::of(event_id) else { return };
            trace.received(&traces::Sighting {
                event_id,
                kind: sighting.kind.as_str(),
                source: sighting.source.as_str(),
                origin: &sighting.origin,
                duplicate: *recorded != Recorded::New,
                arrived: sighting.received_at.into(),
            });
        }
    }
}
