//! How deliveries leave the store: new ones are handed over in memory right after
//! their commit, others are searched for, and every outcome is written back.
//!
//! Which of them may be sent, and when, is not decided here: the dispatcher of a
//! target owns the order of its deliveries. What an operator does to one goes through
//! the dispatcher too, while there is one.

use std::sync::Arc;

use super::committer::{Group, Settle, Tasks};
use super::engine::{Authority, EngineError};
use super::error::RecordError;
use super::lease::Lease;
use super::remote;
use super::routing::NewOutbox;
use super::types::{
    Act, Acted, AttemptStarted, Found, InterruptedAttempt, Search, Settlement, TargetId, Term,
};
use crate::domain::clock::Clock;
use crate::domain::delivery::OnUncertain;

pub use super::handoff::{Arrival, JobReceiver, Request, Requests};

/// One target's handle on the store. Of two handles on the same target, as there
/// are when its route was replaced, only one may be in use: the earlier until all
/// that was started by it is settled, the later from then on.
#[derive(Debug)]
pub struct Outbox {
    /// Asks for the target. What follows is for the holder.
    pub lease: Lease,
    /// The new deliveries.
    pub arrivals: JobReceiver,
    /// What operators ask for. While there are requests to be taken, the dispatcher alone
    /// acts on the target's deliveries.
    pub requests: Requests,
    /// Where outcomes go.
    pub log: DeliveryLog,
    /// By which due times are written and read: replicas that share a store agree on it.
    pub clock: Clock,
}

/// Where a target's deliveries are asked for and their outcomes written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeliveryLog {
    target: TargetId,
    term: Term,
    tasks: Tasks,
}

impl Outbox {
    pub(super) fn new(opened: NewOutbox, tasks: Tasks, clock: Clock) -> Self {
        let NewOutbox { target, lease, arrivals, requests } = opened;
        Self { lease, arrivals, requests, log: DeliveryLog { target, term: Term::SOLE, tasks }, clock }
    }
}

impl DeliveryLog {
    /// The same, for the owner of the target under `term`.
    pub fn under(&self, term: Term) -> Self {
        Self { term, ..self.clone() }
    }

    /// Searches the open deliveries. What was stored before the search has been handed
    /// to [`JobReceiver`] before this resolves, or is counted there as missed.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot be read.
    pub async fn search(&self, search: Search) -> Result<Found, RecordError> {
        let target = self.target;
        self.tasks.read(move |group| group.engine.search(target, &search)).await
    }

    /// Does what an operator asks for. Resolves after the commit. None of the
    /// deliveries may be on the wire; `refused` is what became of those that are. All of it
    /// `answers` a request of another replica, if it is one.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written.
    pub async fn act(
        &self,
        acts: Vec<Act>,
        refused: Vec<Acted>,
        answers: Option<Arc<str>>,
    ) -> Result<Vec<Acted>, RecordError> {
        if acts.is_empty() && answers.is_none() {
            return Ok(refused);
        }
        let (authority, target) = (Authority::Owner(self.term), self.target);
        let act = move |group: &mut Group<'_>| {
            let mut acted =
                group.engine.act(authority, target, &acts, group.routes, group.changes, group.now)?;
            acted.extend(refused.iter().cloned());
            if let Some(request) = &answers
                && !group.engine.answer(request, &remote::answer(&acted).to_string())?
            {
                return Err(EngineError::Rejected("the request was answered before".to_owned()));
            }
            Ok(acted)
        };
        self.tasks.write(act).await
    }

    /// Writes that an attempt is about to go out. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if that was not written; then the attempt must not be made.
    pub async fn begin(&self, attempt: AttemptStarted) -> Result<(), RecordError> {
        let (term, target) = (self.term, self.target);
        self.tasks.write(move |group| group.engine.claim(term, target, attempt)).await
    }

    /// Writes what attempts came to, as one. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), RecordError> {
        self.tasks.put(|reply| Settle::boxed((self.term, self.target), settlements, reply)).await
    }

    /// Decides, at start, what becomes of attempts that were on the wire when
    /// the process ended. Returns which they were.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn recover(&self, on_uncertain: OnUncertain) -> Result<Vec<InterruptedAttempt>, RecordError> {
        let (authority, target) = (Authority::Owner(self.term), self.target);
        let recover = move |group: &mut Group<'_>| {
            group.engine.recover(authority, target, on_uncertain, group.changes, group.now)
        };
        self.tasks.write(recover).await
    }
}

/// Does what operators ask for to deliveries of `target`, which no process delivers to.
pub(super) async fn act_on_unowned(
    tasks: &Tasks,
    target: TargetId,
    acts: Vec<Act>,
) -> Result<Vec<Acted>, RecordError> {
    let act = move |group: &mut Group<'_>| {
        group.engine.act(Authority::Unowned, target, &acts, group.routes, group.changes, group.now)
    };
    tasks.write(act).await
}
