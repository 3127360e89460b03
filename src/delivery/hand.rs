//! The deliveries a dispatcher has in hand: a short queue in memory for each
//! kind, and the memory of what is on its way, so that nothing is taken twice.

use std::collections::{HashSet, VecDeque};

use crate::store::types::{Job, Kind, PerKind};

/// Deliveries of `kind` waiting in memory, at most. The others wait in the store.
const fn capacity(kind: Kind) -> usize {
    match kind {
        Kind::New | Kind::Waiting => 128,
        // What is behind others here was due before what has fallen due since.
        Kind::Retry => 32,
    }
}

/// Bytes of the bodies of one kind beyond which no more are taken.
const CAPACITY_BYTES: usize = 3 << 20;

/// What one dispatcher has taken and not yet finished.
#[derive(Debug, Default)]
pub(super) struct Hand {
    queues: PerKind<Queue>,
    /// The sequences of those that wait, are on the wire, or are being settled.
    known: HashSet<i64>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Job>,
    /// Bytes of the bodies of those that wait.
    bytes: usize,
}

impl Queue {
    fn remove(&mut self, index: usize) -> Option<Job> {
        let job = self.waiting.remove(index)?;
        self.bytes -= job.event.event.body.len();
        Some(job)
    }

    fn push(&mut self, job: Job) {
        self.bytes += job.event.event.body.len();
        self.waiting.push_back(job);
    }
}

impl Hand {
    /// Takes `job`. One that waits already is replaced, since an operator may have
    /// changed it meanwhile; one that is on its way is left alone.
    pub(super) fn take(&mut self, job: Job) {
        if !self.known.insert(job.sequence) {
            let is_waiting = Kind::ALL.into_iter().find_map(|kind| {
                let queue = &mut self.queues[kind];
                let index = queue.waiting.iter().position(|one| one.sequence == job.sequence)?;
                queue.remove(index)
            });
            if is_waiting.is_none() {
                return;
            }
        }
        self.queues[job.kind].push(job);
    }

    /// The next of `kind` to be sent. It stays known until it is [finished](Self::finish).
    pub(super) fn next(&mut self, kind: Kind) -> Option<Job> {
        self.queues[kind].remove(0)
    }

    /// The delivery to try a troubled target with: of those that are `fresh`, or of
    /// the retries, the first that is about something else than what is in `tried`.
    /// Where there is no other, the first.
    pub(super) fn probe(&mut self, fresh: bool, tried: impl Fn(i64) -> bool) -> Option<Job> {
        let kinds: &[Kind] = if fresh { &[Kind::New, Kind::Waiting] } else { &[Kind::Retry] };
        let untried = kinds.iter().find_map(|kind| {
            let waiting = &self.queues[*kind].waiting;
            Some((*kind, waiting.iter().position(|job| !tried(job.subject()))?))
        });
        let first = || kinds.iter().find(|kind| self.has(**kind)).map(|kind| (*kind, 0));
        let (kind, index) = untried.or_else(first)?;
        self.queues[kind].remove(index)
    }

    /// Lets go of a delivery whose outcome is written, or that was not sent.
    pub(super) fn finish(&mut self, sequence: i64) {
        self.known.remove(&sequence);
    }

    /// Whether any of `kind` waits to be sent.
    pub(super) fn has(&self, kind: Kind) -> bool {
        !self.queues[kind].waiting.is_empty()
    }

    /// Whether there is room for another of `kind`.
    pub(super) fn has_room(&self, kind: Kind) -> bool {
        let queue = &self.queues[kind];
        queue.waiting.len() < capacity(kind) && queue.bytes < CAPACITY_BYTES
    }

    /// How many of `kind` to ask the store for; zero while its queue is more than
    /// half full. Half the queue of the new ones is left to those that arrive in memory.
    pub(super) fn appetite(&self, kind: Kind) -> usize {
        let queue = &self.queues[kind];
        let asked = if kind == Kind::New { capacity(kind) / 2 } else { capacity(kind) };
        let is_half_full = queue.waiting.len() > asked / 2 || queue.bytes > CAPACITY_BYTES / 2;
        if is_half_full { 0 } else { asked - queue.waiting.len() }
    }

    /// Everything in hand.
    pub(super) fn known(&self) -> &HashSet<i64> {
        &self.known
    }
}
