//! The handle of a target. The committer hands over new deliveries in memory right after their
//! commit, the dispatcher searches for the others, and every outcome is written back.
//!
//! This module does not decide which deliveries may be sent and when: the dispatcher of a target
//! owns the order of its deliveries. An operator's action on a delivery goes through the dispatcher
//! too, while there is one.

use std::sync::Arc;

use super::committer::{Group, Settle, Tasks};
use super::engine::{Authority, EngineError};
use super::error::{ActError, RecordError};
use super::lease::Lease;
use super::remote;
use super::routing::{NewOutbox, TargetQueue};
use super::types::{
    Act, ActKind, Acted, AttemptStarted, Found, InterruptedAttempt, Search, Settlement, TargetId, Term,
};
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::delivery::OnUncertain;

pub use super::handoff::{Arrival, JobReceiver, Request, Requests};

/// The handle of one target. A replaced route gives a second handle on the same target. Only one of
/// the two may be in use: the earlier one until all attempts that it has started are settled, the
/// later one from then on.
#[derive(Debug)]
pub struct Outbox {
    /// The lease of the target. Only its holder may use the other fields.
    pub lease: Lease,
    /// The new deliveries.
    pub arrivals: JobReceiver,
    /// The requests of operators. While this receiver is open, the dispatcher alone acts on the
    /// target's deliveries.
    pub requests: Requests,
    /// Searches the deliveries and writes outcomes.
    pub log: DeliveryLog,
    /// The clock of due times, which replicas that share a store agree on.
    pub clock: Clock,
}

/// Searches the deliveries of a target and writes their outcomes. Cheap to clone.
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
    /// Returns a copy that writes under `term`.
    pub fn under(&self, term: Term) -> Self {
        Self { term, ..self.clone() }
    }

    /// Searches the open deliveries. A delivery that was stored before the search either has been
    /// handed to [`JobReceiver`] before this resolves, or is counted there as missed.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot be read.
    pub async fn search(&self, search: Search) -> Result<Found, RecordError> {
        let target = self.target;
        self.tasks.read(move |group| group.engine.search(target, &search)).await
    }

    /// Carries out `acts` of an operator. Resolves after the commit. None of their deliveries may
    /// be on the wire; `refused` are the results for those that are. `answers` is the request of
    /// another replica that is answered in the same transaction, if there is one.
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
            let mut acted = carry_out(group, authority, target, &acts)?;
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

    /// Writes that an attempt begins. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; then the attempt must not be made.
    pub async fn begin(&self, attempt: AttemptStarted) -> Result<(), RecordError> {
        let (term, target) = (self.term, self.target);
        self.tasks.write(move |group| group.engine.claim(term, target, attempt)).await
    }

    /// Writes the outcomes of attempts, all or none. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), RecordError> {
        self.tasks.put(|reply| Settle::boxed(self.term, self.target, settlements, reply)).await
    }

    /// Settles the attempts that were on the wire when the last owner's process ended: by
    /// `on_uncertain`, a delivery is retried or held. Returns these attempts.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn recover(&self, on_uncertain: OnUncertain) -> Result<Vec<InterruptedAttempt>, RecordError> {
        let (authority, target) = (Authority::Owner(self.term), self.target);
        let recover = move |group: &mut Group<'_>| {
            group.engine.recover(authority, target, on_uncertain, &mut group.context)
        };
        self.tasks.write(recover).await
    }

    /// Returns the stored end of the target's `Retry-After`, which any process may have stored, if
    /// the header was an answer of `address`: the SHA-256 of a `url`, in hex.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot be read.
    pub async fn retry_after(&self, address: &str) -> Result<Option<UnixMillis>, RecordError> {
        let target = self.target;
        let stored = self.tasks.read(move |group| group.engine.retry_after(target)).await?;
        Ok(stored.filter(|stored| stored.address == address).map(|stored| stored.until))
    }
}

/// Carries out `acts` of an operator on deliveries of `target`, which no process delivers to.
pub(super) async fn act_on_unowned(
    tasks: &Tasks,
    target: TargetId,
    acts: Vec<Act>,
) -> Result<Vec<Acted>, RecordError> {
    tasks.write(move |group| carry_out(group, Authority::Unowned, target, &acts)).await
}

/// Carries out `acts` on deliveries of `target`. No delivery is taken from a target that is
/// configured: its dispatcher may be sending it. It may have been configured again after the acts
/// were chosen.
fn carry_out(
    group: &mut Group<'_>,
    authority: Authority,
    target: TargetId,
    acts: &[Act],
) -> Result<Vec<Acted>, EngineError> {
    let routes = group.context.routes;
    let is_in_use = |act: &Act| match act.kind {
        ActKind::Take(from) => routes.of(from).is_some_and(TargetQueue::is_open),
        _ => false,
    };
    let (in_use, acts): (Vec<Act>, Vec<Act>) = acts.iter().cloned().partition(is_in_use);
    let mut acted = group.engine.act(authority, target, &acts, &mut group.context)?;
    let refused = |act: Act| Acted { sequence: act.sequence, lane: None, result: Err(ActError::InUse) };
    acted.extend(in_use.into_iter().map(refused));
    Ok(acted)
}
