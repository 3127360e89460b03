//! The journal: every event of the account in the order of publication, and between them the acts of
//! open streams. Each stream and the webhook sender follow it with a position; the REST list and
//! replays read the events alone.

mod page;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use tokio::sync::watch;

pub(super) use self::page::{Cursor, Page, PageRequest};
use super::fault::Act;
use super::lock;
use super::options::Copies;
use super::selection::{Facts, Selection};
use crate::domain::clock::UnixMillis;
use crate::domain::event::{Event, EventId};

/// The number of acts that are kept beside the events for streams that lag behind.
const KEPT_ACTS: usize = 1024;

/// Why an event was not published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The account still holds an event of this id.
    #[error("an event `{0}` has been published already")]
    Known(EventId),
    /// It cannot be a text frame.
    #[error("the event is not UTF-8")]
    Encoding,
}

/// A published event.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) event: Event,
    pub(super) facts: Facts,
    pub(super) copies: Copies,
    published_at: UnixMillis,
    pub(super) sent: Sent,
}

/// How many times an event was sent.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) frames: AtomicU64,
    pub(super) webhook_attempts: AtomicU64,
    pub(super) webhooks_acknowledged: AtomicU64,
    pub(super) listed: AtomicU64,
}

/// How many times one event was sent, by channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LedgerRow {
    /// The event's id.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The order, invoice or payment it is about.
    pub object_id: Option<String>,
    /// When it was published.
    pub published_at: UnixMillis,
    /// Frames sent with it, over all streams.
    pub frames: u64,
    /// Webhook tries made for it.
    pub webhook_attempts: u64,
    /// Webhooks with it that were answered with a 2xx.
    pub webhooks_acknowledged: u64,
    /// Times it was in a page of the REST list, or asked for by its id.
    pub listed: u64,
}

impl Entry {
    pub(super) fn new(event: Event, facts: Facts, copies: Copies, published_at: UnixMillis) -> Self {
        Self { facts, event, copies, published_at, sent: Sent::default() }
    }

    /// Returns the body for a text frame; the bytes are shared. `None` if it is not UTF-8, which a
    /// parsed event always is.
    pub(super) fn text(&self) -> Option<Utf8Bytes> {
        self.event.body.clone().try_into().ok()
    }

    fn row(&self) -> LedgerRow {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LedgerRow {
            id: self.event.id.to_string(),
            kind: self.event.kind.to_string(),
            object_id: self.facts.object_id().map(str::to_owned),
            published_at: self.published_at,
            frames: count(&self.sent.frames),
            webhook_attempts: count(&self.sent.webhook_attempts),
            webhooks_acknowledged: count(&self.sent.webhooks_acknowledged),
            listed: count(&self.sent.listed),
        }
    }
}

/// The item at one position.
#[derive(Clone, Debug)]
pub(super) enum Item {
    Event(Arc<Entry>),
    Act(Act),
}

/// Items read from a position on.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) items: Vec<Item>,
    /// Where the next read begins.
    pub(super) next: u64,
    /// The number of items that were dropped already.
    pub(super) lost: u64,
}

/// The beginning of a new stream.
#[derive(Debug)]
pub(super) struct Opening {
    /// The events to send before live ones, oldest first.
    pub(super) replay: Vec<Arc<Entry>>,
    /// Whether `since` was older than the oldest replayed event.
    pub(super) too_old: bool,
    /// The position from which on events are live.
    pub(super) live_from: u64,
}

#[derive(Debug)]
pub(super) struct Journal {
    rings: Mutex<Rings>,
    /// The position after the last item; a change wakes the followers.
    end: watch::Sender<u64>,
    /// The number of events that are kept.
    capacity: usize,
}

#[derive(Debug, Default)]
struct Rings {
    items: VecDeque<Item>,
    /// The position of `items[0]`.
    first_item: u64,
    events: VecDeque<Arc<Entry>>,
    /// The number of events that were dropped from `events`.
    first_event: usize,
    /// The number of each kept event, counted from the first ever.
    numbers: HashMap<EventId, usize>,
}

impl Journal {
    /// Creates an empty journal that keeps the newest `capacity` events.
    pub(super) fn new(capacity: usize) -> Self {
        Self { rings: Mutex::default(), end: watch::Sender::new(0), capacity: capacity.max(1) }
    }

    /// Appends an event and returns the position after it.
    pub(super) fn push(&self, entry: Entry) -> Result<u64, PublishError> {
        if std::str::from_utf8(&entry.event.body).is_err() {
            return Err(PublishError::Encoding);
        }
        let mut rings = lock(&self.rings);
        if rings.numbers.contains_key(&entry.event.id) {
            return Err(PublishError::Known(entry.event.id));
        }
        let entry = Arc::new(entry);
        let number = rings.first_event + rings.events.len();
        rings.numbers.insert(entry.event.id.clone(), number);
        rings.events.push_back(Arc::clone(&entry));
        if rings.events.len() > self.capacity
            && let Some(oldest) = rings.events.pop_front()
        {
            rings.first_event += 1;
            rings.numbers.remove(&oldest.event.id);
        }
        Ok(self.append(&mut rings, Item::Event(entry)))
    }

    /// Appends an act of the streams and returns the position after it.
    pub(super) fn push_act(&self, act: Act) -> u64 {
        self.append(&mut lock(&self.rings), Item::Act(act))
    }

    /// Announces the new end under the lock, so that ends are announced in order.
    fn append(&self, rings: &mut Rings, item: Item) -> u64 {
        rings.items.push_back(item);
        if rings.items.len() > self.capacity + KEPT_ACTS {
            rings.items.pop_front();
            rings.first_item += 1;
        }
        let end = rings.end();
        self.end.send_replace(end);
        end
    }

    /// Returns the end of the journal, which changes with each item.
    pub(super) fn follow(&self) -> watch::Receiver<u64> {
        self.end.subscribe()
    }

    /// Returns at most `limit` items from position `from` on.
    pub(super) fn read(&self, from: u64, limit: usize) -> Batch {
        let rings = lock(&self.rings);
        let start = from.max(rings.first_item);
        let length = rings.items.len();
        let begin = usize::try_from(start - rings.first_item).map_or(length, |begin| begin.min(length));
        let end = begin.saturating_add(limit).min(length);
        let items: Vec<_> = rings.items.range(begin..end).cloned().collect();
        Batch { next: start + items.len() as u64, lost: start - from, items }
    }

    /// Returns the beginning of a stream that asks for the events after `since`: a replay if `since` is
    /// among the newest `retention` events, else the newest `snapshot` events. Only events of
    /// `selection`.
    pub(super) fn open(
        &self,
        since: Option<&EventId>,
        selection: &Selection,
        retention: usize,
        snapshot: usize,
    ) -> Opening {
        let rings = lock(&self.rings);
        let live_from = rings.end();
        let Some(since) = since else {
            return Opening { replay: Vec::new(), too_old: false, live_from };
        };
        let chosen = |entry: &&Arc<Entry>| selection.matches(&entry.event, &entry.facts);
        let oldest = rings.events.len().saturating_sub(retention);
        let at = rings.index_of(since.as_str()).filter(|index| *index >= oldest);
        let replay = if let Some(at) = at {
            rings.events.range(at + 1..).filter(chosen).cloned().collect()
        } else {
            let newest = rings.events.range(oldest..).rev().filter(chosen).take(snapshot);
            let mut newest: Vec<_> = newest.cloned().collect();
            newest.reverse();
            newest
        };
        Opening { replay, too_old: at.is_none(), live_from }
    }

    /// Returns the event of this id, if it is among the newest `retention`.
    pub(super) fn get(&self, id: &str, retention: usize) -> Option<Arc<Entry>> {
        let rings = lock(&self.rings);
        let index = rings.index_of(id)?;
        (index + retention >= rings.events.len()).then(|| Arc::clone(&rings.events[index]))
    }

    /// Returns at most `limit` rows, oldest first, of the events after `after`.
    pub(super) fn ledger(&self, after: Option<&str>, limit: usize) -> Vec<LedgerRow> {
        let rings = lock(&self.rings);
        let start = after.and_then(|id| rings.index_of(id)).map_or(0, |index| index + 1);
        rings.events.range(start..).take(limit).map(|entry| entry.row()).collect()
    }
}

impl Rings {
    fn end(&self) -> u64 {
        self.first_item + self.items.len() as u64
    }

    fn index_of(&self, id: &str) -> Option<usize> {
        let number = self.numbers.get(&id.parse().ok()?)?;
        Some(number - self.first_event)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    pub(super) fn journal(capacity: usize, ids: impl IntoIterator<Item = u32>) -> Journal {
        let journal = Journal::new(capacity);
        for id in ids {
            journal.push(entry(id)).unwrap();
        }
        journal
    }

    pub(super) fn entry(id: u32) -> Entry {
        let body = format!(
            r#"{{"id":"e{id}","object":"event","type":"t","created":{id},"data":{{"object":{{}}}}}}"#
        );
        let event = crate::pepay::envelope::parse(Bytes::from(body), UnixMillis(0)).unwrap();
        Entry::new(event, Facts::default(), Copies::ONE, UnixMillis(0))
    }

    pub(super) fn ids(entries: &[Arc<Entry>]) -> Vec<&str> {
        entries.iter().map(|entry| entry.event.id.as_str()).collect()
    }

    #[test]
    fn a_stream_begins_with_newer_events_or_with_a_snapshot() {
        let journal = journal(9, 1..=6);
        let everything = Selection::all(None);
        let open = |since: &str| journal.open(Some(&since.parse().unwrap()), &everything, 4, 2);
        let opening = open("e3");
        assert!(!opening.too_old);
        assert_eq!(ids(&opening.replay), ["e4", "e5", "e6"]);
        let opening = open("e2");
        assert!(opening.too_old);
        assert_eq!(ids(&opening.replay), ["e5", "e6"]);
        assert_eq!(opening.live_from, 6);
    }

    #[test]
    fn the_oldest_events_leave_and_lagging_readers_are_told() {
        let journal = journal(2, 1..=(2 + 1024 + 3));
        let batch = journal.read(0, 1);
        assert_eq!((batch.lost, batch.next), (3, 4));
        assert_eq!(journal.ledger(None, 9).len(), 2);
        assert!(journal.push(entry(1)).is_ok(), "an id that left may come again");
        assert_eq!(journal.push(entry(1)), Err(PublishError::Known("e1".parse().unwrap())));
    }
}
