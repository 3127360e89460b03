//! The metrics of the bridge. Every module may use these names; no other metric exists.

/// 1 while the bridge is ready, as `/readyz` has it.
pub const READY: &str = "pepay_bridge_ready";
/// Always 1. Labels `version` and `commit`, those of the program.
pub const BUILD_INFO: &str = "pepay_bridge_build_info";
/// When the configuration that is in effect was read, in Unix seconds.
pub const LAST_RELOAD: &str = "pepay_bridge_last_reload_timestamp_seconds";
/// When the newest backup of the database was made, in Unix seconds; missing if none is known.
pub const LAST_BACKUP: &str = "pepay_bridge_last_backup_timestamp_seconds";
/// 1 while the configuration could not be reloaded when that was last asked for.
pub const RELOAD_FAILED: &str = "pepay_bridge_reload_failed";
/// Events taken from a source into the store, repeats included. Label `source`.
pub const EVENTS_RECEIVED: &str = "pepay_bridge_events_received_total";
/// Events that a source was the first to bring. Label `source`.
pub const EVENTS_UNIQUE: &str = "pepay_bridge_events_unique_total";
/// Events that were held already. Label `source`.
pub const EVENTS_DUPLICATE: &str = "pepay_bridge_events_duplicate_total";
/// Events under an id that another event is held under. Label `source`.
pub const EVENTS_CONFLICTING: &str = "pepay_bridge_events_conflicting_total";
/// New events that name no order, invoice or payment. Label `type`.
pub const EVENTS_WITHOUT_OBJECT: &str = "pepay_bridge_events_without_object_total";
/// Webhooks that were refused. Label `reason`, the error code of the answer.
pub const WEBHOOKS_REJECTED: &str = "pepay_bridge_webhooks_rejected_total";
/// Requests to the public listener that no handler took. Label `code`, the HTTP status.
pub const HTTP_REFUSED: &str = "pepay_bridge_http_refused_total";
/// Requests to the private listener that were refused. Label `reason` (`missing`, `wrong`, `slowed`,
/// `scope`, `foreign_host`, `cross_site`).
pub const ADMIN_REFUSED: &str = "pepay_bridge_admin_refused_total";
/// Entries of the audit trail that could not be stored.
pub const AUDIT_UNWRITTEN: &str = "pepay_bridge_audit_unwritten_total";
/// Ended attempts. Labels `target` and `outcome` (`delivered`, `retried`, `dead`, `held`).
pub const DELIVERIES: &str = "pepay_bridge_deliveries_total";
/// Dead deliveries that `store.dead_retention` has cancelled. Label `target`.
pub const DELIVERIES_EXPIRED: &str = "pepay_bridge_deliveries_expired_total";
/// How long an attempt took, in seconds. Label `target`.
pub const DELIVERY_DURATION: &str = "pepay_bridge_delivery_duration_seconds";
/// From an event's arrival to its recorded acknowledgement, in seconds, of first deliveries:
/// without what an operator has had sent again, from dead or held too. Label `target`.
pub const END_TO_END: &str = "pepay_bridge_end_to_end_seconds";
/// Deliveries still to be made. Labels `target` and `configured` (`true`, `false`).
pub const BACKLOG: &str = "pepay_bridge_backlog";
/// Age of the oldest delivery still to be made, in seconds. Labels `target` and `configured` (`true`, `false`).
pub const BACKLOG_OLDEST: &str = "pepay_bridge_backlog_oldest_seconds";
/// 1 while a stream's connection is open. Label `stream`.
pub const STREAM_CONNECTED: &str = "pepay_bridge_stream_connected";
/// Connections lost, and tries for one that failed. Labels `stream` and `reason`.
pub const STREAM_RECONNECTS: &str = "pepay_bridge_stream_reconnects_total";
/// Gaps looked into. Labels `stream` and `outcome` (`closed`, `unproven`).
pub const STREAM_GAPS: &str = "pepay_bridge_stream_gaps_total";
/// Frames and entries of the list that were no event, and events that do not tell whether the
/// stream's filters let them through. Labels `stream` and `kind` (`control`, `error`, `invalid`, `untold`).
pub const STREAM_FRAMES: &str = "pepay_bridge_stream_frames_total";
/// How long a commit took, in seconds.
pub const STORE_COMMIT: &str = "pepay_bridge_store_commit_seconds";
/// Events written by one commit.
pub const STORE_BATCH: &str = "pepay_bridge_store_batch_events";
/// Times that this replica gave all of its leases back, since its connection that writes completed nothing.
pub const LEASES_GIVEN_UP: &str = "pepay_bridge_leases_given_up_total";
/// How far a source was behind the first to bring an event, in seconds. Label `source`.
pub const SOURCE_LAG: &str = "pepay_bridge_source_lag_seconds";
/// Events that one live source alone had brought when both had had their time. Label `source`.
pub const EVENTS_SINGLE_SOURCE: &str = "pepay_bridge_events_single_source_total";
/// Deliveries whose outcome is unknown, waiting for an operator. Labels `target` and `configured` (`true`, `false`).
pub const DELIVERIES_HELD: &str = "pepay_bridge_deliveries_held";
/// Deliveries given up. Labels `target` and `configured` (`true`, `false`).
pub const DELIVERIES_DEAD: &str = "pepay_bridge_deliveries_dead";
/// 1 while a target is paused. Labels `target` and `configured` (`true`, `false`).
pub const TARGET_PAUSED: &str = "pepay_bridge_target_paused";
/// 1 while a target counts as down and its deliveries wait. Labels `target` and `configured` (`true`, `false`).
pub const TARGET_CIRCUIT_OPEN: &str = "pepay_bridge_target_circuit_open";
/// 1 while a target refuses everything. Labels `target` and `configured` (`true`, `false`).
pub const TARGET_REJECTING: &str = "pepay_bridge_target_rejecting";
/// 1 while as many attempts are on the wire as `concurrency` allows and more could be sent.
/// Labels `target` and `configured` (`true`, `false`).
pub const TARGET_LIMITED: &str = "pepay_bridge_target_limited";
/// Alerts. Labels `kind` (as in `alerts.on`) and `outcome` (`sent`, `failed`: left out after an
/// hour, or since too many waited).
pub const ALERTS: &str = "pepay_bridge_alerts_total";
/// Bytes of the database.
pub const STORE_BYTES: &str = "pepay_bridge_store_bytes";
/// Bytes of its write-ahead log.
pub const STORE_WAL_BYTES: &str = "pepay_bridge_store_wal_bytes";
/// Bytes of the database that hold nothing and will be used again.
pub const STORE_FREE_BYTES: &str = "pepay_bridge_store_free_bytes";
/// Bytes that may still be written to the disk of the database.
pub const DISK_FREE_BYTES: &str = "pepay_bridge_disk_free_bytes";
