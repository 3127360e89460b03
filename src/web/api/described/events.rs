//! What the store shows of events and their sources.

use super::described;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::State;
use crate::domain::event::{self, Environment, Source};
use crate::store::view::{self, EventFacts, SourceCount, Standing};

described! {
    /// What there is to say about an event, but for its deliveries.
    struct view::EventFacts {
        /// Pepay's id.
        id: String,
        /// The bridge's own order of acceptance.
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
        /// Bytes of its body; null once that has been removed.
        #[schema(required)]
        size: Option<u64>,
    }

    /// An event in a list.
    struct view::EventSummary {
        /// The event.
        #[serde(flatten)]
        event: EventFacts,
        /// Where its deliveries stand, by target.
        deliveries: Vec<Standing>,
    }

    /// Where one delivery of an event stands.
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
        /// When.
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
        /// Its digest: the beginning of a SHA-256 over what it says, in hexadecimal.
        digest: String,
        /// Bytes of its body.
        size: u64,
        /// Its body; null if another source brought the same before, if it is above 256 KiB,
        /// and once it has been removed.
        #[schema(required)]
        body: Option<String>,
    }

    /// A number of events of one source.
    struct view::SourceCount {
        /// The source.
        source: Source,
        /// How many.
        count: u64,
    }

    /// What a source has brought since the process started.
    struct view::SourceTally {
        /// The source.
        source: Source,
        /// Events, repeats included.
        received: u64,
        /// Those that it was the first to bring.
        unique: u64,
        /// Those that were held already.
        duplicate: u64,
        /// Those of them that say something else than what is held; one content counts once.
        conflicting: u64,
        /// When the newest of them arrived.
        #[schema(required)]
        last_event_at: Option<UnixMillis>,
    }

    /// Which live source was first to bring the newest events.
    struct view::Races {
        /// Events that both have brought.
        compared: u64,
        /// How many of these each was first to bring.
        first: Vec<SourceCount>,
        /// By how much, in milliseconds: the median.
        lag_ms_p50: u64,
        /// By how much, in milliseconds: 99 of 100 were below.
        lag_ms_p99: u64,
        /// Events that one alone has brought in the time they had.
        only: Vec<SourceCount>,
    }

    /// The room the store takes, and the room there is.
    struct view::Usage {
        /// Bytes of the database.
        database_bytes: u64,
        /// Bytes of its write-ahead log.
        wal_bytes: u64,
        /// Bytes of the database that hold nothing and will be used again.
        free_bytes: u64,
        /// Bytes of its disk that the bridge may still write; 0 where the disk is a server's.
        disk_free_bytes: u64,
        /// Bytes of its disk; 0 where the disk is a server's.
        disk_total_bytes: u64,
        /// When the newest backup was made; null if none is known.
        #[schema(required)]
        last_backup_at: Option<UnixMillis>,
    }

    /// From an event's arrival to its recorded acknowledgement, over a target's newest first
    /// deliveries: at most 500 of the newest 5000. What an operator has had sent again, from
    /// dead or held too, is left out.
    struct view::Latency {
        /// The name of the target.
        target: String,
        /// Over how many events.
        count: u64,
        /// When the first of them was acknowledged.
        since: UnixMillis,
        /// The median, in milliseconds.
        p50_ms: u64,
        /// 99 of 100 were faster, in milliseconds.
        p99_ms: u64,
    }

    /// The source an event came by.
    #[serde(rename_all = "lowercase")]
    enum event::Source { Stream, Webhook, Backfill, Reconcile }

    /// Pepay's network environment.
    #[serde(rename_all = "lowercase")]
    enum event::Environment { Devnet, Mainnet }
}
