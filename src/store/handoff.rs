//! The handoff of a target: new deliveries on their way from the committer to the
//! dispatcher, and what operators ask of the dispatcher. Bounded queues in memory.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::error::RecordError;
use super::types::{Act, Acted, Arrived, Job, TargetId};

/// New deliveries handed over and not yet taken, for each target. Of what does not fit
/// the dispatcher learns no more than that there was something.
const HANDOFF: usize = 2048;

/// Bytes of event bodies among them. Beyond this a delivery is handed over without its
/// event, which stays in the store.
const HANDOFF_BYTES: usize = 4 << 20;

/// Requests of operators that wait for a dispatcher.
const REQUESTS: usize = 16;

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
pub(super) struct JobSender {
    jobs: mpsc::Sender<Arrived>,
    shared: Arc<Shared>,
}

/// The dispatcher's end of a handoff.
#[derive(Debug)]
pub struct JobReceiver {
    jobs: mpsc::Receiver<Arrived>,
    shared: Arc<Shared>,
    /// Where the predecessor's jobs came from: kept open, since one that closes
    /// says that the store has ended.
    _before: Option<JobSender>,
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
    /// New deliveries that did not fit: [`JobReceiver::missed`] has changed.
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

    /// Whether `target` has a dispatcher.
    pub(super) fn has(&self, target: TargetId) -> bool {
        self.lock().get(&target).is_some_and(|owner| !owner.is_closed())
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
pub(super) fn handoff(target: TargetId, owners: &Owners) -> (JobSender, JobReceiver, Requests) {
    let (sender, receiver) = mpsc::channel(HANDOFF);
    let (owner, requests) = mpsc::channel(REQUESTS);
    owners.set(target, owner);
    let shared = Arc::new(Shared::default());
    let arrivals = JobReceiver { jobs: receiver, shared: Arc::clone(&shared), _before: None };
    (JobSender { jobs: sender, shared }, arrivals, Requests(requests))
}

impl JobSender {
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

impl JobReceiver {
    /// The same, with those of `before` open for as long as these are.
    pub(super) fn after(self, before: JobSender) -> Self {
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
