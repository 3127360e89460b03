//! The handoff of a target: bounded queues in memory that bring new deliveries from the committer,
//! and requests of operators, to the dispatcher.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc, oneshot};

use super::error::RecordError;
use super::types::{Act, Acted, Arrived, Job, TargetId};

/// The largest number of new deliveries in the queue of a target. For a delivery that does not fit,
/// the dispatcher learns only that one was missed.
const HANDOFF: usize = 2048;

/// The largest number of bytes of event bodies in the queue. A delivery beyond it is handed over
/// without its event, which stays in the store.
const HANDOFF_BYTES: usize = 4 << 20;

/// The largest number of operators' requests that wait for a dispatcher.
const REQUESTS: usize = 16;

/// A request of an operator to a dispatcher.
#[derive(Debug)]
pub struct Request {
    /// The actions to carry out.
    pub acts: Vec<Act>,
    /// The id of the request of another replica that the result answers, if there is one.
    pub answers: Option<Arc<str>>,
    /// Takes the results, one for each action and in their order.
    pub reply: oneshot::Sender<Result<Vec<Acted>, RecordError>>,
}

/// The committer's end of a handoff.
#[derive(Debug)]
pub(super) struct JobSender {
    jobs: mpsc::Sender<Arrived>,
    shared: Arc<Shared>,
    /// Whether this process holds the target's lease.
    is_held: Arc<AtomicBool>,
}

/// The dispatcher's end of a handoff.
#[derive(Debug)]
pub struct JobReceiver {
    jobs: mpsc::Receiver<Arrived>,
    shared: Arc<Shared>,
    /// The sender of the predecessor's queue. It is kept open, since a closed queue tells the
    /// dispatcher that the store has ended.
    _before: Option<JobSender>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    missed: AtomicU64,
    wake: Notify,
}

/// An event that wakes a dispatcher.
#[derive(Debug)]
pub enum Arrival {
    /// A new delivery.
    New(Arrived),
    /// New deliveries that did not fit: [`JobReceiver::missed`] has changed.
    Missed,
    /// The committer has ended; there will be no more deliveries.
    Closed,
}

/// The receiver of operators' requests to the dispatcher of a target.
#[derive(Debug)]
pub struct Requests(mpsc::Receiver<Request>);

impl Requests {
    /// Drops the waiting requests. Their callers learn that nothing was done.
    pub fn clear(&mut self) {
        while self.take_ready().is_some() {}
    }

    /// Drops every request, until this future is dropped.
    pub async fn refuse(&mut self) -> Infallible {
        loop {
            drop(self.next().await);
        }
    }

    /// Returns a waiting request, if there is one.
    pub fn take_ready(&mut self) -> Option<Request> {
        self.0.try_recv().ok()
    }

    /// Returns the next request; never resolves once there can be no more. Cancel safe: no request
    /// is lost.
    pub async fn next(&mut self) -> Request {
        match self.0.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }
}

/// The dispatchers that own the order of a target's deliveries, by target.
#[derive(Clone, Debug, Default)]
pub(super) struct Owners(Arc<Mutex<HashMap<TargetId, Owner>>>);

/// The dispatcher of a target.
#[derive(Clone, Debug)]
struct Owner {
    requests: mpsc::Sender<Request>,
    /// Returns whether this process holds the target's lease.
    is_held: Arc<AtomicBool>,
}

impl Owners {
    /// Passes `acts` to the dispatcher of `target`, and returns its results. `answers` is the
    /// request of another replica that they answer, if there is one. Returns `acts` if the target
    /// has no dispatcher.
    pub(super) async fn ask(
        &self,
        target: TargetId,
        acts: Vec<Act>,
        answers: Option<Arc<str>>,
    ) -> Result<Result<Vec<Acted>, RecordError>, Vec<Act>> {
        let mut asked: Option<mpsc::Sender<Request>> = None;
        loop {
            let owner = self.lock().get(&target).cloned();
            let owner = owner.filter(|owner| owner.has_target() && !owner.is(asked.as_ref()));
            let Some(Owner { requests, .. }) = owner else { return Err(acts) };
            let (reply, outcome) = oneshot::channel();
            let request = Request { acts: acts.clone(), answers: answers.clone(), reply };
            if requests.send(request).await.is_ok()
                && let Ok(acted) = outcome.await
            {
                return Ok(acted);
            }
            // The dispatcher has ended before it read the request, and has done nothing. It may
            // have a successor: then only the successor may act.
            asked = Some(requests);
        }
    }

    /// Returns whether `target` has a dispatcher.
    pub(super) fn has(&self, target: TargetId) -> bool {
        self.lock().get(&target).is_some_and(|owner| !owner.requests.is_closed())
    }

    fn set(&self, target: TargetId, owner: Owner) {
        self.lock().insert(target, owner);
    }

    /// Each change is one call, so a panic elsewhere leaves no half-done change.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TargetId, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner {
    fn has_target(&self) -> bool {
        self.is_held.load(Relaxed)
    }

    /// Returns whether `requests` is the channel to this dispatcher.
    fn is(&self, requests: Option<&mpsc::Sender<Request>>) -> bool {
        requests.is_some_and(|requests| requests.same_channel(&self.requests))
    }
}

/// Opens a handoff to a dispatcher of `target`. The dispatcher is the owner from now on, while the
/// process holds the target's lease.
pub(super) fn handoff(
    target: TargetId,
    is_held: &Arc<AtomicBool>,
    owners: &Owners,
) -> (JobSender, JobReceiver, Requests) {
    let (sender, receiver) = mpsc::channel(HANDOFF);
    let (asking, requests) = mpsc::channel(REQUESTS);
    owners.set(target, Owner { requests: asking, is_held: Arc::clone(is_held) });
    let shared = Arc::new(Shared::default());
    let arrivals = JobReceiver { jobs: receiver, shared: Arc::clone(&shared), _before: None };
    (JobSender { jobs: sender, shared, is_held: Arc::clone(is_held) }, arrivals, Requests(requests))
}

impl JobSender {
    /// Whether this process has the target.
    pub(super) fn is_held(&self) -> bool {
        self.is_held.load(Relaxed)
    }

    /// Tells the dispatcher that deliveries were missed.
    pub(super) fn miss_some(&self) {
        self.shared.missed.fetch_add(1, Relaxed);
        self.shared.wake.notify_one();
    }

    /// Hands `job` over if it fits into the queue; never waits.
    pub(super) fn offer(&self, job: Job) {
        let (sequence, lane, rank) = (job.sequence, job.lane, job.rank);
        self.offer_arrived(Arrived { sequence, lane, rank, job: Some(job) });
    }

    /// Hands `arrived` over, with its event if that fits; never waits.
    pub(super) fn offer_arrived(&self, arrived: Arrived) {
        if !self.is_held() {
            return;
        }
        let Arrived { sequence, lane, rank, job } = arrived;
        let size = job.as_ref().map_or(0, |job| job.event.event.body.len());
        let fits = self.shared.bytes.fetch_add(size, Relaxed) + size <= HANDOFF_BYTES;
        if !fits {
            self.shared.bytes.fetch_sub(size, Relaxed);
        }
        let arrived = Arrived { sequence, lane, rank, job: job.filter(|_| fits) };
        if let Err(error) = self.jobs.try_send(arrived) {
            if fits {
                self.shared.bytes.fetch_sub(size, Relaxed);
            }
            if matches!(error, mpsc::error::TrySendError::Full(_)) {
                self.miss_some();
            }
        }
    }
}

impl JobReceiver {
    /// Returns the receiver, which keeps the queue of `before` open as long as it lives.
    pub(super) fn after(self, before: JobSender) -> Self {
        Self { _before: Some(before), ..self }
    }

    /// Returns how many times new deliveries did not fit. A delivery in the queue was stored after
    /// all deliveries whose misses were counted when it was handed over.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Relaxed)
    }

    /// Drops the queued deliveries. The store has them all.
    pub fn clear(&mut self) {
        while self.take_ready().is_some() {}
    }

    /// Returns a queued delivery, without waiting.
    pub fn take_ready(&mut self) -> Option<Arrived> {
        let arrived = self.jobs.try_recv().ok()?;
        self.taken(&arrived);
        Some(arrived)
    }

    /// Returns the next arrival. Cancel safe: nothing is lost.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::types::ActKind;

    const TARGET: TargetId = TargetId(1);

    fn acts() -> Vec<Act> {
        vec![Act { sequence: 1, kind: ActKind::Replay }]
    }

    fn held() -> Arc<AtomicBool> {
        Arc::new(AtomicBool::new(true))
    }

    #[tokio::test]
    async fn a_request_that_a_dispatcher_has_not_read_goes_to_its_successor() {
        let (owners, is_held) = (Owners::default(), held());
        let (_jobs, _arrivals, requests) = handoff(TARGET, &is_held, &owners);
        let replaced = async {
            let (_later_jobs, _later_arrivals, mut successor) = handoff(TARGET, &is_held, &owners);
            drop(requests);
            let Request { acts: asked, reply, .. } = successor.next().await;
            assert_eq!(asked, acts());
            reply.send(Ok(Vec::new())).unwrap();
        };
        // The first of the two has asked when the second begins.
        let (acted, ()) = tokio::join!(owners.ask(TARGET, acts(), None), replaced);
        assert_eq!(acted, Ok(Ok(Vec::new())));
    }

    #[tokio::test]
    async fn a_dispatcher_that_waits_for_its_lease_refuses_requests() {
        let (owners, is_held) = (Owners::default(), held());
        let (_jobs, _arrivals, mut requests) = handoff(TARGET, &is_held, &owners);
        tokio::select! {
            refused = owners.ask(TARGET, acts(), None) => assert_eq!(refused, Err(acts())),
            never = requests.refuse() => match never {},
        }
    }
}
