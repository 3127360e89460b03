//! How deliveries leave the store: new ones are handed over in memory right
//! after their commit, the rest is asked for when it is due, and every outcome
//! is written back.
//!
//! Of the deliveries that share a lane the store lets out only the one whose
//! turn it is, so a dispatcher may send whatever it gets at once. When that one
//! is settled, the next of its lane is handed over like a new one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use tokio::sync::{Notify, mpsc};

use super::commands::Commands;
use super::error::RecordError;
use super::turns::Turns;
use super::types::{Begun, CutOff, Due, Job, Search, Settlement, TargetId};
use super::writer::{Command, Reply};
use crate::domain::delivery::OnUncertain;

/// Deliveries handed over in memory and not yet taken, for each target. What
/// does not fit is found in the store again.
const HANDOFF_DELIVERIES: usize = 512;

/// The same in bytes of event bodies.
const HANDOFF_BYTES: usize = 8 << 20;

/// One target's handle on the store. Of two handles on the same target, as there
/// are when its route was replaced, only one may be in use: the earlier until all
/// that was started by it is settled, the later from then on.
#[derive(Debug)]
pub struct Outbox {
    arrivals: Arrivals,
    ledger: Ledger,
}

/// Where a target's deliveries are asked for and their outcomes written. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ledger {
    target: TargetId,
    commands: Commands,
    turns: Arc<Turns>,
}

impl Outbox {
    pub(super) const fn new(
        target: TargetId,
        commands: Commands,
        turns: Arc<Turns>,
        arrivals: Arrivals,
    ) -> Self {
        Self { arrivals, ledger: Ledger { target, commands, turns } }
    }

    /// The two halves: what arrives, and where outcomes go.
    pub fn split(self) -> (Arrivals, Ledger) {
        (self.arrivals, self.ledger)
    }
}

impl Ledger {
    /// Finds deliveries that are due. Whatever is found has been offered to
    /// [`Arrivals`] before this resolves, if it was going to be: a caller that
    /// empties those first and passes over what it finds twice sends nothing twice.
    ///
    /// # Errors
    /// [`RecordError`] if the store cannot be read.
    pub async fn due(&self, search: Search) -> Result<Due, RecordError> {
        self.ask(|target, reply| Command::Due { target, search, reply }).await
    }

    /// Whether `job` may be started now. No, if an event that comes before it has
    /// arrived since, which is let out first, or a person has decided otherwise:
    /// what is still to be sent is found again. After a yes, the
    /// attempt must end in [`settle`](Self::settle) or [`not_started`](Self::not_started).
    pub fn start(&self, job: &Job) -> bool {
        self.turns.start(job.sequence)
    }

    /// Says that `job` was not started after all.
    pub fn not_started(&self, job: &Job) {
        self.turns.end(job.sequence);
    }

    /// Writes that an attempt is about to go out. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if that was not written; then the attempt must not be made.
    pub async fn begin(&self, attempt: Begun) -> Result<(), RecordError> {
        self.ask(|target, reply| Command::Begin { target, attempt, reply }).await
    }

    /// Writes what attempts came to, as one. Resolves after the commit.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<(), RecordError> {
        self.ask(|target, reply| Command::Settle { target, settlements, reply }).await
    }

    /// Decides, at start, what becomes of attempts that were on the wire when
    /// the process ended. Answers which they were.
    ///
    /// # Errors
    /// [`RecordError`] if nothing was written; the same may be tried again.
    pub async fn recover(&self, on_uncertain: OnUncertain) -> Result<Vec<CutOff>, RecordError> {
        self.ask(|target, reply| Command::Recover { target, on_uncertain, reply }).await
    }

    async fn ask<T>(&self, command: impl FnOnce(TargetId, Reply<T>) -> Command) -> Result<T, RecordError> {
        self.commands.ask(|reply| command(self.target, reply)).await
    }
}

/// The writer's end of a handoff.
#[derive(Debug)]
pub(super) struct Handoff {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

/// The dispatcher's end of a handoff.
#[derive(Debug)]
pub struct Arrivals {
    jobs: mpsc::Receiver<Job>,
    shared: Arc<Shared>,
    /// Where the predecessor's jobs came from: kept open, since one that closes
    /// says that the store has ended.
    _before: Option<Handoff>,
}

#[derive(Debug, Default)]
struct Shared {
    bytes: AtomicUsize,
    overflowed: AtomicBool,
    overflow: Notify,
}

/// What a dispatcher is woken by.
#[derive(Debug)]
pub enum Arrival {
    /// A delivery to make.
    Job(Job),
    /// Some did not fit, or have become due by a person's hand: ask [`Ledger::due`] once there is room.
    Overflow,
    /// The writer has ended; there will be no more.
    Closed,
}

pub(super) fn handoff() -> (Handoff, Arrivals) {
    let (sender, receiver) = mpsc::channel(HANDOFF_DELIVERIES);
    let shared = Arc::new(Shared::default());
    let arrivals = Arrivals { jobs: receiver, shared: Arc::clone(&shared), _before: None };
    (Handoff { jobs: sender, shared }, arrivals)
}

impl Handoff {
    /// Hands `job` over if it fits; never waits.
    pub(super) fn offer(&self, job: Job) {
        let size = job.event.event.body.len();
        let before = self.shared.bytes.fetch_add(size, Relaxed);
        if before + size <= HANDOFF_BYTES && self.jobs.try_send(job).is_ok() {
            return;
        }
        self.shared.bytes.fetch_sub(size, Relaxed);
        self.wake();
    }

    /// Whether everything handed over has been taken.
    pub(super) fn is_empty(&self) -> bool {
        self.jobs.capacity() == self.jobs.max_capacity()
    }

    /// Has the dispatcher look into the store, as soon as it has room.
    pub(super) fn wake(&self) {
        if !self.shared.overflowed.swap(true, Relaxed) {
            self.shared.overflow.notify_one();
        }
    }
}

impl Arrivals {
    /// The same, with those of `before` open for as long as these are.
    pub(super) fn after(self, before: Handoff) -> Self {
        Self { _before: Some(before), ..self }
    }

    /// Lets go of what has arrived: for whoever begins, and is going to find all
    /// that is still to be done by asking [`Ledger::due`].
    pub fn clear(&mut self) {
        while self.take_ready().is_some() {}
    }

    /// What has arrived already, without waiting.
    pub fn take_ready(&mut self) -> Option<Job> {
        let job = self.jobs.try_recv().ok()?;
        self.shared.bytes.fetch_sub(job.event.event.body.len(), Relaxed);
        Some(job)
    }

    /// The next arrival. Safe to drop and call again: nothing is lost.
    pub async fn next(&mut self) -> Arrival {
        tokio::select! {
            job = self.jobs.recv() => match job {
                Some(job) => {
                    self.shared.bytes.fetch_sub(job.event.event.body.len(), Relaxed);
                    Arrival::Job(job)
                }
                None => Arrival::Closed,
            },
            () = self.shared.overflow.notified() => {
                // Cleared before the caller asks the store, so that what overflows
                // from here on announces itself again.
                self.shared.overflowed.store(false, Relaxed);
                Arrival::Overflow
            }
        }
    }
}
