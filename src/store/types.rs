//! The values that the handles of the store take and return.

mod search;

use std::sync::Arc;
use std::time::Duration;

use super::error::ActError;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::{Next, State};
use crate::domain::event::{EventId, Received, Source};
use crate::domain::operator::Action;

pub use search::{Found, FoundLane, FoundRest, Lookup, Scan, Scanned, Search};

/// A target's number in the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TargetId(pub(super) i64);

/// The number of the ownership of a target's order, or of a stream, by one process. A later owner
/// has a greater term. The store refuses a write under a term that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub(super) i64);

impl Term {
    /// The constant term of a store that has a single process.
    pub(super) const SOLE: Self = Self(0);

    /// Returns the number; 0 for a store that has a single process.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// The key of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) target: TargetId,
    pub(super) sequence: i64,
}

/// Events of a source, and the cursor of a stream that moves with them.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events, in Pepay's order.
    pub events: Vec<Received>,
    /// The stream's cursor after they are stored; `None` leaves it unchanged.
    pub cursor: Option<CursorMove>,
}

/// The new cursor of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The configured name of the stream.
    pub stream: Arc<str>,
    /// The new position.
    pub position: Position,
    /// The subscriptions of the stream and their beginnings, in a format of the stream's own;
    /// `None` leaves the stored history unchanged.
    pub history: Option<String>,
    /// The term under which the stream is read. If the term is over, the cursor is not moved; the
    /// events are stored.
    pub term: Term,
}

/// The stored state from which a stream resumes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The stored position.
    pub position: Position,
    /// The history that was stored last, if there is one.
    pub history: Option<String>,
}

/// A place in Pepay's order up to which a stream has stored every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last event up to which everything is stored. `None` for an account that had no event
    /// when the stream first looked: every event is newer than this position.
    pub event: Option<EventId>,
    /// When that event was created, or when the account was found empty, in Unix seconds.
    /// `created[gte]` starts from it if Pepay has forgotten the id.
    pub created: i64,
}

/// The result of recording an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is new and now stored.
    New,
    /// Its id was held already.
    Duplicate,
    /// Its id was held already, of an event that says something else. This one is kept
    /// beside that and never delivered.
    Conflict,
}

/// An event of a batch, after it was stored or found.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    /// The result for the source.
    pub(super) recorded: Recorded,
    /// The sequence of the event, if it is new.
    pub(super) sequence: i64,
    /// The targets of the event, as indexes of their queues, each with the lane of its delivery.
    pub(super) queues: Vec<(usize, Option<i64>)>,
    /// How far its source was behind the first source, if this source brings the event for the
    /// first time.
    pub(super) lag: Option<Duration>,
    /// Whether the event is a conflict that was not stored before.
    pub(super) news: bool,
}

/// How an event of Pepay's list compares with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// The id is not stored.
    Missing,
    /// The same event is stored, as far as is known: an earlier version stored no digest.
    Same,
    /// Another event is stored under its id.
    Different,
}

/// The place of a delivery in its lane: its rank and its sequence.
pub type LaneRank = (i64, i64);

/// The kind of a delivery; each kind has a share of a target's places on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A first attempt of an event that was just accepted, with no waiting delivery of its object.
    New,
    /// A first attempt that has waited in the store or in its lane.
    Waiting,
    /// A further attempt.
    Retry,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::New, Self::Waiting, Self::Retry];
}

/// One value for each [`Kind`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PerKind<T>([T; 3]);

impl<T> PerKind<T> {
    /// Calls `of` for each kind.
    pub fn from_fn(of: impl FnMut(Kind) -> T) -> Self {
        Self(Kind::ALL.map(of))
    }
}

impl<T> std::ops::Index<Kind> for PerKind<T> {
    type Output = T;

    fn index(&self, kind: Kind) -> &T {
        &self.0[kind as usize]
    }
}

impl<T> std::ops::IndexMut<Kind> for PerKind<T> {
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind as usize]
    }
}

/// An attempt that is about to go out.
#[derive(Clone, Copy, Debug)]
pub struct AttemptStarted {
    /// The delivery's event.
    pub sequence: i64,
    /// The attempt's number, from 1.
    pub number: u32,
    /// When it begins.
    pub at: UnixMillis,
}

/// An attempt that was on the wire when the process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterruptedAttempt {
    /// The id of its event.
    pub event_id: String,
    /// Its number, from 1.
    pub number: u32,
}

/// An event on which a bulk action works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) sequence: i64,
    /// The group of the event: one number for all events of an object or of an order, which go into
    /// one step of the bulk action.
    pub(super) group: i64,
}

/// The deliveries of a removed target that pass a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Movable {
    /// The deliveries whose events the other target takes.
    pub(super) taken: Vec<Candidate>,
    /// The number of deliveries whose events the other target does not take.
    pub(super) not_taken: u64,
}

/// An operator's action on one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The delivery's event.
    pub sequence: i64,
    /// The action.
    pub kind: ActKind,
}

/// The action of an [`Act`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActKind {
    /// Apply the action to a delivery, if the delivery is in one of the states.
    Apply(Action, Arc<[State]>),
    /// Send an event to a target: again after its delivery has ended, or for the first time.
    Replay,
    /// Send an event to a target that has no delivery of it.
    Offer,
    /// Take over the unfinished delivery of an event from another target, which has no dispatcher.
    Take(TargetId),
}

/// The result of an [`Act`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// The delivery's event.
    pub sequence: i64,
    /// The lane in which the delivery is, or was.
    pub lane: Option<i64>,
    /// The number of replays of the delivery, or why nothing was done.
    pub result: Result<u32, ActError>,
}

/// A delivery to be made.
#[derive(Clone, Debug)]
pub struct Job {
    /// The event's place in the bridge's order of acceptance.
    pub sequence: i64,
    /// Attempts already made.
    pub attempts: u32,
    /// When the first of them began.
    pub first_attempt_at: Option<UnixMillis>,
    /// How often an operator has had it sent again after it had ended.
    pub replays: u32,
    /// Whether an operator has retried or released it, after it was dead, held or waiting for a
    /// retry.
    pub renewed: bool,
    /// The event to deliver.
    pub event: Arc<Received>,
    /// The lane of the delivery, if it has one.
    pub lane: Option<i64>,
    /// Its rank in that lane.
    pub rank: i64,
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settlement {
    /// The delivery's event.
    pub sequence: i64,
    /// The attempt's number, from 1.
    pub number: u32,
    /// When it began.
    pub started_at: UnixMillis,
    /// How long it took.
    pub duration: Duration,
    /// The target's HTTP status, where it answered.
    pub status: Option<u16>,
    /// What went wrong; `None` on success.
    pub error: Option<String>,
    /// The first bytes of a failed answer.
    pub answer: Vec<u8>,
    /// The next state of the delivery.
    pub next: Next,
}

impl Job {
    /// Returns the subject of the delivery, by which the breaker tells objects apart: the lane,
    /// which all deliveries of an object share, or else the sequence.
    pub fn subject(&self) -> i64 {
        self.lane.unwrap_or(self.sequence)
    }

    /// Returns the settlement of this delivery's next attempt, without status, error and answer.
    pub fn settlement(&self, started_at: UnixMillis, duration: Duration, next: Next) -> Settlement {
        Settlement {
            sequence: self.sequence,
            number: self.attempts + 1,
            started_at,
            duration,
            status: None,
            error: None,
            answer: Vec::new(),
            next,
        }
    }
}

/// An event, and when each live source first brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    pub(super) sequence: i64,
    pub(super) received_at: UnixMillis,
    /// The source that was first to bring it, also within one millisecond.
    pub(super) first: Source,
    pub(super) stream: Option<UnixMillis>,
    pub(super) webhook: Option<UnixMillis>,
}

/// A new delivery.
#[derive(Clone, Debug)]
pub struct Arrived {
    /// The event's place in the bridge's order of acceptance.
    pub sequence: i64,
    /// The lane of the delivery, if it has one.
    pub lane: Option<i64>,
    /// Its rank in that lane.
    pub rank: i64,
    /// The delivery with its event; `None` if the queue had no room for the event.
    pub job: Option<Job>,
}
