//! The columns of an event's row, before they are checked.

use bytes::Bytes;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{Environment, Event, Received, Source, Subject};

/// The columns that an event is rebuilt from.
pub(super) struct EventRow {
    pub(super) id: String,
    pub(super) kind: String,
    pub(super) object_id: Option<String>,
    pub(super) created: i64,
    pub(super) source: String,
    pub(super) origin: String,
    pub(super) environment: Option<String>,
    pub(super) received_at: i64,
    pub(super) body: Option<Vec<u8>>,
}

/// A column has a value that no version up to this one writes.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("column event.{0} holds a value this version does not know")]
struct UnknownValue(&'static str);

impl EventRow {
    /// Returns the event of `sequence`. An event that this version cannot read is logged and left
    /// for a later version, which may know the value.
    pub(super) fn readable(self, sequence: i64) -> Option<Received> {
        self.into_received()
            .inspect_err(|error| {
                tracing::error!(%error, sequence, "a stored event cannot be read and is passed over");
            })
            .ok()
    }

    fn into_received(self) -> Result<Received, UnknownValue> {
        let environment = self
            .environment
            .map(|name| name.parse::<Environment>().map_err(|_| UnknownValue("environment")))
            .transpose()?;
        let source = Source::ALL.into_iter().find(|known| known.as_str() == self.source);
        Ok(Received {
            event: Event {
                id: self.id.parse().map_err(|_| UnknownValue("id"))?,
                kind: self.kind.parse().map_err(|_| UnknownValue("type"))?,
                subject: Subject {
                    object: self.object_id.map(Into::into),
                    environment,
                    ..Subject::default()
                },
                created: self.created,
                digest: None,
                body: Bytes::from(self.body.ok_or(UnknownValue("body"))?),
            },
            source: source.ok_or(UnknownValue("source"))?,
            origin: self.origin.into(),
            environment,
            received_at: UnixMillis(self.received_at),
        })
    }
}
