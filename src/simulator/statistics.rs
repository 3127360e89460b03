//! The counts of the simulator.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts since the simulator was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Events published.
    pub published: u64,
    /// Requests refused, by status, faults included.
    pub refused: BTreeMap<u16, u64>,
    /// Requests that a fault delayed.
    pub delayed: u64,
    /// Requests whose connection was broken by a fault.
    pub severed: u64,
    /// Stream tokens handed out.
    pub tokens_minted: u64,
    /// Stream tokens used for the first time.
    pub tokens_used: u64,
    /// Upgrades with a token that had been used before.
    pub tokens_reused: u64,
    /// Streams opened.
    pub streams_opened: u64,
    /// Streams open now. A silent stream counts until it is dropped: no task reads from it any more, so
    /// its end is not noticed.
    pub streams_open: u64,
    /// Streams opened with a `since` that was too old.
    pub snapshots: u64,
    /// Event frames sent, replays included.
    pub frames_sent: u64,
    /// The replayed frames and those of snapshots among them.
    pub frames_replayed: u64,
    /// Pings received on streams.
    pub pings_received: u64,
    /// Pongs received on streams, the answers to the simulator's own pings.
    pub pongs_received: u64,
    /// Requests for pages of the REST list that reached the list, refused ones included.
    pub list_requests: u64,
    /// Pages of the REST list served.
    pub rest_pages: u64,
    /// Single events served over REST.
    pub rest_events: u64,
    /// Webhook tries.
    pub webhook_attempts: u64,
    /// Webhooks answered with a 2xx.
    pub webhooks_acknowledged: u64,
    /// Webhooks given up after the last try.
    pub webhooks_given_up: u64,
    /// Items of the journal that were dropped before the webhook sender read them.
    pub webhooks_lost: u64,
    /// Webhooks that were begun and are not yet acknowledged or given up.
    pub webhooks_under_way: u64,
    /// The end of the journal.
    #[serde(skip)]
    pub(super) position: u64,
    /// The position up to which the webhook sender has read the journal.
    #[serde(skip)]
    pub(super) webhook_position: u64,
}

impl Statistics {
    /// Returns whether no webhook is due or under way.
    pub fn webhooks_settled(&self) -> bool {
        self.webhooks_under_way == 0 && self.webhook_position >= self.position
    }
}
