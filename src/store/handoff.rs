//! The handoff of a target: new deliveries on their way from the committer to the
//! dispatcher, and what operators ask of the dispatcher. Bounded queues in memory.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
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
    /// The request of another replica that this answers, if it is one.
    pub answers: Option<Arc<str>>,
    /// Where the outcome goes, one for each in their order.
    pub reply: oneshot::Sender<Result<Vec<Acted>, RecordError>>,
}

/// The committer's end of a handoff.
#[derive(Debug)]
pub(super) struct JobSender {
    jobs: mpsc::Sender<Arrived>,
    shared: Arc<Shared>,
    /// Whether this process has the target. What is stored while it does not is found by
    /// the process that does.
    is_held: Arc<AtomicBool>,
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
    /// Drops the requests that wait. Who has asked learns that nothing was done.
    pub fn clear(&mut self) {
        while self.take_ready().is_some() {}
    }

    /// Drops whatever is asked for, until this is dropped.
    pub async fn refuse(&mut self) -> Infallible {
        loop {
            drop(self.next().await);
        }
    }

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
pub(super) struct Owners(Arc<Mutex<HashMap<TargetId, Owner>>>);

/// The dispatcher of a target.
#[derive(Clone, Debug)]
struct Owner {
    requests: mpsc::Sender<Request>,
    /// Whether this process has the target.
    is_held: Arc<AtomicBool>,
}

impl Owners {
    /// Passes `acts` to the dispatcher of `target`, which `answers` a request of another
    /// replica. Gives them back if there is none.
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
            // It has ended before it has looked at them, and has done nothing. It may have a
            // successor, behind whose back nothing must be done.
            asked = Some(requests);
        }
    }

    /// Whether `target` has a dispatcher.
    pub(super) fn has(&self, target: TargetId) -> bool {
        self.lock().get(&target).is_some_and(|owner| !owner.requests.is_closed())
    }

    fn set(&self, target: TargetId, owner: Owner) {
        self.lock().insert(target, owner);
    }

    /// Each change is one call: a panic elsewhere leaves nothing half-done.
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<TargetId, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Owner {
    fn has_target(&self) -> bool {
        self.is_held.load(Relaxed)
    }

    /// Whether it is the one that was asked by `requests`.
    fn is(&self, requests: Option<&mpsc::Sender<Request>>) -> bool {
        requests.is_some_and(|requests| requests.same_channel(&self.requests))
    }
}

/// A handoff to the dispatcher of `target`, which is its owner from here on, while the
/// process has the target.
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

    /// Announces new deliveries, without any of them.
    pub(super) fn miss_some(&self) {
        self.shared.missed.fetch_add(1, Relaxed);
        self.shared.wake.notify_one();
    }

    /// Hands `job` over if it fits; never waits.
    pub(super) fn offer(&self, job: Job) {
        let (sequence, lane, rank) = (job.sequence, job.lane, job.rank);
        self.offer_arrived(Arrived { sequence, lane, rank, job: Some(job) });
    }

    /// The same of a delivery that may be without its event.
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
    /// The same, with those of `before` open for as long as these are.
    pub(super) fn after(self, before: JobSender) -> Self {
        Self { _before: Some(before), ..self }
    }

    /// How many new deliveries did not fit. A new delivery that is taken was stored
    /// after all that had been counted when it was handed over.
    pub fn missed(&self) -> u64 {
        self.shared.missed.load(Relaxed)
    }

    /// Drops what has arrived: it is all in the store, to be found there.
    pub fn clear(&mut self) {
        while self.take_ready().is_some() {}
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
    async fn what_a_dispatcher_has_not_looked_at_is_asked_of_its_successor() {
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
    async fn a_dispatcher_that_waits_for_its_lease_refuses_what_is_asked() {
        let (owners, is_held) = (Owners::default(), held());
        let (_jobs, _arrivals, mut requests) = handoff(TARGET, &is_held, &owners);
        tokio::select! {
            refused = owners.ask(TARGET, acts(), None) => assert_eq!(refused, Err(acts())),
            never = requests.refuse() => match never {},
        }
    }
}
