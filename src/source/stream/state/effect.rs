//! The effects and notices of the state machine, for its driver.

use std::time::Duration;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{EventId, Received};
use crate::pepay::rest::ListQuery;
use crate::source::backfill::Hole;
use crate::source::reconcile::Listed;
use crate::store::types::Position;

/// A point in time, by a monotonic clock and by the time of day.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The time since the stream began to run.
    pub at: Duration,
    /// The time of day.
    pub wall: UnixMillis,
}

/// The result of [`Machine::poll`](super::Machine::poll).
#[derive(Debug)]
pub enum Poll {
    /// Carry this out, then poll again.
    Do(Effect),
    /// Wait for an input, or until this time if there is one.
    Wait(Option<Duration>),
}

/// An effect. At most one of each kind is under way at a time.
#[derive(Debug)]
pub enum Effect {
    /// Open a connection that resumes after this event. Ends with `opened` or `connect_failed`.
    Connect {
        /// The last stored event.
        since: Option<EventId>,
        /// The parts of the subscription to leave out.
        narrowing: Narrowing,
    },
    /// Drop the connection. Has no answer.
    Disconnect(Ending),
    /// Send a ping. Has no answer.
    Ping,
    /// Request a page from REST, in place of a request that has no answer yet. Ends with `page`.
    List {
        /// The query of the page.
        query: ListQuery,
        /// The filters to leave out.
        narrowing: Narrowing,
    },
    /// Find out which of these events the store has, with the listed content. Ends with `held`.
    Compare(Vec<Listed>),
    /// Store these events, and move the cursor with the last of them. Ends with `recorded`.
    Record {
        /// The events, in Pepay's order.
        events: Vec<Received>,
        /// The position of the stream once they are stored.
        cursor: Option<Position>,
        /// The history that goes with the cursor, if it has changed.
        history: Option<String>,
    },
    /// Log, count and show this.
    Tell(Notice),
}

/// The parameters that a request leaves out because Pepay has refused them. The bridge itself then
/// filters by them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Narrowing {
    /// No parameter is left out.
    #[default]
    Full,
    /// Only the types are requested.
    Types,
    /// No parameter is requested.
    Bare,
}

impl Narrowing {
    /// Leaves out more. Returns whether there was more to leave out.
    pub(super) fn widen(&mut self) -> bool {
        let wider = match self {
            Self::Full => Self::Types,
            Self::Types | Self::Bare => Self::Bare,
        };
        std::mem::replace(self, wider) != wider
    }
}

/// Why a connection, or a try to connect, ended: the label `reason` of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Pepay closed the connection.
    Closed,
    /// Pepay sent `ws_error`.
    Error,
    /// The network broke the connection.
    Network,
    /// The received bytes were no WebSocket traffic, or a frame was too large.
    Protocol,
    /// Nothing was received for the idle timeout.
    Idle,
    /// The store did not take events for the idle timeout.
    Stalled,
    /// Sweeps kept finding events that the stream should have brought.
    Behind,
    /// An operator asked for a new connection.
    Operator,
    /// The key or the token was refused.
    Refused,
    /// The subscription was refused.
    Rejected,
    /// There were too many requests.
    RateLimited,
    /// Pepay could not answer.
    Unavailable,
    /// Pepay could not be reached.
    Unreachable,
}

impl Ending {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Closed,
        Self::Error,
        Self::Network,
        Self::Protocol,
        Self::Idle,
        Self::Stalled,
        Self::Behind,
        Self::Operator,
        Self::Refused,
        Self::Rejected,
        Self::RateLimited,
        Self::Unavailable,
        Self::Unreachable,
    ];

    /// Returns the label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Error => "error",
            Self::Network => "network",
            Self::Protocol => "protocol",
            Self::Idle => "idle",
            Self::Stalled => "stalled",
            Self::Behind => "behind",
            Self::Operator => "operator",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Unreachable => "unreachable",
        }
    }

    /// Returns why the bridge itself ended a connection.
    pub const fn given_up(self) -> &'static str {
        match self {
            Self::Idle => "nothing was heard within the idle timeout",
            Self::Stalled => "the store took nothing within the idle timeout",
            Self::Operator => "an operator asked for a new connection",
            Self::Behind => "sweeps keep finding events that it should have brought",
            _ => "the bridge gave it up",
        }
    }
}

/// A notice to log, count or show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The stream may have missed events, which a walk of the list finds.
    GapOpened,
    /// Everything up to the newest event is stored, except for holes that `Unproven` named.
    GapClosed {
        /// The number of events that REST was the first to bring.
        filled: usize,
        /// Whether there was no hole.
        proven: bool,
    },
    /// Pepay no longer shows a part of the history.
    Unproven(Hole),
    /// The list has failed for the longest time for which live events are held back. They now pass,
    /// and the gap stays open.
    HoldEnded {
        /// The number of held frames.
        frames: usize,
        /// The last event up to which everything is stored.
        after: Option<EventId>,
    },
    /// The list shows no event, although the account has had events.
    ListEmpty,
    /// Pepay's clock and the clock of this machine differ widely.
    ClockOff {
        /// How far Pepay's clock is ahead, in milliseconds.
        offset_ms: i64,
    },
    /// Several connections in a row have ended soon after they were opened.
    ThrownOut {
        /// The number of connections in a row.
        times: u32,
    },
    /// Pepay may have refused the parameters that are left out from here on.
    Narrowed {
        /// The request that leaves them out.
        what: &'static str,
        /// The parameters that are left out.
        narrowing: Narrowing,
    },
    /// A frame is left out: its event was created before the stream, or before its subscription,
    /// began.
    Early {
        /// The id of the event.
        id: EventId,
        /// The creation time of the event, in Unix seconds.
        created: i64,
    },
    /// An event of the list is left to the stream: its own fields do not say whether it passes the
    /// filters.
    Untold,
    /// The connection is reliable: it has lasted, or it is live.
    Steady,
    /// Pepay rejects the cursor. The stream goes on without it.
    CursorRefused,
    /// More frames arrived than can be held. They are dropped, and read from REST.
    HoldOverflowed {
        /// The number of dropped frames.
        frames: usize,
    },
    /// A batch was stored.
    Stored {
        /// The newest event of the batch; `None` if it moved only the cursor.
        newest: Option<EventId>,
    },
    /// A sweep has ended.
    Swept {
        /// The number of events that the sweep took in.
        found: usize,
        /// Whether the sweep ran out of its budget.
        cut_short: bool,
        /// Whether the stream is proven to be behind.
        behind: bool,
        /// The creation time up to which everything is stored, in Unix seconds.
        compared: Option<i64>,
    },
    /// The manual backfill has ended.
    BackfillEnded(Progress),
}

/// The progress of a backfill.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The number of events that were read from the list.
    pub read: u64,
    /// The number of these that were not stored before.
    pub recorded: u64,
    /// Why it makes no progress, or has not brought everything.
    pub trouble: Option<String>,
}
