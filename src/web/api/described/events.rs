//! The schemas of events and their sources.

use super::described;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::{self, Environment, Source};
use crate::store::view::{self, EventFacts, SourceCount, Standing};

described! {
    /// An event, without its deliveries.
    struct view::EventFacts {
        /// Pepay's id.
        id: String,
        /// The event's sequence: its number in the bridge's own order of acceptance.
        sequence: i64,
        /// The event's type, such as `commerce.order.updated`.
        #[serde(rename = "type")]
        kind: String,
        /// The order, invoice or payment it is about, if it names one.
        #[schema(required)]
        object_id: Option<String>,
        /// When Pepay created it.
        created: UnixMillis,
        /// The source that was first to bring it.
        source: Source,
        /// The configured stream or webhook endpoint it came through.
        origin: String,
        /// Pepay's network environment, when known.
        #[schema(required)]
        environment: Option<Environment>,
        /// When it arrived.
        received_at: UnixMillis,
        /// Bytes of its body; null once the body has been removed.
        #[schema(required)]
        size: Option<u64>,
    }

    /// An event in a list.
    struct view::EventSummary {
        /// The event.
        #[serde(flatten)]
        event: EventFacts,
        /// The states of its deliveries, by target.
        deliveries: Vec<Standing>,
    }

    /// The state of one delivery of an event.
    struct view::Standing {
        /// The name of the target.
        target: String,
        /// The state.
        state: State,
        /// Attempts begun.
        attempts: u32,
    }

    /// The first time a source brought an event.
    struct view::Sighting {
        /// The source.
        source: Source,
        /// The configured stream or webhook endpoint it came through.
        origin: String,
        /// When the source brought it.
        at: UnixMillis,
        /// Milliseconds behind the source that was first.
        lag_ms: u64,
    }

    /// An event that came under the id of another one. It is never delivered.
    struct view::Conflict {
        /// The source that brought it.
        source: Source,
        /// The configured stream or webhook endpoint it came through.
        origin: String,
        /// When it arrived.
        received_at: UnixMillis,
        /// Its type.
        #[serde(rename = "type")]
        kind: String,
        /// Its digest: the beginning of a SHA-256 over its content, in hexadecimal.
        digest: String,
        /// Bytes of its body.
        size: u64,
        /// Its body. Null if another source brought the same content before, if the body is above 256
        /// KiB, and once it has been removed.
        #[schema(required)]
        body: Option<String>,
    }

    /// A number of events of one source.
    struct view::SourceCount {
        /// The source.
        source: Source,
        /// The number of events.
        count: u64,
    }

    /// The events of a source since the process started.
    struct view::SourceTally {
        /// The source.
        source: Source,
        /// The number of events, repeats included.
        received: u64,
        /// The number of events that this source brought first.
        unique: u64,
        /// The number of events that were stored already.
        duplicate: u64,
        /// The number of these whose content differs from the stored event; one content counts once.
        conflicting: u64,
        /// When the newest of them arrived.
        #[schema(required)]
        last_event_at: Option<UnixMillis>,
    }

    /// How often the stream and the webhooks were first, over the newest events.
    struct view::Races {
        /// The number of events that both sources have brought.
        compared: u64,
        /// For each source, how many of these it brought first.
        first: Vec<SourceCount>,
        /// The median of the time between the two, in milliseconds.
        lag_ms_p50: u64,
        /// The 99th percentile of the time between the two, in milliseconds.
        lag_ms_p99: u64,
        /// For each source, how many events it alone has brought within the window of comparison.
        only: Vec<SourceCount>,
    }

    /// The disk space of the store.
    struct view::Usage {
        /// Bytes of the database.
        database_bytes: u64,
        /// Bytes of its write-ahead log.
        wal_bytes: u64,
        /// Bytes of free pages in the database, which it uses again.
        free_bytes: u64,
        /// Bytes of its disk that the bridge may still write; 0 if the database is on a server.
        disk_free_bytes: u64,
        /// Bytes of its disk; 0 if the database is on a server.
        disk_total_bytes: u64,
        /// When the newest backup was made; null if none is known.
        #[schema(required)]
        last_backup_at: Option<UnixMillis>,
    }

    /// The time from an event's arrival to its recorded acknowledgement, over a target's newest first
    /// deliveries: at most 500 of the newest 5000. Deliveries that an operator has sent again, after
    /// they were dead or held too, are left out.
    struct view::Latency {
        /// The name of the target.
        target: String,
        /// The number of events measured.
        count: u64,
        /// When the first of them was acknowledged.
        since: UnixMillis,
        /// The median of the time, in milliseconds.
        p50_ms: u64,
        /// The 99th percentile of the time, in milliseconds.
        p99_ms: u64,
    }

    /// The source an event came by.
    #[serde(rename_all = "lowercase")]
    enum event::Source { Stream, Webhook, Backfill, Reconcile }

    /// Pepay's network environment.
    #[serde(rename_all = "lowercase")]
    enum event::Environment { Devnet, Mainnet }
}
