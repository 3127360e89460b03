//! The handle of the sources. An event, its deliveries and the cursor that it moves are written in
//! one transaction, and the call returns only after the commit.

use std::sync::Arc;

use tokio::sync::watch;

use super::committer::{Append, Group, PART, Tasks, stopped};
use super::engine::EngineError;
use super::engine::read::Reader;
use super::error::{ReadError, RecordError};
use super::identity::{self, OtherIdentity};
use super::lease::{self, Lease, Leases};
use super::types::{Batch, Held, Recorded, Resume};
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::event::{Digest, EventId, EventType, Received, Source};
use crate::telemetry::traces;

pub use super::identity::{ClaimError, SourceIdentity};

/// Why a batch was not recorded, or not all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{error}")]
pub struct BatchError {
    /// What became of the first events of the batch, which are stored. The events after them are not,
    /// as far as is known, and the cursor was not moved.
    pub stored: Vec<Recorded>,
    /// Why the rest was not recorded.
    pub error: RecordError,
}

/// The handle of the sources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Inbox {
    pub(super) tasks: Tasks,
    pub(super) reader: Reader,
    pub(super) leases: Leases,
    /// The clock that dates stored rows.
    pub(super) clock: Clock,
    /// The last source that was refused because it belongs to another account.
    pub(super) refusing: watch::Sender<Option<Box<OtherIdentity>>>,
}

impl Inbox {
    /// Stores the account that Pepay names for a source that the store knows.
    ///
    /// # Errors
    /// [`ClaimError::Other`] if it is not the account that is stored for the source; then nothing
    /// has changed.
    pub async fn identify(&self, found: SourceIdentity) -> Result<(), ClaimError> {
        let note = move |group: &mut Group<'_>| {
            let mut stored = group.engine.identities()?;
            stored.retain(|stored| stored.source == found.source);
            note_identities(group, &stored, std::slice::from_ref(&found))
        };
        self.tasks.write(note).await?.map_err(|other| {
            self.refusing.send_replace(Some(other.clone()));
            other.into()
        })
    }

    /// Asks for the lease of the stream `name`, which one process at a time reads.
    pub fn stream_lease(&self, name: &str) -> Lease {
        self.leases.want(lease::of_stream(name))
    }

    /// Records `batch`, and waits for room in the committer's queue: for a source that can slow
    /// down. Returns one value for each event, in their order. A large batch is recorded in several
    /// transactions, in the order of the events; the cursor moves with the last one.
    ///
    /// # Errors
    /// [`BatchError`]; then the caller may record the same batch again, without the events that are
    /// stored: those would be counted as repeats.
    pub async fn record(&self, batch: Batch) -> Result<Vec<Recorded>, BatchError> {
        let (traced, mut recorded) = (Traced::new(&batch.events), Vec::with_capacity(batch.events.len()));
        let outcome = self.record_in_parts(batch, &mut recorded).await;
        Traced::stored(traced, &recorded);
        match outcome {
            Ok(()) => Ok(recorded),
            Err(error) => Err(BatchError { stored: recorded, error }),
        }
    }

    /// Adds to `recorded` what became of the events of each part, once it is stored.
    async fn record_in_parts(&self, batch: Batch, recorded: &mut Vec<Recorded>) -> Result<(), RecordError> {
        let Batch { events, mut cursor } = batch;
        let mut rest = events.into_iter();
        loop {
            let events = rest.by_ref().take(PART).map(|event| self.dated(event)).collect();
            let is_last = rest.len() == 0;
            let part = Batch { events, cursor: cursor.take_if(|_| is_last) };
            recorded.extend(self.tasks.put(|reply| Append::boxed(part, reply)).await?);
            if is_last {
                return Ok(());
            }
        }
    }

    /// Records one event, or fails at once if the queue is full: for a source whose sender can
    /// repeat the event.
    ///
    /// # Errors
    /// [`RecordError`]; then the event was not stored.
    pub async fn try_record(&self, event: Received) -> Result<Recorded, RecordError> {
        let traced = Traced::new(std::slice::from_ref(&event));
        let batch = Batch { events: vec![self.dated(event)], cursor: None };
        let recorded = self.tasks.try_put(|reply| Append::boxed(batch, reply)).await;
        Traced::stored(traced, recorded.as_deref().unwrap_or_default());
        recorded?.first().copied().ok_or_else(stopped)
    }

    /// Returns `event` with the time of its arrival by the clock of the store.
    fn dated(&self, event: Received) -> Received {
        Received { received_at: self.clock.corrected(event.received_at), ..event }
    }

    /// Returns the stored position of `stream`; `None` if the stream has never been started.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn resume(&self, stream: &str) -> Result<Option<Resume>, ReadError> {
        self.reader.resume(stream).await
    }

    /// Compares `events`, given as ids and digests, with the store. Returns one value for each, in
    /// their order. Recording an event that is [`Held::Different`] stores it as a conflict.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn compare(&self, events: &[(EventId, Option<Digest>)]) -> Result<Vec<Held>, ReadError> {
        self.reader.compare(events).await
    }
}

/// Stores the identities in `found` that differ from the `stored` ones. Stores nothing, and returns the two
/// identities, if one of them belongs to another account.
pub(super) fn note_identities(
    group: &mut Group<'_>,
    stored: &[SourceIdentity],
    found: &[SourceIdentity],
) -> Result<Result<(), Box<OtherIdentity>>, EngineError> {
    let changed = match identity::reconcile(stored, found) {
        Ok(changed) => changed,
        Err(other) => return Ok(Err(other)),
    };
    for identity in changed {
        group.engine.identify(&identity, group.context.now)?;
    }
    Ok(Ok(()))
}

/// The events of a batch for their traces, which are written once the events are stored.
struct Traced(Vec<TracedEvent>);

struct TracedEvent {
    id: EventId,
    kind: EventType,
    source: Source,
    origin: Arc<str>,
    received_at: UnixMillis,
}

impl Traced {
    /// Returns `None` if traces are off.
    fn new(events: &[Received]) -> Option<Self> {
        let traced = |received: &Received| TracedEvent {
            id: received.event.id.clone(),
            kind: received.event.kind.clone(),
            source: received.source,
            origin: Arc::clone(&received.origin),
            received_at: received.received_at,
        };
        traces::on().then(|| Self(events.iter().map(traced).collect()))
    }

    /// Adds the first of `traced`, which are stored, to the traces of their events.
    fn stored(traced: Option<Self>, recorded: &[Recorded]) {
        let Some(Self(events)) = traced else { return };
        for (event, recorded) in events.iter().zip(recorded) {
            let event_id = event.id.as_str();
            let Some(trace) = traces::of(event_id) else { return };
            trace.received(&traces::Sighting {
                event_id,
                kind: event.kind.as_str(),
                source: event.source.as_str(),
                origin: &event.origin,
                duplicate: *recorded != Recorded::New,
                arrived: event.received_at.into(),
            });
        }
    }
}
