//! The handle of the operator: reads the store, carries out actions on deliveries, and tells
//! whether the store commits.

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
    AuditEntry, Backlog, DeliveryDetail, DeliverySummary, EventDetail, EventSummary, Latency, Listed, Quiet,
    Races, RetryAfter, StoredPause, Summary, Tally, Usage,
};
use crate::domain::audit::{self, Entry};
use crate::domain::clock::Clock;
use crate::domain::event::EventId;
use crate::domain::operator::{Action, Filter, Page};

/// How many of the newest events are compared by source.
const RACES: i64 = 1000;

/// How often an action is tried again while its target moves from one owner to the next, and the
/// pause between two tries.
const HANDED_ON: u32 = 40;
const HANDING_ON: Duration = Duration::from_millis(50);

/// The handle of the operator. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OperatorStore {
    pub(super) tasks: Tasks,
    pub(super) owners: Owners,
    pub(super) reader: Reader,
    pub(super) counters: Arc<Counters>,
    pub(super) clock: Clock,
    /// The other replicas, if several processes may share the store.
    pub(super) peers: Arc<OnceLock<Peers>>,
}

impl OperatorStore {
    /// Commits a small write in the same way as events.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot commit now, or could not a moment ago.
    pub async fn probe(&self) -> Result<(), RecordError> {
        self.tasks.probe().await
    }

    /// Returns every target's backlog, by name.
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

    /// Returns the sequences and the engine of the store.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn summary(&self) -> Result<Summary, ReadError> {
        self.reader.summary().await
    }

    /// Returns the events that pass `filter`, newest first. One call does a bounded amount of work:
    /// it may return a short or empty page with a cursor to go on from.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn events(&self, filter: &Filter, page: &Page) -> Result<Listed<EventSummary>, ReadError> {
        self.reader.events(filter, page).await
    }

    /// Returns the event `id` with deliveries, sightings, conflicts and body; `None` if it is not
    /// stored.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn event(&self, id: &EventId) -> Result<Option<EventDetail>, ReadError> {
        self.reader.event(id).await
    }

    /// Returns the exact bytes of the event `id`: `None` if the event is not stored, `Some(None)`
    /// if retention has removed them.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn body(&self, id: &EventId) -> Result<Option<Option<Bytes>>, ReadError> {
        self.reader.body(id).await
    }

    /// Returns the deliveries that pass `filter`, those of the newest event first. The work of one
    /// call is bounded as in [`events`](Self::events).
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

    /// Returns the delivery of the event `id` to `target` with its attempts; `None` if there is
    /// none.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn delivery(&self, target: &str, id: &EventId) -> Result<Option<DeliveryDetail>, ReadError> {
        self.reader.delivery(target, id).await
    }

    /// Applies `action` to the delivery of the event `id` to `target`. Resolves after the commit.
    ///
    /// # Errors
    /// [`ActError`]; then nothing has changed.
    pub async fn act(&self, action: Action, target: &str, id: &EventId) -> Result<(), ActError> {
        let kind = ActKind::Apply(action, action.applies_to().into());
        self.act_on_one(kind, target, id).await.map(drop)
    }

    /// Sends the event `id` to `target`: again if its delivery has ended, or for the first time if
    /// there is none. Returns the number of the replay, from 1.
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

    /// Passes `acts` to the dispatcher of `target`, which knows the attempts on the wire. The
    /// dispatcher may be another replica's. If the target has none, no attempt is on the wire, and
    /// the store carries `acts` out.
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
            // A lease that was given back a moment ago is free now; only a holder that is another
            // replica is asked.
            if peers.cluster().borrow().has_others() && !peers.holds_target(&name) {
                let answer = peers.ask_target(&name, remote::request(target, &acts)).await;
                let answer = answer.map_err(unanswered)?;
                return remote::read_answer(&answer, &acts).ok_or(RecordError::Superseded);
            }
            // A dispatcher of this process has ended, or is about to begin.
            tokio::time::sleep(HANDING_ON).await;
        }
        Err(RecordError::Superseded)
    }

    async fn target_name(&self, target: TargetId) -> Result<Arc<str>, RecordError> {
        let targets = self.reader.waiting().await.map_err(unread)?;
        let name = targets.into_iter().find(|(id, ..)| *id == target).map(|(_, name, _)| name);
        name.ok_or(RecordError::Superseded)
    }

    /// Carries out the actions on deliveries that another replica asks for, and writes the answer
    /// in the same commit. Returns whether the request was about deliveries.
    pub async fn serve(&self, asked: &Asked) -> bool {
        let Some((target, acts)) = remote::read_request(&asked.body) else { return false };
        // If this process has no dispatcher for the target, the replica that has one by now finds
        // the request as well.
        if let Ok(Err(error)) = self.owners.ask(target, acts, Some(asked.id.as_str().into())).await {
            tracing::debug!(%error, "what another replica asks for was not done");
        }
        true
    }

    /// Stores the `reason` why `target` is paused, or with `None` that it is not, so that a restart
    /// goes on with it. Does not pause the running dispatcher.
    ///
    /// # Errors
    /// [`ActError::NoSuchTarget`], or [`ActError::Store`] if nothing was written.
    pub async fn set_paused(&self, target: &str, reason: Option<&str>) -> Result<(), ActError> {
        let (target, reason) = (target.to_owned(), reason.map(str::to_owned));
        let pause =
            move |group: &mut Group<'_>| group.engine.pause(&target, reason.as_deref(), group.context.now);
        self.tasks.write(pause).await??;
        if let Some(peers) = self.peers.get() {
            peers.tell().await;
        }
        Ok(())
    }

    /// Stores the `Retry-After` of `target`, or with `None` that it has none, so that the next
    /// process that delivers to it goes on with it.
    ///
    /// # Errors
    /// [`ActError::NoSuchTarget`], or [`ActError::Store`] if nothing was written.
    pub async fn set_retry_after(
        &self,
        target: &str,
        retry_after: Option<RetryAfter>,
    ) -> Result<(), ActError> {
        let target = target.to_owned();
        self.tasks.write(move |group| group.engine.set_retry_after(&target, retry_after.as_ref())).await?
    }

    /// Writes an entry to the audit trail, under a `key` that is drawn at random. The entry is
    /// queued at the call, so it is written even if the future is dropped. Resolves after the
    /// commit; a failure is logged and counted.
    ///
    /// # Errors
    /// [`RecordError`] if the entry was not written.
    pub fn record(&self, key: i64, entry: Entry) -> impl Future<Output = Result<(), RecordError>> + use<> {
        let action = entry.action.clone();
        let handed = self.tasks.hand_over(|reply| Audit::boxed(key, entry, reply));
        if let Err(error) = &handed {
            unwritten(&action, error);
        }
        async { handed?.await.map_err(|_| stopped())? }
    }

    /// Returns the entries of the audit trail that pass `filter`, from the cursor `before` on,
    /// newest first, and the cursor of the next page; `None` at the end.
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

    /// Returns the targets that are paused, by name.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn pauses(&self) -> Result<Vec<StoredPause>, ReadError> {
        self.reader.pauses().await
    }

    /// Returns how often the stream and the webhooks were first, over the newest events.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub async fn races(&self) -> Result<Races, ReadError> {
        let seen = self.reader.newest_seen(RACES).await?;
        Ok(source_comparison::races(&seen, self.clock.now()))
    }

    /// Returns the time of delivery of the newest events, by target. A target without such an event
    /// is left out.
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

    /// Returns the size of the store and the free space of its disk.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read or the size of its disk is not known.
    pub async fn usage(&self) -> Result<Usage, ReadError> {
        self.reader.usage().await
    }

    /// Returns the counters since the process started.
    pub fn tally(&self) -> Tally {
        self.counters.tally()
    }

    /// Blocks all reads until the returned value is dropped.
    #[cfg(test)]
    pub(crate) async fn hold_reads(&self) -> impl Sized + use<> {
        self.reader.hold().await
    }

    /// Makes every later read fail.
    #[cfg(test)]
    pub(crate) async fn fail_reads(&self) {
        self.reader.pool().close().await;
    }

    /// Returns the sources, stream or webhook, that bring nothing while the other one does. Empty
    /// unless a [`Comparison`](super::Comparison) is running.
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
