//! The values that the store returns to an operator, with the names they have as JSON.

use std::sync::Arc;

use serde::Serialize;

use crate::domain::audit::Entry;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::{Environment, Source};
use crate::domain::operator::Cursor;

/// The stored pause of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredPause {
    /// The target's name.
    pub target: Arc<str>,
    /// The reason; `None` if an earlier version has paused the target.
    pub reason: Option<String>,
}

/// The header `Retry-After` of a target's answer: no request goes to the target until its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// The end of the wait.
    pub until: UnixMillis,
    /// SHA-256 of the `url` that has sent the header, in hex.
    pub address: String,
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items, newest first. The list may go on even if there are fewer items than asked for, or
    /// none: one call reads a bounded number of rows.
    pub items: Vec<T>,
    /// The cursor of the next page; `None` at the end of the list.
    pub next: Option<Cursor>,
}

/// An event, without its deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventFacts {
    /// Pepay's id.
    pub id: String,
    /// The event's sequence: its number in the bridge's own order of acceptance.
    pub sequence: i64,
    /// The event's type, such as `commerce.order.updated`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The order, invoice or payment it is about, if it names one.
    pub object_id: Option<String>,
    /// When Pepay created it.
    pub created: UnixMillis,
    /// The source that was first to bring it.
    pub source: Source,
    /// The configured stream or webhook endpoint it came through.
    pub origin: String,
    /// Pepay's network environment, when known.
    pub environment: Option<Environment>,
    /// When it arrived.
    pub received_at: UnixMillis,
    /// Bytes of its body; null once the body has been removed.
    pub size: Option<u64>,
}

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventSummary {
    /// The event.
    #[serde(flatten)]
    pub event: EventFacts,
    /// The states of its deliveries, by target.
    pub deliveries: Vec<Standing>,
}

/// The state of one delivery of an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// The name of the target.
    pub target: Arc<str>,
    /// The state.
    pub state: State,
    /// Attempts begun.
    pub attempts: u32,
}

/// Everything about one event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventDetail {
    /// The event.
    #[serde(flatten)]
    pub event: EventFacts,
    /// Its deliveries, by target.
    pub deliveries: Vec<DeliveryDetail>,
    /// The first time each source brought it, in the order of time.
    pub sightings: Vec<Sighting>,
    /// The conflicts: events that came under its id with another content, in the order of time; at
    /// most 8 are kept.
    pub conflicts: Vec<Conflict>,
    /// The exact text that Pepay sent; null once removed.
    pub body: Option<String>,
    /// The SHA-256 of the body's bytes, in hexadecimal.
    pub body_sha256: Option<String>,
}

/// An event that came under the id of another one. It is never delivered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The source that brought it.
    pub source: Source,
    /// The configured stream or webhook endpoint it came through.
    pub origin: String,
    /// When it arrived.
    pub received_at: UnixMillis,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its digest: the beginning of a SHA-256 over its content, in hexadecimal.
    pub digest: String,
    /// Bytes of its body.
    pub size: u64,
    /// Its body. Null if another source brought the same content before, if the body is above 256
    /// KiB, and once it has been removed.
    pub body: Option<String>,
}

/// The first time a source brought an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// The source.
    pub source: Source,
    /// The configured stream or webhook endpoint it came through.
    pub origin: String,
    /// When the source brought it.
    pub at: UnixMillis,
    /// Milliseconds behind the source that was first.
    pub lag_ms: u64,
}

/// A delivery in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliverySummary {
    /// The name of the target.
    pub target: Arc<str>,
    /// The id of the event.
    pub event_id: String,
    /// The event's sequence.
    pub sequence: i64,
    /// The event's type.
    #[serde(rename = "type")]
    pub kind: String,
    /// The object the event is about, if it names one.
    pub object_id: Option<String>,
    /// When the event arrived.
    pub received_at: UnixMillis,
    /// The state.
    pub state: State,
    /// Attempts begun.
    pub attempts: u32,
    /// How often it was sent again by an operator after it had ended.
    pub replays: u32,
    /// When the next attempt is due, if no earlier delivery of the lane is open.
    pub due_at: Option<UnixMillis>,
    /// The id of the event whose delivery is before this one in its lane.
    pub waits_for: Option<String>,
    /// When the first attempt began, or when an operator retried the delivery.
    pub first_attempt_at: Option<UnixMillis>,
    /// When the delivery ended.
    pub settled_at: Option<UnixMillis>,
    /// The HTTP status of the last attempt, if it had one.
    pub last_status: Option<u16>,
    /// The error of the last attempt.
    pub last_error: Option<String>,
}

/// Everything about one delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeliveryDetail {
    /// The delivery.
    #[serde(flatten)]
    pub delivery: DeliverySummary,
    /// Its attempts, oldest first, as far as they are kept.
    pub attempt_log: Vec<AttemptEntry>,
}

/// An attempt that has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AttemptEntry {
    /// Its number, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: UnixMillis,
    /// How long it took.
    pub duration_ms: u64,
    /// The HTTP status, if there was one.
    pub status: Option<u16>,
    /// The error; null on success.
    pub error: Option<String>,
    /// The beginning of a failed answer.
    pub answer: Option<String>,
}

/// An entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Its number. No number is given twice: a missing one belongs to a removed entry.
    pub id: i64,
    /// The entry.
    #[serde(flatten)]
    pub entry: Entry,
}

/// The progress of a bulk action.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkProgress {
    /// The number of deliveries that have been processed.
    pub gone_through: u64,
    /// The number of these that were changed.
    pub changed: u64,
}

/// The unfinished deliveries of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The name of the target. Every target that was ever configured has a backlog.
    pub target: Arc<str>,
    /// The number of deliveries that the bridge attempts by itself.
    pub open: u64,
    /// When the event of the oldest such delivery arrived.
    pub oldest: Option<UnixMillis>,
    /// The number of held deliveries: the outcome of an attempt is unknown, and an operator
    /// decides.
    pub held: u64,
    /// The number of dead deliveries.
    pub dead: u64,
}

impl Backlog {
    /// Returns whether any delivery waits, for the bridge or for an operator.
    pub const fn is_waiting(&self) -> bool {
        self.open + self.held + self.dead > 0
    }

    /// Returns the counts in words: `400 pending, 28 held`.
    pub fn in_words(&self) -> String {
        let counts = [(self.open, "pending"), (self.held, "held"), (self.dead, "dead")];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }
}

/// The store as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The sequence of the oldest stored event; 0 if there is none. Older events that still have an
    /// unfinished delivery are not considered.
    pub first_sequence: i64,
    /// The sequence of the newest event; 0 if there was never one. There are no gaps between the
    /// two. It is one less than `first_sequence` if all events have been removed.
    pub last_sequence: i64,
    /// The engine and its version, such as `SQLite 3.51.3`.
    pub engine: String,
}

/// The disk space of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
    /// Bytes of free pages in the database, which it uses again.
    pub free_bytes: u64,
    /// Bytes of its disk that the bridge may still write; 0 if the database is on a server.
    pub disk_free_bytes: u64,
    /// Bytes of its disk; 0 if the database is on a server.
    pub disk_total_bytes: u64,
    /// When the newest backup was made; null if none is known.
    pub last_backup_at: Option<UnixMillis>,
}

/// The least free bytes of a large disk.
const LOW_DISK: u64 = 256 << 20;

/// On a small disk the least free bytes are one part in this many.
const LOW_DISK_PART: u64 = 10;

impl Usage {
    /// Returns the least free bytes with which a bridge is ready, of a disk of `total` bytes. With less,
    /// writes may soon fail: the write-ahead log alone may take a quarter of it before it is truncated.
    pub fn least_free(total: u64) -> u64 {
        LOW_DISK.min(total / LOW_DISK_PART)
    }
}

/// How often the stream and the webhooks were first, over the newest events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Races {
    /// The number of events that both sources have brought.
    pub compared: u64,
    /// For each source, how many of these it brought first.
    pub first: Vec<SourceCount>,
    /// The median of the time between the two, in milliseconds.
    pub lag_ms_p50: u64,
    /// The 99th percentile of the time between the two, in milliseconds.
    pub lag_ms_p99: u64,
    /// For each source, how many events it alone has brought within the window of comparison.
    pub only: Vec<SourceCount>,
}

/// A number of events of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SourceCount {
    /// The source.
    pub source: Source,
    /// The number of events.
    pub count: u64,
}

/// The time from an event's arrival to its recorded acknowledgement, over a target's newest first
/// deliveries: at most 500 of the newest 5000. Deliveries that an operator has sent again, after
/// they were dead or held too, are left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The name of the target.
    pub target: Arc<str>,
    /// The number of events measured.
    pub count: u64,
    /// When the first of them was acknowledged.
    pub since: UnixMillis,
    /// The median of the time, in milliseconds.
    pub p50_ms: u64,
    /// The 99th percentile of the time, in milliseconds.
    pub p99_ms: u64,
}

/// The counters since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// One for each source.
    pub sources: Vec<SourceTally>,
    /// One for each configured target.
    pub targets: Vec<TargetTally>,
}

/// The events of a source since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SourceTally {
    /// The source.
    pub source: Source,
    /// The number of events, repeats included.
    pub received: u64,
    /// The number of events that this source brought first.
    pub unique: u64,
    /// The number of events that were stored already.
    pub duplicate: u64,
    /// The number of these whose content differs from the stored event; one content counts once.
    pub conflicting: u64,
    /// When the newest of them arrived.
    pub last_event_at: Option<UnixMillis>,
}

/// The attempts at a target since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTally {
    /// The name of the target.
    pub target: Arc<str>,
    /// The number of acknowledged attempts.
    pub delivered: u64,
    /// The number of failed attempts.
    pub failed: u64,
}

/// A source, stream or webhook, that brings nothing while the other one does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// The source.
    pub source: Source,
    /// The number of events in a row that only the other source has brought.
    pub missed: u64,
    /// When the first of these events arrived.
    pub since: UnixMillis,
}
