//! The names of all metrics of the bridge. Every module may use them.

/// 1 while the bridge is ready, as in `/readyz`.
pub const READY: &str = "pepay_bridge_ready";
/// Always 1. Labels `version` and `commit` (of the program).
pub const BUILD_INFO: &str = "pepay_bridge_build_info";
/// The time at which the configuration in effect was read, in Unix seconds.
pub const LAST_RELOAD: &str = "pepay_bridge_last_reload_timestamp_seconds";
/// The time of the newest backup of the database, in Unix seconds; missing if no backup is known.
pub const LAST_BACKUP: &str = "pepay_bridge_last_backup_timestamp_seconds";
/// 1 if the last reload of the configuration failed.
pub const RELOAD_FAILED: &str = "pepay_bridge_reload_failed";
/// Events received from a source, repeats included, after their commit. Label `source`.
pub const EVENTS_RECEIVED: &str = "pepay_bridge_events_received_total";
/// Events that came from this source first. Label `source`.
pub const EVENTS_UNIQUE: &str = "pepay_bridge_events_unique_total";
/// Events whose id was stored already, conflicts included. Label `source`.
pub const EVENTS_DUPLICATE: &str = "pepay_bridge_events_duplicate_total";
/// Conflicts: events whose id is that of another stored event. Each content counts once per source. Label
/// `source`.
pub const EVENTS_CONFLICTING: &str = "pepay_bridge_events_conflicting_total";
/// New events that name no order, invoice or payment. Label `type`.
pub const EVENTS_WITHOUT_OBJECT: &str = "pepay_bridge_events_without_object_total";
/// Refused webhooks. Label `reason`, the error code of the response.
pub const WEBHOOKS_REJECTED: &str = "pepay_bridge_webhooks_rejected_total";
/// Requests to the public listener that no handler took. Label `code`, the HTTP status.
pub const HTTP_REFUSED: &str = "pepay_bridge_http_refused_total";
/// Refused requests to the private listener. Label `reason` (`missing`, `wrong`, `slowed`, `scope`,
/// `foreign_host`, `cross_site`).
pub const ADMIN_REFUSED: &str = "pepay_bridge_admin_refused_total";
/// Entries of the audit trail that could not be stored.
pub const AUDIT_UNWRITTEN: &str = "pepay_bridge_audit_unwritten_total";
/// Ended attempts. Labels `target` and `outcome` (`delivered`, `retried`, `dead`, `held`).
pub const DELIVERIES: &str = "pepay_bridge_deliveries_total";
/// Dead deliveries that `store.dead_retention` has cancelled. Label `target`.
pub const DELIVERIES_EXPIRED: &str = "pepay_bridge_deliveries_expired_total";
/// The duration of an attempt, in seconds. Label `target`.
pub const DELIVERY_DURATION: &str = "pepay_bridge_delivery_duration_seconds";
/// The time from an event's arrival to its recorded acknowledgement, in seconds. Deliveries that an
/// operator has had sent again, also from dead or held, are left out. Label `target`.
pub const END_TO_END: &str = "pepay_bridge_end_to_end_seconds";
/// Open deliveries. Labels `target` and `configured` (`true`, `false`).
pub const BACKLOG: &str = "pepay_bridge_backlog";
/// The age of the oldest open delivery, in seconds. Labels `target` and `configured` (`true`, `false`).
pub const BACKLOG_OLDEST: &str = "pepay_bridge_backlog_oldest_seconds";
/// 1 while a stream's connection is open, at whichever replica reads it. Label `stream`.
pub const STREAM_CONNECTED: &str = "pepay_bridge_stream_connected";
/// Lost connections and failed attempts to connect. Labels `stream` and `reason`.
pub const STREAM_RECONNECTS: &str = "pepay_bridge_stream_reconnects_total";
/// Gaps that were examined. Labels `stream` and `outcome` (`closed`, `unproven`).
pub const STREAM_GAPS: &str = "pepay_bridge_stream_gaps_total";
/// Frames and list entries that are not events, events from before the beginning of the stream, and
/// events that do not show whether they pass the stream's filters. Labels `stream` and `kind` (`control`,
/// `early`, `error`, `invalid`, `untold`).
pub const STREAM_FRAMES: &str = "pepay_bridge_stream_frames_total";
/// The duration of a commit, in seconds.
pub const STORE_COMMIT: &str = "pepay_bridge_store_commit_seconds";
/// The number of events in a commit.
pub const STORE_BATCH: &str = "pepay_bridge_store_batch_events";
/// The number of times that this replica gave back all of its leases because its writing connection
/// completed nothing.
pub const LEASES_GIVEN_UP: &str = "pepay_bridge_leases_given_up_total";
/// The time from an event's first sighting to that of this source, in seconds. Label `source`.
pub const SOURCE_LAG: &str = "pepay_bridge_source_lag_seconds";
/// Events that only this one of the two live sources brought within five minutes. Label `source`.
pub const EVENTS_SINGLE_SOURCE: &str = "pepay_bridge_events_single_source_total";
/// Held deliveries: their outcome is unknown, and they wait for an operator. Labels `target` and
/// `configured` (`true`, `false`).
pub const DELIVERIES_HELD: &str = "pepay_bridge_deliveries_held";
/// Dead deliveries. Labels `target` and `configured` (`true`, `false`).
pub const DELIVERIES_DEAD: &str = "pepay_bridge_deliveries_dead";
/// 1 while a target is paused. Labels `target` and `configured` (`true`, `false`).
pub const TARGET_PAUSED: &str = "pepay_bridge_target_paused";
/// 1 while a target's circuit is not closed: the target counts as down, and its deliveries wait. Labels
/// `target` and `configured` (`true`, `false`).
pub const TARGET_CIRCUIT_OPEN: &str = "pepay_bridge_target_circuit_open";
/// 1 while a target refuses every request. Labels `target` and `configured` (`true`, `false`).
pub const TARGET_REJECTING: &str = "pepay_bridge_target_rejecting";
/// 1 while the attempts of a target have reached `concurrency` and more deliveries could be sent. Labels
/// `target` and `configured` (`true`, `false`).
pub const TARGET_LIMITED: &str = "pepay_bridge_target_limited";
/// Alerts. Labels `kind` (as in `alerts.on`) and `outcome` (`sent`, or `failed`: dropped after an hour,
/// or because too many waited).
pub const ALERTS: &str = "pepay_bridge_alerts_total";
/// The size of the database, in bytes.
pub const STORE_BYTES: &str = "pepay_bridge_store_bytes";
/// The size of the database's write-ahead log, in bytes.
pub const STORE_WAL_BYTES: &str = "pepay_bridge_store_wal_bytes";
/// The free space within the database, in bytes. It is used again.
pub const STORE_FREE_BYTES: &str = "pepay_bridge_store_free_bytes";
/// The free space on the disk of the database, in bytes.
pub const DISK_FREE_BYTES: &str = "pepay_bridge_disk_free_bytes";
