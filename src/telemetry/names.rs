//! The metrics of the bridge. Every room may use these names; no other metric exists.

/// 1 while the bridge is ready, as `/readyz` has it.
pub const READY: &str = "pepay_bridge_ready";
/// Events taken from a source into the store, repeats included. Label `source`.
pub const EVENTS_RECEIVED: &str = "pepay_bridge_events_received_total";
/// Events that a source was the first to bring. Label `source`.
pub const EVENTS_UNIQUE: &str = "pepay_bridge_events_unique_total";
/// Events that were held already. Label `source`.
pub const EVENTS_DUPLICATE: &str = "pepay_bridge_events_duplicate_total";
/// Webhooks that were refused. Label `reason`, the error code of the answer.
pub const WEBHOOKS_REJECTED: &str = "pepay_bridge_webhooks_rejected_total";
/// Ended attempts. Labels `target` and `outcome` (`delivered`, `retried`, `dead`, `held`).
pub const DELIVERIES: &str = "pepay_bridge_deliveries_total";
/// How long an attempt took, in seconds. Label `target`.
pub const DELIVERY_DURATION: &str = "pepay_bridge_delivery_duration_seconds";
/// From an event's arrival to its recorded acknowledgement, in seconds. Label `target`.
pub const END_TO_END: &str = "pepay_bridge_end_to_end_seconds";
/// Deliveries still to be made. Label `target`.
pub const BACKLOG: &str = "pepay_bridge_backlog";
/// Age of the oldest delivery still to be made, in seconds. Label `target`.
pub const BACKLOG_OLDEST: &str = "pepay_bridge_backlog_oldest_seconds";
/// 1 while a stream's connection is open. Label `stream`.
pub const STREAM_CONNECTED: &str = "pepay_bridge_stream_connected";
/// Connections lost, and tries for one that failed. Labels `stream` and `reason`.
pub const STREAM_RECONNECTS: &str = "pepay_bridge_stream_reconnects_total";
/// Gaps looked into. Labels `stream` and `outcome` (`closed`, `unproven`).
pub const STREAM_GAPS: &str = "pepay_bridge_stream_gaps_total";
/// Frames that were no event. Labels `stream` and `kind` (`control`, `error`, `invalid`).
pub const STREAM_FRAMES: &str = "pepay_bridge_stream_frames_total";
/// How long a commit took, in seconds.
pub const STORE_COMMIT: &str = "pepay_bridge_store_commit_seconds";
/// Events written by one commit.
pub const STORE_BATCH: &str = "pepay_bridge_store_batch_events";
