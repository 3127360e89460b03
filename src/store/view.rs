//! What the store shows an operator: plain values, with the names they have as JSON.

use std::sync::Arc;

use serde::Serialize;

use crate::domain::audit::Entry;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::{Environment, Source};
use crate::domain::operator::Cursor;

/// What holds a target back beyond a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    /// The target's name.
    pub target: Arc<str>,
    /// Whether it is paused.
    pub is_paused: bool,
    /// Why; `None` also where an earlier version has paused it.
    pub paused_reason: Option<String>,
    /// Until when it has asked to be left alone.
    pub retry_after: Option<RetryAfter>,
}

/// The wish of a target to be left alone, from the header `Retry-After` of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryAfter {
    /// Until when.
    pub until: UnixMillis,
    /// SHA-256 of the address that has asked for it, in hex.
    pub address: String,
}

/// One part of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed<T> {
    /// The items, newest first. Fewer than asked for, or none, does not mean that
    /// the list has ended: one call looks at a bounded number of rows.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// What there is to say about an event, but for its deliveries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventFacts {
    /// Pepay's id.
    pub id: String,
    /// The bridge's own order of acceptance.
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
    /// Bytes of its body; null once that has been removed.
    pub size: Option<u64>,
}

/// An event in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventSummary {
    /// The event.
    #[serde(flatten)]
    pub event: EventFacts,
    /// Where its deliveries stand, by target.
    pub deliveries: Vec<Standing>,
}

/// Where one delivery of an event stands.
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
    /// Others that came under its id and say something else, in the order of time; at
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
    /// Its digest: the beginning of a SHA-256 over what it says, in hexadecimal.
    pub digest: String,
    /// Bytes of its body.
    pub size: u64,
    /// Its body; null if another source brought the same before, if it is above 256 KiB,
    /// and once it has been removed.
    pub body: Option<String>,
}

/// The first time a source brought an event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sighting {
    /// The source.
    pub source: Source,
    /// The configured stream or webhook endpoint it came through.
    pub origin: String,
    /// When.
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
    /// The event's place in the bridge's own order of acceptance.
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
    /// When the next attempt is due, if nothing goes before it.
    pub due_at: Option<UnixMillis>,
    /// The id of the event that goes before this one in its lane.
    pub waits_for: Option<String>,
    /// When the first attempt began, or an operator had it tried anew.
    pub first_attempt_at: Option<UnixMillis>,
    /// When it ended.
    pub settled_at: Option<UnixMillis>,
    /// The HTTP status of the last attempt, if it had one.
    pub last_status: Option<u16>,
    /// What went wrong with the last attempt.
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
    /// What went wrong; null on success.
    pub error: Option<String>,
    /// The beginning of a failed answer.
    pub answer: Option<String>,
}

/// An entry of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditEntry {
    /// Its number, which is never given twice: one that is missing was removed.
    pub id: i64,
    /// What it says.
    #[serde(flatten)]
    pub entry: Entry,
}

/// How far an action on many has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BulkProgress {
    /// Deliveries that have been gone through.
    pub gone_through: u64,
    /// Those of them that were changed.
    pub changed: u64,
}

/// What a target still has before it, and what waits for an operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Backlog {
    /// The name of the target: every one that was ever configured.
    pub target: Arc<str>,
    /// Deliveries the bridge will make by itself.
    pub open: u64,
    /// When the event of the oldest of those arrived.
    pub oldest: Option<UnixMillis>,
    /// Deliveries whose outcome is unknown, waiting for an operator.
    pub held: u64,
    /// Deliveries given up.
    pub dead: u64,
}

impl Backlog {
    /// Whether anything waits, be it for the bridge or for an operator.
    pub const fn is_waiting(&self) -> bool {
        self.open + self.held + self.dead > 0
    }

    /// What waits, in words: `400 pending, 28 held`.
    pub fn in_words(&self) -> String {
        let counts = [(self.open, "pending"), (self.held, "held"), (self.dead, "dead")];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        counts.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", ")
    }
}

/// The store as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// The sequence of the oldest event held; 0 for none. Older ones that still
    /// have a delivery to be made or decided on are left out of account.
    pub first_sequence: i64,
    /// The sequence of the newest one; 0 for none ever. There are no gaps between
    /// the two, and one less than the first if all have been removed.
    pub last_sequence: i64,
    /// The engine and its version, such as `SQLite 3.51.3`.
    pub engine: String,
}

/// The room the store takes, and the room there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Bytes of the database.
    pub database_bytes: u64,
    /// Bytes of its write-ahead log.
    pub wal_bytes: u64,
    /// Bytes of the database that hold nothing and will be used again.
    pub free_bytes: u64,
    /// Bytes of its disk that the bridge may still write; 0 where the disk is a server's.
    pub disk_free_bytes: u64,
    /// Bytes of its disk; 0 where the disk is a server's.
    pub disk_total_bytes: u64,
    /// When the newest backup was made; null if none is known.
    pub last_backup_at: Option<UnixMillis>,
}

/// Which live source was first to bring the newest events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Races {
    /// Events that both have brought.
    pub compared: u64,
    /// How many of these each was first to bring.
    pub first: Vec<SourceCount>,
    /// By how much, in milliseconds: the median.
    pub lag_ms_p50: u64,
    /// By how much, in milliseconds: 99 of 100 were below.
    pub lag_ms_p99: u64,
    /// Events that one alone has brought in the time they had.
    pub only: Vec<SourceCount>,
}

/// A number of events of one source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SourceCount {
    /// The source.
    pub source: Source,
    /// How many.
    pub count: u64,
}

/// From an event's arrival to its recorded acknowledgement, over a target's newest first
/// deliveries: at most 500 of the newest 5000. What an operator has had sent again, from
/// dead or held too, is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// The name of the target.
    pub target: Arc<str>,
    /// Over how many events.
    pub count: u64,
    /// When the first of them was acknowledged.
    pub since: UnixMillis,
    /// The median, in milliseconds.
    pub p50_ms: u64,
    /// 99 of 100 were faster, in milliseconds.
    pub p99_ms: u64,
}

/// What has been counted since the process started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// By source, every one.
    pub sources: Vec<SourceTally>,
    /// By target, those that are configured.
    pub targets: Vec<TargetTally>,
}

/// What a source has brought since the process started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SourceTally {
    /// The source.
    pub source: Source,
    /// Events, repeats included.
    pub received: u64,
    /// Those that it was the first to bring.
    pub unique: u64,
    /// Those that were held already.
    pub duplicate: u64,
    /// Those of them that say something else than what is held; one content counts once.
    pub conflicting: u64,
    /// When the newest of them arrived.
    pub last_event_at: Option<UnixMillis>,
}

/// What a target has taken since the process started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetTally {
    /// The name of the target.
    pub target: Arc<str>,
    /// Attempts that were acknowledged.
    pub delivered: u64,
    /// Attempts that were not.
    pub failed: u64,
}

/// A live source that brings nothing while the other does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quiet {
    /// The source.
    pub source: Source,
    /// How many events in a row the other one alone has brought.
    pub missed: u64,
    /// When the first of these arrived.
    pub since: UnixMillis,
}
