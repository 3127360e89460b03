//! What streams, webhook endpoints and targets say about themselves.

use super::described;
use crate::domain::clock::UnixMillis;
use crate::domain::status::{self, BackfillStatus, GapStatus, Rejection, SeenEvent, StreamPhase};

described! {
    /// A stream, as `/status` shows it.
    struct status::StreamStatus {
        /// The configured name.
        name: String,
        /// Whether a connection is open.
        connected: bool,
        /// What the stream is doing.
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
        /// Whether everything between the last two connections is accounted for.
        gap: GapStatus,
        /// Whether sweeps keep finding events that the stream should have brought.
        behind: bool,
        /// Up to when, by the time of creation, sweeps have found everything that Pepay
        /// lists to be stored.
        #[schema(required)]
        compared_until: Option<UnixMillis>,
        /// Since when connections have ended soon after they were opened, again and again.
        #[schema(required)]
        unsteady_since: Option<UnixMillis>,
        /// What keeps the stream from being healthy, in words for an operator.
        #[schema(required)]
        problem: Option<String>,
        /// The last backfill that an operator asked for since the process started.
        #[schema(required)]
        backfill: Option<BackfillStatus>,
    }

    /// What a stream is doing.
    #[serde(rename_all = "snake_case")]
    enum status::StreamPhase { Connecting, Backfilling, Live, Waiting, Standby, Stopped }

    /// Whether a stream's history has a hole.
    #[serde(tag = "state", rename_all = "snake_case")]
    enum status::GapStatus {
        /// Everything up to the cursor is stored.
        Closed,
        /// Being filled.
        Open {
            /// Since when live events have passed it: the list of events was in trouble for
            /// as long as it may hold them back. Of one object, an event that the gap hides
            /// may then come after a later one. `null` while they are held back.
            passed_since: Option<UnixMillis>,
        },
        /// Filled as far as Pepay still knows; events between these may be missing.
        Unproven {
            /// The last event known to be stored before the hole.
            after: String,
            /// The first event after it.
            before: Option<String>,
            /// When that was found.
            at: UnixMillis,
        },
    }

    /// A backfill that an operator asked for.
    struct status::BackfillStatus {
        /// Whether it goes on still.
        running: bool,
        /// Where it began: a time as RFC 3339, or the id of the event it comes after.
        from: String,
        /// Events read from Pepay's list. One that has to be read again counts again.
        read: u64,
        /// Those of them that no source had brought before.
        recorded: u64,
        /// When it was asked for.
        started_at: UnixMillis,
        /// When it ended.
        #[schema(required)]
        ended_at: Option<UnixMillis>,
        /// While it runs, why it does not get on; then, why it has not brought everything.
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

    /// A webhook endpoint, as `/status` shows it.
    struct status::WebhookStatus {
        /// The configured name.
        name: String,
        /// Where it listens.
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
        /// The error code it was answered with.
        code: String,
        /// When.
        at: UnixMillis,
        /// Why, in more detail than the sender is told.
        message: String,
        /// The event's id, once the signature has been verified.
        #[schema(required)]
        event_id: Option<String>,
        /// Size of the body, in bytes, as far as it was declared or read.
        #[schema(required)]
        bytes: Option<u64>,
        /// `X-Pepay-Timestamp` less the time of arrival, in seconds, where that is what was refused.
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
        /// When a further attempt may be.
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
        /// What the last one said, without any secret.
        error: String,
    }

    /// A failed attempt.
    struct status::TargetError {
        /// The event it was for.
        event_id: String,
        /// What went wrong, without any secret.
        error: String,
        /// When.
        at: UnixMillis,
    }
}
