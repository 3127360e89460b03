//! The schemas of deliveries, and of the reasons why they wait.

use super::described;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{self, State};
use crate::domain::next_try::{self, WaitsFor};
use crate::store::view::{self, AttemptEntry, DeliverySummary};

described! {
    /// The state of a delivery.
    #[serde(rename_all = "snake_case")]
    #[schema(as = DeliveryState)]
    enum delivery::State { Pending, Sending, Retrying, Held, Delivered, Dead, Closed, Cancelled }

    /// A delivery in a list.
    struct view::DeliverySummary {
        /// The name of the target.
        target: String,
        /// The id of the event.
        event_id: String,
        /// The event's sequence.
        sequence: i64,
        /// The event's type.
        #[serde(rename = "type")]
        kind: String,
        /// The object the event is about, if it names one.
        #[schema(required)]
        object_id: Option<String>,
        /// When the event arrived.
        received_at: UnixMillis,
        /// The state.
        state: State,
        /// Attempts begun.
        attempts: u32,
        /// How often it was sent again by an operator after it had ended.
        replays: u32,
        /// When the next attempt is due, if no earlier delivery of the lane is open.
        #[schema(required)]
        due_at: Option<UnixMillis>,
        /// The id of the event whose delivery is before this one in its lane.
        #[schema(required)]
        waits_for: Option<String>,
        /// When the first attempt began, or when an operator retried the delivery.
        #[schema(required)]
        first_attempt_at: Option<UnixMillis>,
        /// When the delivery ended.
        #[schema(required)]
        settled_at: Option<UnixMillis>,
        /// The HTTP status of the last attempt, if it had one.
        #[schema(required)]
        last_status: Option<u16>,
        /// The error of the last attempt.
        #[schema(required)]
        last_error: Option<String>,
    }

    /// Everything about one delivery.
    struct view::DeliveryDetail {
        /// The delivery.
        #[serde(flatten)]
        delivery: DeliverySummary,
        /// Its attempts, oldest first, as far as they are kept.
        attempt_log: Vec<AttemptEntry>,
    }

    /// An attempt that has ended.
    struct view::AttemptEntry {
        /// Its number, from 1.
        number: u32,
        /// When it began.
        started_at: UnixMillis,
        /// How long it took.
        duration_ms: u64,
        /// The HTTP status, if there was one.
        #[schema(required)]
        status: Option<u16>,
        /// The error; null on success.
        #[schema(required)]
        error: Option<String>,
        /// The beginning of a failed answer.
        #[schema(required)]
        answer: Option<String>,
    }

    /// The reason why a delivery waits, and the end of the wait if it is a time.
    struct next_try::NextTry {
        /// The reason.
        waits_for: WaitsFor,
        /// When the wait ends; null if that is not known.
        #[schema(required)]
        at: Option<UnixMillis>,
        /// The event before it in its lane, if it waits for one.
        #[schema(required)]
        event_id: Option<String>,
    }

    /// The reason why a delivery waits. If there are several, the one that lasts longest.
    #[serde(rename_all = "snake_case")]
    enum next_try::WaitsFor { Place, Time, RetryAfter, Probe, Event, Pause, Operator, Target }
}
