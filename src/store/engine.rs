//! What a store is built on: a database that keeps events and deliveries. All SQL is
//! below this line, and everything above it is shared by the engines.
//!
//! The [committer](super::committer) calls an engine from one thread. It begins, carries
//! out what has queued up, and commits: one group. Verbs take sets. Each may be repeated,
//! with the same effect, after an outcome that is not known.
//!
//! Several processes may share a store. What the owner of a target or a stream writes it
//! writes under its [`Term`]; what other processes have stored is read from the
//! [log](Engine::read_log). In a store of one process the term is constant and the log empty.

mod event_row;
pub mod postgres;
pub(in crate::store) mod read;
pub mod sqlite;

use std::fmt;
use std::sync::Arc;

use super::cluster::LogPage;
use super::counts::{Backlog, BacklogChanges};
use super::error::{ActError, RecordError};
use super::identity::SourceIdentity;
use super::routing::RoutingTable;
use super::types::{
    Act, Acted, Appended, AttemptStarted, Batch, Found, InterruptedAttempt, Key, Search, Settlement,
    TargetId, Term,
};
use super::view::RetryAfter;
use crate::domain::audit::Entry;
use crate::domain::clock::UnixMillis;
use crate::domain::delivery::OnUncertain;
use crate::domain::event::EventId;

/// Up to this much, in milliseconds, an event may have arrived before one that was accepted
/// earlier without a note of it: it is always reckoned with.
const ORDINARY_SKEW_MS: i64 = 5 * 60 * 1000;

/// Why an engine did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    /// This cannot be carried out; other work can.
    #[error("{0}")]
    Rejected(String),
    /// Another process owns what this is about; other work can be carried out.
    #[error("another process has taken it over")]
    Superseded,
    /// The database does not work now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<EngineError> for RecordError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Superseded => Self::Superseded,
            EngineError::Rejected(_) | EngineError::Unavailable(_) => Self::Unavailable(error.to_string()),
        }
    }
}

/// By which right the deliveries of a target are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// This process owns their order.
    Owner(Term),
    /// No process does. An engine makes sure of that until the group has ended, and
    /// returns [`EngineError::Superseded`] where one does.
    Unowned,
}

/// What a group consists of, by which an engine chooses how to begin it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// Verbs that only read.
    Reads,
    /// One call of [`Engine::append`].
    Appends,
    /// Anything.
    Writes,
}

/// A piece of retention, small enough to go in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetentionStep {
    /// Removes bodies and attempts of events that arrived before this and whose
    /// deliveries are done.
    Payloads {
        /// The time.
        before: UnixMillis,
    },
    /// Cancels dead deliveries that died before this and that no operator has decided on.
    Dead {
        /// The time.
        before: UnixMillis,
    },
    /// Removes events that arrived before this and whose deliveries are all done.
    Events {
        /// The time.
        before: UnixMillis,
        /// How many of the newest are kept however old they are.
        but_newest: i64,
    },
    /// Looks again at what was passed over and has ended since.
    Recheck,
    /// Removes entries of the audit trail from before this.
    Audit {
        /// The time.
        before: UnixMillis,
        /// How many of the newest of each kind are kept at most, however new the others are.
        newest: i64,
    },
    /// Gives pages that hold nothing back to the file system.
    Vacuum,
}

/// What a piece of retention came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Retained {
    /// Whether there is more of it.
    pub(super) more: bool,
    /// How many dead deliveries were cancelled, by the name of their target.
    pub(super) expired: Vec<(Arc<str>, u64)>,
}

/// A database that keeps events and deliveries.
pub(super) trait Engine: fmt::Debug + Send {
    /// Begins a group. One that could not be ended when it failed is ended first.
    fn begin(&mut self, kind: GroupKind) -> Result<(), EngineError>;

    /// Makes the group durable.
    fn commit(&mut self) -> Result<(), EngineError>;

    /// Undoes the group.
    fn roll_back(&mut self) -> Result<(), EngineError>;

    /// Does what is to be done now and then, outside of a group and after its callers
    /// have been answered.
    fn tidy(&mut self);

    /// Makes the log of the database as short as its readers allow, outside of a group.
    fn checkpoint(&mut self);

    /// The sequence of the newest event; 0 for none ever.
    fn newest(&self) -> i64;

    /// Gives every target its number, in their order. Outside of a group.
    fn register(&mut self, targets: &[Arc<str>]) -> Result<Vec<TargetId>, EngineError>;

    /// Counts what is unfinished. Outside of a group.
    fn count(&mut self) -> Result<Backlog, EngineError>;

    /// Stores the events of `batches` that are new, numbers them without a gap, gives each
    /// a pending delivery for every target of `routes` that takes it, notes by which
    /// sources the others came, and moves the cursors. Rejected as a whole if one of them
    /// cannot be stored.
    fn append(
        &mut self,
        batches: &[&Batch],
        routes: &RoutingTable,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Vec<Vec<Appended>>, EngineError>;

    /// The pending deliveries to `targets` of the events `between` these, above the first and up to
    /// the second if there is one, that have
    /// not been attempted, as the group sees them. Empty in a store of one process.
    fn read_log(
        &mut self,
        between: (i64, Option<i64>),
        targets: &[TargetId],
        limit: usize,
    ) -> Result<LogPage, EngineError>;

    /// Notes that an attempt is about to go out. Rejected if the delivery is not pending
    /// or retrying, superseded if the term is over.
    fn claim(&mut self, term: Term, target: TargetId, attempt: AttemptStarted) -> Result<(), EngineError>;

    /// Stores what attempts came to. What was settled before stays as it is. Superseded if
    /// the term is over.
    fn settle(
        &mut self,
        term: Term,
        target: TargetId,
        settlements: &[&Settlement],
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<(), EngineError>;

    /// Decides what becomes of attempts that a process has left on the wire.
    fn recover(
        &mut self,
        authority: Authority,
        target: TargetId,
        on_uncertain: OnUncertain,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Vec<InterruptedAttempt>, EngineError>;

    /// Searches the open deliveries of a target.
    fn search(&mut self, target: TargetId, search: &Search) -> Result<Found, EngineError>;

    /// Finds the number of a target and the sequence of an event, by their names.
    fn find(&mut self, target: &str, id: &EventId) -> Result<Result<Key, ActError>, EngineError>;

    /// Does to deliveries of a target what an operator asks for. None is on the wire.
    fn act(
        &mut self,
        authority: Authority,
        target: TargetId,
        acts: &[Act],
        routes: &RoutingTable,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Vec<Acted>, EngineError>;

    /// Writes the answer to a request of another process, once: returns whether it was
    /// still unanswered, and otherwise has no effect.
    fn answer(&mut self, request: &str, answer: &str) -> Result<bool, EngineError>;

    /// Notes why a target is paused; with no reason, that it is not.
    fn pause(
        &mut self,
        target: &str,
        reason: Option<&str>,
        now: UnixMillis,
    ) -> Result<Result<(), ActError>, EngineError>;

    /// Notes until when a target has asked to be left alone; with no wish, that it has not.
    fn leave_alone(
        &mut self,
        target: &str,
        wish: Option<&RetryAfter>,
    ) -> Result<Result<(), ActError>, EngineError>;

    /// Writes an entry of the audit trail, once for each `key`, which is drawn at random.
    fn audit(&mut self, key: i64, entry: &Entry) -> Result<(), EngineError>;

    /// Does a piece of retention.
    fn retain(
        &mut self,
        step: RetentionStep,
        changes: &mut BacklogChanges,
        now: UnixMillis,
    ) -> Result<Retained, EngineError>;

    /// Which Pepay the events of each source come from, as far as it was noted.
    fn identities(&mut self) -> Result<Vec<SourceIdentity>, EngineError>;

    /// Notes the identity of a source, in place of what was noted of it.
    fn identify(&mut self, identity: &SourceIdentity, now: UnixMillis) -> Result<(), EngineError>;

    /// Forgets the identities of all sources.
    fn forget_identities(&mut self) -> Result<(), EngineError>;

    /// Writes a few bytes, to see that commits work.
    fn beat(&mut self, now: UnixMillis) -> Result<(), EngineError>;
}
