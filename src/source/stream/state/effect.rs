//! What the state machine says to its driver.

use std::time::Duration;

use crate::domain::clock::UnixMillis;
use crate::domain::event::{EventId, Received};
use crate::pepay::rest::ListQuery;
use crate::source::backfill::Hole;
use crate::source::reconcile::Listed;
use crate::store::types::Position;

/// A point in time: on a clock that never jumps, and on the wall.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// Since the stream began to run.
    pub at: Duration,
    /// The time of day.
    pub wall: UnixMillis,
}

/// The machine's answer to "what now".
#[derive(Debug)]
pub enum Poll {
    /// Do this, then ask again.
    Do(Effect),
    /// Nothing until an input arrives or this moment comes, if one is named.
    Wait(Option<Duration>),
}

/// One thing to do. Of each kind, one is under way at a time.
#[derive(Debug)]
pub enum Effect {
    /// Open a connection, resuming after this event; answer with
    /// `opened` or `connect_failed`.
    Connect {
        /// The last event stored.
        since: Option<EventId>,
        /// What to leave out of the subscription.
        narrowing: Narrowing,
    },
    /// Drop the connection; no answer.
    Disconnect(Ending),
    /// Send a ping; no answer.
    Ping,
    /// Ask REST for a page; answer with `page`.
    List {
        /// Which one.
        query: ListQuery,
        /// What to leave out of the filters.
        narrowing: Narrowing,
    },
    /// Ask the store which of these it holds as they are listed; answer with `held`.
    Compare(Vec<Listed>),
    /// Store these with this cursor in one transaction; answer with `recorded`.
    Record {
        /// In Pepay's order.
        events: Vec<Received>,
        /// Where the stream stands once they are stored.
        cursor: Option<Position>,
        /// The history that goes with the cursor, if it has changed.
        history: Option<String>,
    },
    /// Something to log, count and show.
    Tell(Notice),
}

/// How much of what it could ask for a request leaves out, because Pepay has
/// refused it. What is left out is filtered on this side.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Narrowing {
    /// Everything is asked for.
    #[default]
    Full,
    /// Types alone.
    Types,
    /// Nothing.
    Bare,
}

impl Narrowing {
    /// Leaves out more; whether there was more to leave out.
    pub(super) fn widen(&mut self) -> bool {
        let wider = match self {
            Self::Full => Self::Types,
            Self::Types | Self::Bare => Self::Bare,
        };
        std::mem::replace(self, wider) != wider
    }
}

/// Why a connection, or a try for one, ended: the label `reason` of the metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Pepay closed it.
    Closed,
    /// Pepay sent `ws_error`.
    Error,
    /// The network broke it.
    Network,
    /// What arrived was no WebSocket traffic, or larger than a frame may be.
    Protocol,
    /// Nothing was heard for the idle timeout.
    Idle,
    /// The store did not take events for the idle timeout.
    Stalled,
    /// Sweeps kept finding what the stream should have brought.
    Behind,
    /// An operator asked for a new one.
    Operator,
    /// Key or token were refused.
    Refused,
    /// The subscription was refused.
    Rejected,
    /// Too many requests.
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

    /// The label.
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

    /// Why the bridge ended a connection itself.
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

/// Something to log, count or show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The stream may have missed events; REST will tell.
    GapOpened,
    /// Everything up to the newest event is stored, but for what `Unproven` named.
    GapClosed {
        /// Events that REST was the first to bring.
        filled: usize,
        /// Whether there was a hole.
        proven: bool,
    },
    /// Pepay no longer shows a stretch of history.
    Unproven(Hole),
    /// The list has been in trouble for as long as it may hold live events back:
    /// they pass, and the gap stays open.
    HoldEnded {
        /// Frames that were held.
        frames: usize,
        /// The last event up to which everything is stored.
        after: Option<EventId>,
    },
    /// The list shows nothing, although the account has had events.
    ListEmpty,
    /// Pepay's clock and ours are far apart.
    ClockOff {
        /// How far Pepay's is ahead, in milliseconds.
        offset_ms: i64,
    },
    /// Connections end soon after they were opened, again and again.
    ThrownOut {
        /// How many in a row.
        times: u32,
    },
    /// Pepay may have refused what is left out from here on.
    Narrowed {
        /// Of what it is left out.
        what: &'static str,
        /// How much.
        narrowing: Narrowing,
    },
    /// A frame is left out: its event was created before the stream, or what the stream
    /// subscribes to, began.
    Early {
        /// The event.
        id: EventId,
        /// When it was created, in Unix seconds.
        created: i64,
    },
    /// An event of the list is left to the stream: its own fields do not tell whether
    /// the filters let it through.
    Untold,
    /// The connection is one to count on: it lasted, or it is live.
    Steady,
    /// Pepay does not take the cursor; the stream goes on without it.
    CursorRefused,
    /// More frames arrived than can be held: they are dropped and read from REST.
    HoldOverflowed {
        /// How many were dropped.
        frames: usize,
    },
    /// Something was stored.
    Stored {
        /// Its newest event, if it was not the cursor alone.
        newest: Option<EventId>,
    },
    /// A sweep has ended.
    Swept {
        /// Events it took in.
        found: usize,
        /// Whether it ran out of its budget.
        cut_short: bool,
        /// Whether the stream is proven behind.
        behind: bool,
        /// Up to which creation time everything is stored, in Unix seconds.
        compared: Option<i64>,
    },
    /// The manual backfill is over.
    BackfillEnded(Progress),
}

/// How far a backfill has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Events read from the list.
    pub read: u64,
    /// Those of them that were not stored before.
    pub recorded: u64,
    /// Why it does not get on, or has not brought everything.
    pub trouble: Option<String>,
}
