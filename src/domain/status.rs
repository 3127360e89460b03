//! The status of the running parts: plain values, which a part publishes and the reporting code reads.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::clock::UnixMillis;

/// The status of a stream, as `/status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct StreamStatus {
    /// The configured name.
    pub name: Arc<str>,
    /// Whether a connection is open.
    pub connected: bool,
    /// The present activity of the stream.
    pub phase: StreamPhase,
    /// Since when `connected` has had its value.
    pub since: UnixMillis,
    /// Whether it has been connected since the process started.
    pub ever_connected: bool,
    /// The id up to which every event is stored.
    pub cursor: Option<String>,
    /// The newest event that was stored from this stream.
    pub last_event: Option<SeenEvent>,
    /// Connections lost since the process started.
    pub reconnects: u64,
    /// Why the last connection, or try for one, ended.
    pub last_disconnect: Option<String>,
    /// Whether every event between the last two connections is accounted for.
    pub gap: GapStatus,
    /// Whether sweeps keep finding events that the stream should have brought.
    pub behind: bool,
    /// The time of creation up to which every event in Pepay's list is stored, by the sweeps.
    pub compared_until: Option<UnixMillis>,
    /// Since when connections have ended soon after they were opened, again and again.
    pub unsteady_since: Option<UnixMillis>,
    /// The reason why the stream is not healthy, in words for an operator.
    pub problem: Option<String>,
    /// The last backfill that an operator asked for since the process started.
    pub backfill: Option<BackfillStatus>,
}

impl StreamStatus {
    /// Returns the status of a stream that has not yet tried to connect.
    pub fn new(name: Arc<str>, now: UnixMillis) -> Self {
        Self {
            name,
            connected: false,
            phase: StreamPhase::Connecting,
            since: now,
            ever_connected: false,
            cursor: None,
            last_event: None,
            reconnects: 0,
            last_disconnect: None,
            gap: GapStatus::Closed,
            behind: false,
            compared_until: None,
            unsteady_since: None,
            problem: None,
            backfill: None,
        }
    }
}

/// The activity of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamPhase {
    /// Minting a token or opening a connection.
    Connecting,
    /// Reading missed events from REST, while live frames are held back.
    Backfilling,
    /// Storing frames as they come.
    Live,
    /// Between two tries.
    Waiting,
    /// Another replica reads it.
    Standby,
    /// Stopped for good.
    Stopped,
}

/// Whether a stream's history has a hole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum GapStatus {
    /// Everything up to the cursor is stored.
    Closed,
    /// The gap is being filled.
    Open {
        /// Since when live events have passed the gap: the list of events has failed for as long as the
        /// gap may hold them back. An event that the gap hides may then come after a later one of its
        /// object. `null` while live events are held back.
        passed_since: Option<UnixMillis>,
    },
    /// The gap is filled with the events that Pepay still has; events between these two may be missing.
    Unproven {
        /// The last event known to be stored before the hole.
        after: String,
        /// The first event after it.
        before: Option<String>,
        /// When the hole was found.
        at: UnixMillis,
    },
}

/// A backfill that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackfillStatus {
    /// Whether it is still running.
    pub running: bool,
    /// Its beginning: a time as RFC 3339, or the id of the event before it.
    pub from: String,
    /// The number of events read from Pepay's list. An event that is read again counts again.
    pub read: u64,
    /// The number of these that no source had brought before.
    pub recorded: u64,
    /// When it was started.
    pub started_at: UnixMillis,
    /// When it ended.
    pub ended_at: Option<UnixMillis>,
    /// While it runs, why it makes no progress; afterwards, why it is incomplete.
    pub error: Option<String>,
}

/// An event that was seen, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenEvent {
    /// Its id.
    pub id: String,
    /// When it was stored.
    pub at: UnixMillis,
}

/// The status of a webhook endpoint, as `/status` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct WebhookStatus {
    /// The configured name.
    pub name: Arc<str>,
    /// The path at which it listens.
    pub path: Arc<str>,
    /// The newest event that came through this endpoint and is stored, whichever source brought it first.
    pub last_event: Option<SeenEvent>,
    /// The last refusal.
    pub last_rejection: Option<Rejection>,
}

/// A refused webhook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The error code of the answer.
    pub code: &'static str,
    /// When it was refused.
    pub at: UnixMillis,
    /// The reason, with more detail than the answer has.
    pub message: String,
    /// The event's id, once the signature has been verified.
    pub event_id: Option<String>,
    /// The size of the body in bytes, if it was declared or read.
    pub bytes: Option<u64>,
    /// `X-Pepay-Timestamp` less the time of arrival, in seconds, if the request was refused for it.
    pub clock_off_seconds: Option<i64>,
    /// Address and port of the other side of the connection: a proxy's, if there is one.
    pub peer: Option<String>,
    /// `X-Forwarded-For`, as the request has it: any sender can write it.
    pub forwarded_for: Option<String>,
}

/// The status of a target's dispatcher, as `/status` shows it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TargetStatus {
    /// The configured name.
    pub name: Arc<str>,
    /// Attempts on the wire now.
    pub in_flight: usize,
    /// Since when as many attempts are on the wire as `concurrency` allows, while more
    /// deliveries could be sent: more places would make it faster.
    pub limited_since: Option<UnixMillis>,
    /// Whether requests are let through.
    pub circuit: Circuit,
    /// While the circuit is open, when the next probes go out.
    pub next_probe: Option<NextProbe>,
    /// The end of the target's `Retry-After`, until which no attempt starts.
    pub retry_after_until: Option<UnixMillis>,
    /// Set while the target refuses everything.
    pub rejecting: Option<Rejecting>,
    /// Whether it is paused: by an operator, or by `pause_when_rejecting`.
    pub paused: bool,
    /// Why it is paused; null while it is not.
    pub paused_reason: Option<String>,
    /// The last failed attempt.
    pub last_error: Option<TargetError>,
    /// When the target last acknowledged an event.
    pub last_delivered_at: Option<UnixMillis>,
}

impl TargetStatus {
    /// Returns the status of a target to which nothing has been sent.
    pub const fn new(name: Arc<str>) -> Self {
        Self {
            name,
            in_flight: 0,
            limited_since: None,
            circuit: Circuit::Closed,
            next_probe: None,
            retry_after_until: None,
            rejecting: None,
            paused: false,
            paused_reason: None,
            last_error: None,
            last_delivered_at: None,
        }
    }
}

/// Whether a target is part of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetState {
    /// The target is configured.
    Configured,
    /// The target was removed, and deliveries to it wait to be moved to another target or cancelled.
    Removed,
}

/// A target's breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// Requests go out.
    Closed,
    /// Requests wait.
    Open,
    /// One request tests whether the target works again.
    HalfOpen,
}

/// When an open circuit lets single requests through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NextProbe {
    /// When a delivery's first attempt may be the next probe.
    pub first_attempt_at: UnixMillis,
    /// When a further attempt may be the next probe.
    pub retry_at: UnixMillis,
}

/// A target that answers every event with a refusal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejecting {
    /// When the first refusal of the present run came.
    pub since: UnixMillis,
    /// How many refusals there were in a row.
    pub refusals: u64,
    /// How many of them ended their delivery.
    pub final_refusals: u64,
    /// The error of the last one, without any secret.
    pub error: String,
}

/// A failed attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TargetError {
    /// The id of its event.
    pub event_id: String,
    /// The error, without any secret.
    pub error: String,
    /// When the attempt failed.
    pub at: UnixMillis,
}

/// The last time that RFC 3339 can write.
const LAST: UnixMillis = UnixMillis(253_402_300_799_999);

/// Writes times as RFC 3339. A time outside its years, which an event can claim, is written as the
/// nearest one inside.
impl Serialize for UnixMillis {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_rfc3339_millis((*self).min(LAST).into()))
    }
}

/// Reads times in the form in which they are written.
impl<'de> Deserialize<'de> for UnixMillis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
