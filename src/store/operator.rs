//! The operator's handle on the store: shows what is stored, what waits and whether
//! it commits, and does what an operator decides about deliveries.

mod bulk;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;

use super::cluster::Asked;
use super::committer::{Audit, Group, Tasks, stopped, unwritten};
use super::counts::{Counters, Unfinished, percentile};
use super::engine::postgres::peers::{AskError, Peers};
use super::engine::read::{DeliveryTimes, Reader};
use super::error::{ActError, ReadError, RecordError};
use super::handoff::Owners;
use super::outbox::act_on_unowned;
use super::remote;
use super::source_comparison;
use super::types::{Act, ActKind, Acted, Key, TargetId};
use super::view::{
    AuditEntry, Backlog, DeliveryDetail, DeliverySummary, EventDetail, EventSummary, Hold, Latency, Listed,
    Quiet, Races, RetryAfter, Summary, Tally, Usage,
};
use crate::domain::audit::{self, Entry};
use crate::domain::clock::Clock;
use crate::domain::event::EventId;
use crate::domain::operator::{Action, Filter, Page};

/// How many of the newest events are compared by source.
const RACES: i64 = 1000;

/// How often a target is asked for again that is just being handed on, and how long apart.
const HANDED_ON: u32 = 40;
const HANDING_ON: Duration = Duration::from_millis(50);

/// The operator's handle on the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OperatorStore {
    tasks: Tasks,
    owners: Owners,
    reader: Reader,
    counters: Arc<Counters>,
    clock: Clock,
    /// The other replicas, where there may be any.
    pub(super) peers: Arc<OnceLock<Peers>>,
}

impl OperatorStore {
    pub(super) fn new(
        tasks: Tasks,
        owners: Owners,
        reader: Reader,
        counters: Arc<Counters>,
        clock: Clock,
    ) -> Self {
        Self { tasks, owners, reader, counters, clock, peers: Arc::default() }
    }

    /// Commits a small write, the way events are committed.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot commit now, or could not a moment ago.
    pub async fn probe(&self) -> Result<(), RecordError> {
        self.tasks.probe().await
    }

    /// Every target's backlog, by name.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn backlogs(&self) -> Result<Vec<Backlog>, ReadError> {
        let waiting = self.reader.waiting().await?;
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        let backlog = |(id, target, oldest)| {
            let Unfinished { open, held, dead } = self.counters.unfinished(id);
            Backlog { target, open: count(open), oldest, held: count(held), dead: count(dead) }
        };
        Ok(waiting.into_iter().map(backlog).collect())
    }

    /// The store as a whole.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn summary(&self) -> Result<Summary, ReadError> {
        self.reader.summary().await
    }

    /// The events that pass `filter`, newest first. The work of one call is
    /// bounded: it may return a short or empty page with a cursor to go on from.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn events(&self, filter: &Filter, page: &Page) -> Result<Listed<EventSummary>, ReadError> {
        self.reader.events(filter, page).await
    }

    /// Everything about the event `id`; `None` if it is not held.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn event(&self, id: &EventId) -> Result<Option<EventDetail>, ReadError> {
        self.reader.event(id).await
    }

    /// The exact bytes of the event `id`: `None` if it is not held, `Some(None)` if
    /// retention has removed them.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn body(&self, id: &EventId) -> Result<Option<Option<Bytes>>, ReadError> {
        self.reader.body(id).await
    }

    /// The deliveries that pass `filter`, those of the newest event first. Bounded
    /// like [`events`](Self::events).
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn deliveries(
        &self,
        filter: &Filter,
        page: &Page,
    ) -> Result<Listed<DeliverySummary>, ReadError> {
        self.reader.deliveries(filter, page).await
    }

    /// Everything about the delivery of the event `id` to `target`.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn delivery(&self, target: &str, id: &EventId) -> Result<Option<DeliveryDetail>, ReadError> {
        self.reader.delivery(target, id).await
    }

    /// Does `action` to the delivery of the event `id` to `target`. Resolves after
    /// the commit.
    ///
    /// # Errors
    /// [`ActError`]; then nothing has changed.
    pub async fn act(&self, action: Action, target: &str, id: &EventId) -> Result<(), ActError> {
        let kind = ActKind::Apply(action, action.applies_to().into());
        self.act_on_one(kind, target, id).await.map(drop)
    }

    /// Sends the event `id` to `target` again, although that delivery has ended, or
    /// for the first time where there was none. Returns the number of the replay,
    /// from 1.
    ///
    /// # Errors
    /// [`ActError`]; then nothing has changed.
    pub async fn replay(&self, target: &str, id: &EventId) -> Result<u32, ActError> {
        self.act_on_one(ActKind::Replay, target, id).await
    }

    async fn act_on_one(&self, kind: ActKind, target: &str, id: &EventId) -> Result<u32, ActError> {
        let (name, id) = (target.to_owned(), id.clone());
        let key = self.tasks.read(move |group| group.engine.find(&name, &id)).await??;
        let Key { target, sequence } = key;
        let acted = self.carry_out(target, vec![Act { sequence, kind }]).await?;
        acted.into_iter().next().map_or(Err(ActError::NoSuchDelivery), |acted| acted.result)
    }

    /// Passes `acts` to the dispatcher of `target`, which knows what is on the wire,
    /// also if that is another replica's; without one, nothing is.
    async fn carry_out(&self, target: TargetId, mut acts: Vec<Act>) -> Result<Vec<Acted>, RecordError> {
        for _ in 0..HANDED_ON {
            acts = match self.owners.ask(target, acts, None).await {
                Ok(acted) => return acted,
                Err(acts) => acts,
            };
            match act_on_unowned(&self.tasks, target, acts.clone()).await {
                Err(RecordError::Superseded) => {}
                acted => return acted,
            }
            let peers = self.peers.get().ok_or(RecordError::Superseded)?;
            let name = self.target_name(target).await?;
            // One that was given back a moment ago is free now; only another replica is asked.
            if peers.cluster().borrow().has_others() && !peers.holds_target(&name) {
                let answer = peers.ask_target(&name, remote::request(target, &acts)).await;
                let answer = answer.map_err(unanswered)?;
                return remote::read_answer(&answer, &acts).ok_or(RecordError::Superseded);
            }
            // A dispatcher here has ended, or is about to begin.
            tokio::time::sleep(HANDING_ON).await;
        }
        Err(RecordError::Superseded)
    }

    async fn target_name(&self, target: TargetId) -> Result<Arc<str>, RecordError> {
        let targets = self.reader.waiting().await.map_err(unread)?;
        let name = targets.into_iter().find(|(id, ..)| *id == target).map(|(_, name, _)| name);
        name.ok_or(RecordError::Superseded)
    }

    /// Does what another replica asks for about deliveries, and answers in the same commit.
    /// Returns whether it was about deliveries.
    pub async fn serve(&self, asked: &Asked) -> bool {
        let Some((target, acts)) = remote::read_request(&asked.body) else { return false };
        // Without a dispatcher here, the replica that has one by now finds the request as well.
        if let Ok(Err(error)) = self.owners.ask(target, acts, Some(asked.id.as_str().into())).await {
            tracing::debug!(%error, "what another replica asks for was not done");
        }
        true
    }

    /// Writes why `target` is paused or, with no reason, that it was resumed, so that a restart
    /// goes on with it. Does not pause the running dispatcher.
    ///
    /// # Errors
    /// [`ActError::NoSuchTarget`], or [`ActError::Store`] if nothing was written.
    pub async fn set_paused(&self, target: &str, reason: Option<&str>) -> Result<(), ActError> {
        let (target, reason) = (target.to_owned(), reason.map(str::to_owned));
        let pause = move |group: &mut Group<'_>| group.engine.pause(&target, reason.as_deref(), group.now);
        self.tasks.write(pause).await??;
        if let Some(peers) = self.peers.get() {
            peers.tell().await;
        }
        Ok(())
    }

    /// Writes until when `target` has asked to be left alone, so that a restart goes on with
    /// it; with no `wish`, that it has not.
    ///
    /// # Errors
    /// [`ActError::NoSuchTarget`], or [`ActError::Store`] if nothing was written.
    pub async fn set_retry_after(&self, target: &str, wish: Option<RetryAfter>) -> Result<(), ActError> {
        let target = target.to_owned();
        self.tasks.write(move |group| group.engine.leave_alone(&target, wish.as_ref())).await?
    }

    /// Writes an entry to the audit trail, under a `key` that is drawn at random. It is
    /// handed over at once: it is written also if the future is dropped. Resolves after the commit;
    /// a failure is logged and counted.
    ///
    /// # Errors
    /// [`RecordError`] if it was not written.
    pub fn record(&self, key: i64, entry: Entry) -> impl Future<Output = Result<(), RecordError>> + use<> {
        let action = entry.action.clone();
        let handed = self.tasks.hand_over(|reply| Audit::boxed(key, entry, reply));
        if let Err(error) = &handed {
            unwritten(&action, error);
        }
        async { handed?.await.map_err(|_| stopped())? }
    }

    /// The entries of the audit trail that pass `filter`, from the cursor `before` on, the
    /// newest first. Returns where to go on; `None` at the end.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn audit(
        &self,
        filter: &audit::Filter,
        before: Option<i64>,
        limit: u32,
    ) -> Result<(Vec<AuditEntry>, Option<i64>), ReadError> {
        let limit = usize::try_from(limit.clamp(1, Page::LARGEST)).unwrap_or(1);
        let mut found = self.reader.audit(filter, before, limit + 1).await?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        let next = found.last().filter(|_| has_more).map(|last| last.id);
        Ok((found, next))
    }

    /// The targets that are paused or have asked to be left alone, by name.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn holds(&self) -> Result<Vec<Hold>, ReadError> {
        self.reader.holds().await
    }

    /// Which of the live sources was first, over the newest events.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn races(&self) -> Result<Races, ReadError> {
        let seen = self.reader.newest_seen(RACES).await?;
        Ok(source_comparison::races(&seen, self.clock.now()))
    }

    /// How long the newest events took to be delivered, by target; a target
    /// without any is left out.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn latencies(&self) -> Result<Vec<Latency>, ReadError> {
        let latency = |times: DeliveryTimes| {
            let DeliveryTimes { target, taken: mut times, since } = times;
            times.sort_unstable();
            Some(Latency {
                target,
                since: since?,
                count: u64::try_from(times.len()).unwrap_or(u64::MAX),
                p50_ms: percentile(&times, 50),
                p99_ms: percentile(&times, 99),
            })
        };
        Ok(self.reader.delivery_times().await?.into_iter().filter_map(latency).collect())
    }

    /// The size of the store, and what its disk has left.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read or its disk does not say.
    pub async fn usage(&self) -> Result<Usage, ReadError> {
        self.reader.usage().await
    }

    /// What has been counted since the process started.
    pub fn tally(&self) -> Tally {
        self.counters.tally()
    }

    /// Blocks all reads until the returned value is dropped.
    #[cfg(test)]
    pub(crate) async fn hold_reads(&self) -> impl Sized + use<> {
        self.reader.hold().await
    }

    /// Has every read from here on fail.
    #[cfg(test)]
    pub(crate) async fn fail_reads(&self) {
        self.reader.pool().close().await;
    }

    /// The live sources that bring nothing while the other one does. Empty unless
    /// a [`Comparison`](super::Comparison) is running.
    pub fn quiet(&self) -> Vec<Quiet> {
        self.counters.quiet()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn unread(error: ReadError) -> RecordError {
    RecordError::Unavailable(error.to_string())
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn unanswered(error: AskError) -> RecordError {
    RecordError::Unavailable(error.to_string())
}
