//! An engine is the database of a store. All SQL is in the engines; they share everything above
//! this module.
//!
//! The [committer](super::committer) calls an engine from one thread. It begins a group, carries
//! out the queued commands, and commits. A verb takes a set of values. Each verb may be repeated,
//! with the same effect, after an outcome that is not known.
//!
//! Several processes may share a store. The owner of a target or a stream writes under its
//! [`Term`]. Each process reads the deliveries that others have stored from the
//! [log](Engine::read_log). In a store of one process the term is constant and the log is empty.

mod age;
mod due;
mod event_row;
pub mod postgres;
pub(in crate::store) mod read;
pub mod sqlite;

use std::collections::BTreeMap;
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

/// An event may have arrived by this many milliseconds before one that was accepted earlier.
/// Queries by time always allow for it, and the engine notes only a larger difference.
const ORDINARY_SKEW_MS: i64 = 5 * 60 * 1000;

/// The number of newest attempts that are kept for a delivery.
const ATTEMPTS_KEPT: u32 = 100;

/// The number of entries of the audit trail, of each kind, that one step of retention looks at.
const AUDIT_STEP: i64 = 200;

/// The query for the number of unfinished deliveries, by target and state.
const COUNTS: &str = "SELECT target_id, state, count(*) AS number FROM delivery WHERE settled_at IS NULL \
                      GROUP BY target_id, state \
                      UNION ALL SELECT target_id, 'dead', count(*) FROM delivery WHERE state = 'dead' \
                      GROUP BY target_id";

/// Why an engine did not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EngineError {
    /// The command cannot be carried out; others can.
    #[error("{0}")]
    Rejected(String),
    /// Another process owns the target or the stream of the command; other commands can be carried
    /// out.
    #[error("another process has taken it over")]
    Superseded,
    /// The database has undone the group, since it and another transaction waited for each other.
    /// The same group may be carried out again at once.
    #[error("{0}")]
    Undone(String),
    /// The database does not work now.
    #[error("{0}")]
    Unavailable(String),
}

/// Returns the error of a claim of a delivery in another state than it takes.
fn not_claimable() -> EngineError {
    EngineError::Rejected("the delivery is neither pending nor retrying".to_owned())
}

impl From<EngineError> for RecordError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Superseded => Self::Superseded,
            EngineError::Rejected(_) | EngineError::Undone(_) | EngineError::Unavailable(_) => {
                Self::Unavailable(error.to_string())
            }
        }
    }
}

/// The right by which the deliveries of a target are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Authority {
    /// This process owns the order of the target's deliveries.
    Owner(Term),
    /// No process owns it. The engine makes sure of that until the group has ended, and returns
    /// [`EngineError::Superseded`] if a process owns it.
    Unowned,
}

/// The values that all calls of one group share.
#[derive(Debug)]
pub(super) struct GroupContext<'a> {
    /// The targets to which the group's events go.
    pub(super) routes: &'a RoutingTable,
    /// The time at which the group was begun.
    pub(super) now: UnixMillis,
    /// The changes of the group to the numbers of unfinished deliveries. The calls add to it.
    pub(super) changes: BacklogChanges,
}

impl<'a> GroupContext<'a> {
    /// Creates the context of a group that has changed nothing yet.
    pub(super) fn new(routes: &'a RoutingTable, now: UnixMillis) -> Self {
        Self { routes, now, changes: BacklogChanges::default() }
    }
}

/// The content of a group, by which an engine chooses how to begin it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// Verbs that only read.
    Reads,
    /// One call of [`Engine::append`].
    Appends,
    /// Any verbs.
    Writes,
}

/// A step of retention, small enough to be carried out between other groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RetentionStep {
    /// Removes bodies and attempts of events that arrived before `before` and whose deliveries are
    /// all finished.
    Payloads {
        /// The time.
        before: UnixMillis,
    },
    /// Removes bodies of conflicts that arrived before `before` and whose event has no body any more.
    Conflicts {
        /// The time.
        before: UnixMillis,
    },
    /// Cancels dead deliveries that died before `before` and that no operator has decided on.
    Dead {
        /// The time.
        before: UnixMillis,
    },
    /// Removes events that arrived before `before` and whose deliveries are all finished.
    Events {
        /// The time.
        before: UnixMillis,
        /// The number of the newest events that are kept regardless of their age.
        but_newest: i64,
    },
    /// Looks again at events that a step has passed over and whose deliveries have finished since.
    Recheck,
    /// Removes entries of the audit trail from before `before`.
    Audit {
        /// The time.
        before: UnixMillis,
        /// The number of the newest entries of each kind that are kept at most, even if more are
        /// newer than `before`.
        newest: i64,
    },
    /// Gives free pages back to the file system.
    Vacuum,
}

/// The result of a step of retention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Retained {
    /// Whether the step has more rows to remove.
    pub(super) more: bool,
    /// The number of dead deliveries that were cancelled, by the name of their target.
    pub(super) expired: Vec<(Arc<str>, u64)>,
}

/// The state of a database that has gone on from an older state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rewound {
    /// The sequence of the newest event.
    pub(super) newest: i64,
    /// The present terms of the leases, by name.
    pub(super) terms: BTreeMap<String, Term>,
}

/// A database that keeps events and deliveries.
pub(super) trait Engine: fmt::Debug + Send {
    /// Begins a group. A failed group that could not be ended is ended first.
    fn begin(&mut self, kind: GroupKind) -> Result<(), EngineError>;

    /// Returns the state of the database once, if it has gone on from an older state. The first
    /// group that finds this out returns it after its beginning. Every earlier term has then ended.
    fn rewound(&mut self) -> Option<Rewound> {
        None
    }

    /// Makes the group durable.
    fn commit(&mut self) -> Result<(), EngineError>;

    /// Undoes the group.
    fn roll_back(&mut self) -> Result<(), EngineError>;

    /// Does maintenance from time to time, outside of a group and after its callers have their
    /// results.
    fn tidy(&mut self);

    /// Makes the log of the database as short as its readers allow, outside of a group.
    fn checkpoint(&mut self);

    /// Returns the sequence of the newest event; 0 if there was never one.
    fn newest(&self) -> i64;

    /// Gives every target its number. Returns the numbers in the order of `targets`. Called outside
    /// of a group.
    fn register(&mut self, targets: &[Arc<str>]) -> Result<Vec<TargetId>, EngineError>;

    /// Counts the unfinished deliveries. Called outside of a group.
    fn count(&mut self) -> Result<Backlog, EngineError>;

    /// Stores the new events of `batches` and numbers them without a gap. Gives each a pending
    /// delivery for every target of the context that takes it. Notes the sources of the events that
    /// are stored already, and moves the cursors. The call is rejected as a whole if one event
    /// cannot be stored.
    fn append(
        &mut self,
        batches: &[&Batch],
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<Vec<Appended>>, EngineError>;

    /// Returns the pending deliveries to `targets` that have not been attempted, as the group sees
    /// them, of events with a sequence above the first of `between` and up to the second, if there
    /// is one. Empty in a store of one process.
    fn read_log(
        &mut self,
        between: (i64, Option<i64>),
        targets: &[TargetId],
        limit: usize,
    ) -> Result<LogPage, EngineError>;

    /// Notes that an attempt begins. Rejected if the delivery is not pending or retrying,
    /// superseded if the term is over.
    fn claim(&mut self, term: Term, target: TargetId, attempt: AttemptStarted) -> Result<(), EngineError>;

    /// Stores the outcomes of attempts. An attempt that was settled before stays as it is.
    /// Superseded if the term is over.
    fn settle(
        &mut self,
        term: Term,
        target: TargetId,
        settlements: &[&Settlement],
        context: &mut GroupContext<'_>,
    ) -> Result<(), EngineError>;

    /// Settles attempts that a process has left on the wire: by `on_uncertain`, a delivery is
    /// retried or held. Returns these attempts.
    fn recover(
        &mut self,
        authority: Authority,
        target: TargetId,
        on_uncertain: OnUncertain,
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<InterruptedAttempt>, EngineError>;

    /// Searches the open deliveries of a target.
    fn search(&mut self, target: TargetId, search: &Search) -> Result<Found, EngineError>;

    /// Returns the number of a target and the sequence of an event, by name and id.
    fn find(&mut self, target: &str, id: &EventId) -> Result<Result<Key, ActError>, EngineError>;

    /// Carries out `acts` of an operator on deliveries of a target. None of these is on the wire.
    fn act(
        &mut self,
        authority: Authority,
        target: TargetId,
        acts: &[Act],
        context: &mut GroupContext<'_>,
    ) -> Result<Vec<Acted>, EngineError>;

    /// Writes the answer to a request of another process, once. Returns whether the request was
    /// still unanswered; otherwise the call has no effect.
    fn answer(&mut self, request: &str, answer: &str) -> Result<bool, EngineError>;

    /// Stores why a target is paused; with no `reason`, that it is not.
    fn pause(
        &mut self,
        target: &str,
        reason: Option<&str>,
        now: UnixMillis,
    ) -> Result<Result<(), ActError>, EngineError>;

    /// Stores the `Retry-After` of a target; with no `retry_after`, that it has none.
    fn set_retry_after(
        &mut self,
        target: &str,
        retry_after: Option<&RetryAfter>,
    ) -> Result<Result<(), ActError>, EngineError>;

    /// Returns the stored `Retry-After` of a target.
    fn retry_after(&mut self, target: TargetId) -> Result<Option<RetryAfter>, EngineError>;

    /// Writes an entry of the audit trail, once for each `key`, which is drawn at random.
    fn audit(&mut self, key: i64, entry: &Entry) -> Result<(), EngineError>;

    /// Carries out a step of retention.
    fn retain(
        &mut self,
        step: RetentionStep,
        context: &mut GroupContext<'_>,
    ) -> Result<Retained, EngineError>;

    /// Returns the stored identities of the sources.
    fn identities(&mut self) -> Result<Vec<SourceIdentity>, EngineError>;

    /// Stores the identity of a source, in place of an earlier one.
    fn identify(&mut self, identity: &SourceIdentity, now: UnixMillis) -> Result<(), EngineError>;

    /// Forgets the identities of all sources.
    fn forget_identities(&mut self) -> Result<(), EngineError>;

    /// Writes a few bytes, to check that commits work.
    fn beat(&mut self, now: UnixMillis) -> Result<(), EngineError>;
}
