//! What the simulator has seen and done, as plain counts.

use std::collections::BTreeMap;

use serde::Serialize;

/// Counts since the simulator was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// Events published.
    pub published: u64,
    /// Requests refused, by status, faults included.
    pub refused: BTreeMap<u16, u64>,
    /// Requests that a fault made wait.
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
    /// Streams open now. A silent one counts until it is dropped: no task reads
    /// from it any more, so its end goes unseen.
    pub streams_open: u64,
    /// Streams opened with a `since` that was too old.
    pub snapshots: u64,
    /// Event frames sent, replays included.
    pub frames_sent: u64,
    /// Of those, replayed ones and those of snapshots.
    pub frames_replayed: u64,
    /// Pings received on streams.
    pub pings_received: u64,
    /// Pongs received on streams, the answers to the simulator's own pings.
    pub pongs_received: u64,
    /// Requests for pages of the REST list that came as far as the list, refused
    /// ones included.
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
    /// Items of the journal that were gone before the webhook sender came to them.
    pub webhooks_lost: u64,
    /// Webhooks taken up and not yet acknowledged or given up.
    pub webhooks_under_way: u64,
    /// The end of the journal.
    #[serde(skip)]
    pub(super) position: u64,
    /// How far the webhook sender has taken items off the journal.
    #[serde(skip)]
    pub(super) webhook_position: u64,
}

impl Statistics {
    /// Whether no webhook is due or under way.
    pub fn webhooks_settled(&self) -> bool {
        self.webhooks_under_way == 0 && self.webhook_position >= self.position
    }
}
