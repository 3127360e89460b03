//! The schemas of the statuses of streams, webhook endpoints and targets.

use super::described;
use crate::domain::clock::UnixMillis;
use crate::domain::status::{self, BackfillStatus, GapStatus, Rejection, SeenEvent, StreamPhase};

described! {
    /// The status of a stream, as `/status` shows it.
    struct status::StreamStatus {
        /// The configured name.
        name: String,
        /// Whether a connection is open.
        connected: bool,
        /// The present activity of the stream.
        phase: StreamPhase,
        /// Since when `connected` has had its value.
        since: UnixMillis,
        /// Whether it has been connected since the process started.
        ever_connected: bool,
        /// The id up to which every event is stored.
        #[schema(required)]
        cursor: Option<String>,
        /// The newest event that was stored from this stream.
        #[schema(required)]
        last_event: Option<SeenEvent>,
        /// Connections lost since the process started.
        reconnects: u64,
        /// Why the last connection, or try for one, ended.
        #[schema(required)]
        last_disconnect: Option<String>,
        /// Whether every event between the last two connections is accounted for.
        gap: GapStatus,
        /// Whether sweeps keep finding events that the stream should have brought.
        behind: bool,
        /// The time of creation up to which every event in Pepay's list is stored, by the sweeps.
        #[schema(required)]
        compared_until: Option<UnixMillis>,
        /// Since when connections have ended soon after they were opened, again and again.
        #[schema(required)]
        unsteady_since: Option<UnixMillis>,
        /// The reason why the stream is not healthy, in words for an operator.
        #[schema(required)]
        problem: Option<String>,
        /// The last backfill that an operator asked for since the process started.
        #[schema(required)]
        backfill: Option<BackfillStatus>,
    }

    /// The activity of a stream.
    #[serde(rename_all = "snake_case")]
    enum status::StreamPhase { Connecting, Backfilling, Live, Waiting, Standby, Stopped }

    /// Whether a stream's history has a hole.
    #[serde(tag = "state", rename_all = "snake_case")]
    enum status::GapStatus {
        /// Everything up to the cursor is stored.
        Closed,
        /// The gap is being filled.
        Open {
            /// Since when live events have passed the gap: the list of events has failed for as long as
            /// the gap may hold them back. An event that the gap hides may then come after a later one
            /// of its object. `null` while live events are held back.
            passed_since: Option<UnixMillis>,
        },
        /// The gap is filled with the events that Pepay still has; events between these two may be
        /// missing.
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
    struct status::BackfillStatus {
        /// Whether it is still running.
        running: bool,
        /// Its beginning: a time as RFC 3339, or the id of the event before it.
        from: String,
        /// The number of events read from Pepay's list. An event that is read again counts again.
        read: u64,
        /// The number of these that no source had brought before.
        recorded: u64,
        /// When it was started.
        started_at: UnixMillis,
        /// When it ended.
        #[schema(required)]
        ended_at: Option<UnixMillis>,
        /// While it runs, why it makes no progress; afterwards, why it is incomplete.
        #[schema(required)]
        error: Option<String>,
    }

    /// An event that was seen, and when.
    struct status::SeenEvent {
        /// Its id.
        id: String,
        /// When it was stored.
        at: UnixMillis,
    }

    /// The status of a webhook endpoint, as `/status` shows it.
    struct status::WebhookStatus {
        /// The configured name.
        name: String,
        /// The path at which it listens.
        path: String,
        /// The newest event that came through this endpoint and is stored, whichever source brought it first.
        #[schema(required)]
        last_event: Option<SeenEvent>,
        /// The last refusal.
        #[schema(required)]
        last_rejection: Option<Rejection>,
    }

    /// A refused webhook.
    struct status::Rejection {
        /// The error code of the answer.
        code: String,
        /// When it was refused.
        at: UnixMillis,
        /// The reason, with more detail than the answer has.
        message: String,
        /// The event's id, once the signature has been verified.
        #[schema(required)]
        event_id: Option<String>,
        /// The size of the body in bytes, if it was declared or read.
        #[schema(required)]
        bytes: Option<u64>,
        /// `X-Pepay-Timestamp` less the time of arrival, in seconds, if the request was refused for it.
        #[schema(required)]
        clock_off_seconds: Option<i64>,
        /// Address and port of the other side of the connection: a proxy's, if there is one.
        #[schema(required)]
        peer: Option<String>,
        /// `X-Forwarded-For`, as the request has it: any sender can write it.
        #[schema(required)]
        forwarded_for: Option<String>,
    }

    /// Whether a target is part of the configuration.
    #[serde(rename_all = "snake_case")]
    enum status::TargetState { Configured, Removed }

    /// A target's breaker.
    #[serde(rename_all = "snake_case")]
    enum status::Circuit { Closed, Open, HalfOpen }

    /// When an open circuit lets single requests through.
    struct status::NextProbe {
        /// When a delivery's first attempt may be the next probe.
        first_attempt_at: UnixMillis,
        /// When a further attempt may be the next probe.
        retry_at: UnixMillis,
    }

    /// A target that answers every event with a refusal.
    struct status::Rejecting {
        /// When the first refusal of the present run came.
        since: UnixMillis,
        /// How many refusals there were in a row.
        refusals: u64,
        /// How many of them ended their delivery.
        final_refusals: u64,
        /// The error of the last one, without any secret.
        error: String,
    }

    /// A failed attempt.
    struct status::TargetError {
        /// The id of its event.
        event_id: String,
        /// The error, without any secret.
        error: String,
        /// When the attempt failed.
        at: UnixMillis,
    }
}
