//! An event: a validated identity and the exact bytes.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::clock::UnixMillis;

/// Pepay's `event.id`: opaque, 1 to 255 bytes of visible ASCII.
///
/// It is the key of deduplication and is sent as `webhook-id`, so a value that could not be a header is
/// not valid.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Arc<str>);

/// Why a text is not an event id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event id is 1 to 255 bytes of visible ASCII")]
pub struct InvalidEventId;

impl EventId {
    /// Returns the id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns Pepay's order of creation, for ids of the form `evt_<unix ms>-<n>`.
    ///
    /// Usable to order events, never to identify them.
    pub fn creation_order(&self) -> Option<(u64, u64)> {
        let (millis, n) = self.0.strip_prefix("evt_")?.split_once('-')?;
        Some((millis.parse().ok()?, n.parse().ok()?))
    }

    /// Returns when Pepay created the event, in Unix seconds, by its
    /// [`creation_order`](Self::creation_order). `None` if the first part is not a time of these
    /// centuries in milliseconds, but a counter or a time in another unit.
    pub fn creation_time(&self) -> Option<i64> {
        let (millis, _) = self.creation_order()?;
        // 1973 to 2286: times in seconds and in microseconds lie outside.
        let seconds = (100_000_000_000..10_000_000_000_000).contains(&millis).then_some(millis / 1000)?;
        i64::try_from(seconds).ok()
    }
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        visible_ascii(text).then(|| Self(text.into())).ok_or(InvalidEventId)
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Pepay's `event.type`, such as `commerce.order.updated`: 1 to 255 bytes of
/// visible ASCII. New types may appear at any time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventType(Arc<str>);

/// Why a text is not an event type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event type is 1 to 255 bytes of visible ASCII")]
pub struct InvalidEventType;

impl EventType {
    /// Returns the type as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EventType {
    type Err = InvalidEventType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        visible_ascii(text).then(|| Self(text.into())).ok_or(InvalidEventType)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn visible_ascii(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One event, with the bytes exactly as Pepay sent them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The key of deduplication.
    pub id: EventId,
    /// The type, which filters match.
    pub kind: EventType,
    /// The object, order and invoice that it is about.
    pub subject: Subject,
    /// When Pepay created it, in Unix seconds: by the event itself, else by its id, else by its
    /// arrival.
    pub created: i64,
    /// The digest of its content, which differs for another event under the same id. `None` for an
    /// event that was not read from Pepay, or was stored by a version without digests.
    pub digest: Option<Digest>,
    /// The JSON, byte for byte.
    pub body: Bytes,
}

/// The things that an event is about, by its own fields. Ids are 1 to 255 bytes; not every event names
/// each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The order, invoice or payment itself, which is the unit of ordering.
    pub object: Option<Arc<str>>,
    /// The order that the object is or belongs to.
    pub order: Option<Arc<str>>,
    /// The invoice that the object is or belongs to.
    pub invoice: Option<Arc<str>>,
    /// The network environment.
    pub environment: Option<Environment>,
}

/// The beginning of a SHA-256 over the content of an event: type, creation time and data.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; Digest::LENGTH]);

impl Digest {
    /// The number of bytes that are kept.
    pub const LENGTH: usize = 16;
}

/// Lower-case hex.
impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

impl Event {
    /// The type of a made-up event.
    pub const TEST: &str = "pepay_bridge.test";

    /// Creates a test event at `now`. It has Pepay's shape, and an id that Pepay's events cannot have.
    pub fn made_up(now: UnixMillis) -> Self {
        let (id, kind, created) = (format!("evt_test_{}", now.0), Self::TEST, now.seconds());
        let body = format!(
            r#"{{"id":"{id}","object":"event","created":{created},"type":"{kind}","livemode":false,"data":{{"object":{{"object":"pepay_bridge_test","id":"{id}"}}}}}}"#
        );
        Self {
            subject: Subject { object: Some(id.as_str().into()), ..Subject::default() },
            id: EventId(id.into()),
            kind: EventType(kind.into()),
            created,
            digest: None,
            body: Bytes::from(body),
        }
    }
}

/// An event that has reached the bridge, with its source and time of arrival.
#[derive(Clone, Debug)]
pub struct Received {
    /// The event itself.
    pub event: Event,
    /// The source it came by.
    pub source: Source,
    /// The configured name of the stream or webhook endpoint it came through.
    pub origin: Arc<str>,
    /// Pepay's network environment, when known.
    pub environment: Option<Environment>,
    /// When its last byte had arrived.
    pub received_at: UnixMillis,
}

/// The source an event came by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The WebSocket stream, live or replayed by the server.
    Stream,
    /// A signed webhook.
    Webhook,
    /// The REST list, read to close a gap of a stream.
    Backfill,
    /// The REST list, read to check the stream and the webhooks.
    Reconcile,
}

impl Source {
    /// Every source, in the order of the documentation.
    pub const ALL: [Self; 4] = [Self::Stream, Self::Webhook, Self::Backfill, Self::Reconcile];

    /// Returns the name in metrics, headers and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Webhook => "webhook",
            Self::Backfill => "backfill",
            Self::Reconcile => "reconcile",
        }
    }
}

/// Why a text is not a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no source; allowed are `stream`, `webhook`, `backfill` and `reconcile`")]
pub struct UnknownSource(pub String);

impl FromStr for Source {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.into_iter().find(|source| source.as_str() == text);
        known.ok_or_else(|| UnknownSource(text.to_owned()))
    }
}

/// Pepay's network environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    /// The test network.
    Devnet,
    /// The real network.
    Mainnet,
}

impl Environment {
    /// Returns the name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Devnet => "devnet",
            Self::Mainnet => "mainnet",
        }
    }
}

/// Why a text is not an environment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no environment; allowed are `devnet` and `mainnet`")]
pub struct InvalidEnvironment(pub String);

impl FromStr for Environment {
    type Err = InvalidEnvironment;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "devnet" => Ok(Self::Devnet),
            "mainnet" => Ok(Self::Mainnet),
            _ => Err(InvalidEnvironment(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_visible_ascii_of_bounded_length() {
        for good in ["e", "evt_1734780000000-123", "evt_example", &"x".repeat(255)] {
            assert_eq!(good.parse::<EventId>().unwrap().as_str(), good);
        }
        for bad in ["", " ", "evt 1", "evt\n", "évt", "evt_\u{7f}", &"x".repeat(256)] {
            assert_eq!(bad.parse::<EventId>(), Err(InvalidEventId), "{bad:?}");
        }
    }

    #[test]
    fn the_creation_order_is_read_where_both_parts_parse() {
        let order = |text: &str| text.parse::<EventId>().unwrap().creation_order();
        assert_eq!(order("evt_1734780000000-123"), Some((1_734_780_000_000, 123)));
        assert!(order("evt_1734780000000-9") < order("evt_1734780000000-10"));
        for opaque in ["evt_123", "evt_example", "evt_12-x", "12-3", "evt_-1"] {
            assert_eq!(order(opaque), None, "{opaque}");
        }
        let time = |text: &str| text.parse::<EventId>().unwrap().creation_time();
        assert_eq!(time("evt_1734780000999-9"), Some(1_734_780_000));
        for other in ["evt_123", "evt_100045-2", "evt_1734780000-1", "evt_1734780000000000-1"] {
            assert_eq!(time(other), None, "{other}");
        }
    }
}
