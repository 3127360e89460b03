//! How deliveries leave the store: new ones are handed over in memory right after
//! their commit, others are searched for, and every outcome is written back.
//!
//! Which of them may be sent, and when, is not decided here: the dispatcher of a
//! target owns the order of its deliveries. What an operator does to one goes through
//! the dispatcher too, while there is one.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::committer::{Group, Settle, Tasks};
use super::engine::Term;
use super::error::RecordError;
use super::types::{Act, Acted, Arrived, Begun, CutOff, Found, Job, Search, Settlement, TargetId};
use crate::domain::delivery::OnUncertain;

/// New deliveries handed over and not yet taken, for each target. Of what does not fit
/// the dispatcher learns no more than that there was something.
const HANDOFF: usize = 2048;

/// Bytes of event bodies among them. Beyond this a delivery is handed over without its
/// event, which stays in the store.
const HANDOFF_BYTES: usize = 4 << 20;

/// Requests of operators that wait for a dispatcher.
const REQUESTS: usize = 16;

/// One target's handle on the store. Of two handles on the same target, as there
/// are when its route was replaced, only one may be in use: the earlier until all
/// that was started by it is settled, the later from then on.
#[derive(Debug)]
pub struct Outbox {
    arrivals: Arrivals,
    requests: Requests,
    ledger: DeliveryLog,
}

/// Where a target's deliveries are asked for and their outcomes written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DeliveryLog {
    target: TargetId,
    tasks: Tasks,
}

impl Outbox {
    pub(super) fn new(target: TargetId, tasks: Tasks, (arrivals, requests): (Arrivals, Requests)) -> Self {
        Self { arrivals, requests, ledger: DeliveryLog { target, tasks } }
    }

    /// The parts: what arrives, what operators ask for, and where outcomes go. While
    /// there are requests to be taken, the dispatcher alone acts on the target's deliveries.
    pub fn split(self) -> (Arrivals, Requests, DeliveryLog) {
        (self.arrivals, self.requests, self.ledger)
    }
}

impl DeliveryLog {
    /// Searches the open deliveries. What was stored before the search has been handed
    /// to [`Arrivals`] before this resolves, or is counted there as missed.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot be read.
    pub async fn search(&self, search: Search) -> Result<Found, RecordError> {
        let target = self.target;
        self.tasks.read(move |group| group.engine.search(target, &search)).await
    }

    /// Does what an operator asks for. Resolves after the commit. None of the
    /// deliveries may be on the wire.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written.
    pub async fn act(&self, acts: Vec<Act>) -> Result<Vec<Acted>, RecordError> {
        act(&self.tasks, self.target, acts).await
    }

    /// Writes that an attempt is about to go out. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if that was not written; then the attempt must not be made.
    pub async fn begin(&self, attempt: Begun) -> Result<(), RecordError> {
        let target = self.target;
        self.tasks.write(move |group| group.engine.claim(Term::SOLE, target, attempt)).await
    }

    /// Writes what attempts came to, as one. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), RecordError> {
        self.tasks.put(|reply| Settle::boxed((Term::SOLE, self.target), settlements, reply)).await
    }

    /// Decides, at start, what becomes of attempts that were on the wire when
    /// the process ended. Returns which they were.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn recover(&self, on_uncertain: OnUncertain) -> Result<Vec<CutOff>, RecordError> {
        let target = self.target;
        let recover = move |group: &mut Group<'_>| {
            group.engine.recover(Term::SOLE, target, on_uncertain, group.changes, group.now)
        };
        self.tasks.write(recover).await
    }
}

/// Does what operators ask for to deliveries of `target`, none of which is on the wire.
pub(super) async fn act(tasks: &Tasks, target: TargetId, acts: Vec<Act>) -> Result<Vec<Acted>, RecordError> {
    let act =
        move |group: &mut Group<'_>| group.engine.act(target, &acts, group.routes, group.changes, group.now);
    tasks.write(act).await
}

/// What operators ask of a dispatcher.
#[derive(Debug)]
pub struct Request {
    /// What to do.
    pub acts: Vec<Act>,
    /// Where the outcome goes, one for each in their order.
    pub reply: oneshot::Sender<Result<Vec<Acted>, RecordError>>,
}

/// The committer's end of a handoff.
#[derive(Debug)]
pub(super) struct Handoff {
    jobs: mpsc::Sender<Arrived>,
    shared: Arc<Shared>,
}

/// The dispatcher's end of a handoff.
#[derive(Debug)]
pub struct Arrivals {
    jobs: mpsc::Receiver<Arrived>,
    shared: Arc<Shared>,
    /// Where the predecessor's jobs came from: kept open, since one that closes
    /// says that the store has ended.
    _before: Option<Handoff>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    missed: AtomicU64,
    wake: Notify,
}

/// What a dispatcher is woken by.
#[derive(Debug)]
pub enum Arrival {
    /// A new delivery.
    New(Arrived),
    /// New deliveries that did not fit: [`Arrivals::missed`] has changed.
    Missed,
    /// The writer has ended; there will be no more.
    Closed,
}

/// What operators ask of the dispatcher of a target.
#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Request>);

impl Requests {
    /// A request that waits already.
    pub fn take_ready(&mut self) -> Option<Request> {
        self.0.try_recv().ok()
    }

    /// The next request; never resolves once there can be no more. Safe to drop and
    /// call again: nothing is lost.
    pub async fn next(&mut self) -> Request {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

/// The dispatchers that own the order of a target's deliveries, by target.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(Arc<Mutex<HashMap<TargetId, mpsc::Sender<Request>>>>);

impl Owners {
    /// Has `acts` done by the dispatcher of `target`. Gives them back if there is none.
    pub(super) async fn ask(
        &self,
        target: TargetId,
        acts: Vec<Act>,
    ) -> Result<Result<Vec<Acted>, RecordError>, Vec<Act>> {
        let owner = self.lock().get(&target).cloned();
        let Some(owner) = owner else { return Err(acts) };
        let (reply, outcome) = oneshot::channel();
        if let Err(mpsc::error::SendError(request)) = owner.send(Request { acts: acts.clone(), reply }).await
        {
            return Err(request.acts);
        }
        // One that ends before it has looked at them has done nothing.
        outcome.await.map_err(|_| acts)
    }

    fn set(&self, target: TargetId, owner: mpsc::Sender<Request>) {
        self.lock().insert(target, owner);
    }

    /// Each change is one call: a panic elsewhere leaves nothing half-done.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TargetId, mpsc::Sender<Request>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handoff to the dispatcher of `target`, which is its owner from here on.
pub(super) fn handoff(target: TargetId, owners: &Owners) -> (Handoff, Arrivals, Requests) {
    let (sender, receiver) = mpsc::channel(HANDOFF);
    let (owner, requests) = mpsc::channel(REQUESTS);
    owners.set(target, owner);
    let shared = Arc::new(Shared::default());
    let arrivals = Arrivals { jobs: receiver, shared: Arc::clone(&shared), _before: None };
    (Handoff { jobs: sender, shared }, arrivals, Requests(requests))
}

impl Handoff {
    /// Hands `job` over if it fits; never waits.
    pub(super) fn offer(&self, job: Job) {
        let size = job.event.event.body.len();
        let (sequence, lane, rank) = (job.sequence, job.lane, job.rank);
        let fits = self.shared.bytes.fetch_add(size, Relaxed) + size <= HANDOFF_BYTES;
        if !fits {
            self.shared.bytes.fetch_sub(size, Relaxed);
        }
        let arrived = Arrived { sequence, lane, rank, job: fits.then_some(job) };
        if let Err(error) = self.jobs.try_send(arrived) {
            if fits {
                self.shared.bytes.fetch_sub(size, Relaxed);
            }
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                self.shared.missed.fetch_add(1, Relaxed);
                self.shared.wake.notify_one();
            }
        }
    }
}

impl Arrivals {
    /// The same, with those of `before` open for as long as these are.
    pub(super) fn after(self, before: Handoff) -> Self {
        Self { _before: Some(before), ..self }
    }

    /// How many new deliveries did not fit. A new delivery that is taken was stored
    /// after all that had been counted when it was handed over.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Relaxed)
    }

    /// What has arrived already, without waiting.
    pub fn take_ready(&mut self) -> Option<Arrived> {
        let arrived = self.jobs.try_recv().ok()?;
        self.taken(&arrived);
        Some(arrived)
    }

    /// The next arrival. Safe to drop and call again: nothing is lost.
    pub async fn next(&mut self) -> Arrival {
        tokio::select! {
            arrived = self.jobs.recv() => match arrived {
                Some(arrived) => {
                    self.taken(&arrived);
                    Arrival::New(arrived)
                }
                None => Arrival::Closed,
            },
            () = self.shared.wake.notified() => Arrival::Missed,
        }
    }

    fn taken(&self, arrived: &Arrived) {
        if let Some(job) = &arrived.job {
            self.shared.bytes.fetch_sub(job.event.event.body.len(), Relaxed);
        }
    }
}
