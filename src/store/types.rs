//! What goes into the store and comes out of it: plain values.

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

/// The time during which one process owns the order of a target, or a stream. A later owner
/// has a greater one. A store refuses what is written under a term that is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Term(pub(super) i64);

impl Term {
    /// The one of a store that has a single process.
    pub(super) const SOLE: Self = Self(0);

    /// Its number; 0 where there is a single process.
    pub const fn number(self) -> i64 {
        self.0
    }
}

/// Which delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) target: TargetId,
    pub(super) sequence: i64,
}

/// What a stream has read from Pepay.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events, in Pepay's order.
    pub events: Vec<Received>,
    /// Where the stream stands once they are stored.
    pub cursor: Option<CursorMove>,
}

/// A stream's new position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The configured name of the stream.
    pub stream: Arc<str>,
    /// Where it stands.
    pub position: Position,
    /// What the stream has subscribed to since when, in a form of its own; `None`
    /// leaves what is stored.
    pub history: Option<String>,
    /// Under which the stream is read. A cursor of a term that is over is not moved; the
    /// events are stored.
    pub term: Term,
}

/// What a stream goes on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    /// Where it stands.
    pub position: Position,
    /// What was last stored as its history, if anything was.
    pub history: Option<String>,
}

/// A place in Pepay's order up to which a stream has stored every event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// The last event covered. `None` for an account that held no event at all
    /// when the stream first looked: everything is newer than this.
    pub event: Option<EventId>,
    /// When that event was created, or when the account was found empty, in
    /// Unix seconds: what `created[gte]` starts from once Pepay has forgotten the id.
    pub created: i64,
}

/// What became of a recorded event.
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

/// An event as it was stored, or found.
#[derive(Clone, Debug)]
pub(super) struct Appended {
    /// What became of it.
    pub(super) recorded: Recorded,
    /// Its sequence, if it is new.
    pub(super) sequence: i64,
    /// The queues of the targets that it goes to, by index, each with its lane there.
    pub(super) queues: Vec<(usize, Option<i64>)>,
    /// How far its source was behind the first, if it came by this one for the first time.
    pub(super) lag: Option<Duration>,
    /// Whether it is a conflict that was not known.
    pub(super) news: bool,
}

/// What the store holds of an event that is listed somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// Nothing.
    Missing,
    /// The same, as far as is known: an earlier version stored no digest.
    Same,
    /// Another event under its id.
    Different,
}

/// The place of a delivery in its lane: its rank and its sequence.
pub type LaneRank = (i64, i64);

/// Which share of a target's places a delivery is sent in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A first attempt of an event that was accepted a moment ago, while nothing
    /// of its object waited.
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
    /// The value that `of` has for each kind.
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

/// An event that work on many is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) sequence: i64,
    /// One number for what goes one at a time: for the events of an object or an order.
    pub(super) group: i64,
}

/// The deliveries of a removed target that pass a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Movable {
    /// Those that the other target takes.
    pub(super) taken: Vec<Candidate>,
    /// How many it does not take.
    pub(super) not_taken: u64,
}

/// What an operator asks for about one delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// The delivery's event.
    pub sequence: i64,
    /// What to do.
    pub kind: ActKind,
}

/// What an operator asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActKind {
    /// Do this to a delivery, if it is in one of the states.
    Apply(Action, Arc<[State]>),
    /// Send an event again to a target that it has ended for, or for the first time.
    Replay,
    /// Send an event for the first time to a target that it has never had a delivery to.
    Offer,
    /// Take over the unfinished delivery of an event to another target, which has no
    /// dispatcher.
    Take(TargetId),
}

/// What became of an [`Act`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acted {
    /// The delivery's event.
    pub sequence: i64,
    /// The lane in which the delivery is, or was.
    pub lane: Option<i64>,
    /// How often it has been replayed, or why nothing was done.
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
    /// Whether an operator has had it tried anew: it lay dead, held or waiting before.
    pub renewed: bool,
    /// What to deliver.
    pub event: Arc<Received>,
    /// The lane that it shares with others, if it waits for any.
    pub lane: Option<i64>,
    /// Its rank in that lane.
    pub rank: i64,
}

/// An attempt that has ended, and what follows from it.
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
    /// What becomes of the delivery.
    pub next: Next,
}

impl Job {
    /// What the delivery is about, as far as it is known here: one number for all
    /// deliveries of a lane, else one for each delivery.
    pub fn subject(&self) -> i64 {
        self.lane.unwrap_or(self.sequence)
    }

    /// The settlement of this delivery's next attempt, to be filled in further.
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
    /// The lane that it shares with others, if it waits for any.
    pub lane: Option<i64>,
    /// Its rank in that lane.
    pub rank: i64,
    /// The delivery; `None` if it was too much to hand over.
    pub job: Option<Job>,
}
