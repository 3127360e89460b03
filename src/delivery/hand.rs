//! The deliveries a dispatcher has in hand: a short queue in memory, and the
//! memory of what is on its way, so that nothing is taken twice.

use std::collections::{HashSet, VecDeque};

use crate::store::outbox::Job;

/// Deliveries waiting in memory, at most. The others wait in the store.
const CAPACITY: usize = 256;

/// Bytes of their bodies beyond which no more are taken.
const CAPACITY_BYTES: usize = 8 << 20;

/// What one dispatcher has taken and not yet finished.
#[derive(Debug, Default)]
pub(super) struct Hand {
    waiting: VecDeque<Job>,
    /// Bytes of the bodies of those that wait.
    bytes: usize,
    /// The sequences of those that wait, are on the wire, or are being settled.
    known: HashSet<i64>,
}

impl Hand {
    /// Takes `job`. One that waits already is replaced, since a person may have
    /// changed it meanwhile; one that is on its way is left alone.
    pub(super) fn take(&mut self, job: Job) {
        if self.known.insert(job.sequence) {
            self.bytes += job.event.event.body.len();
            self.waiting.push_back(job);
        } else if let Some(waiting) = self.waiting.iter_mut().find(|one| one.sequence == job.sequence) {
            *waiting = job;
        }
    }

    /// The next to be sent. It stays known until it is [finished](Self::finish).
    pub(super) fn next(&mut self) -> Option<Job> {
        let job = self.waiting.pop_front()?;
        self.bytes -= job.event.event.body.len();
        Some(job)
    }

    /// Lets go of a delivery whose outcome is written, or that was not sent.
    pub(super) fn finish(&mut self, sequence: i64) {
        self.known.remove(&sequence);
    }

    /// Whether anything waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether there is room for another.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.len() < CAPACITY && self.bytes < CAPACITY_BYTES
    }

    /// How many to ask the store for; zero while the queue is more than half full.
    pub(super) fn appetite(&self) -> usize {
        let more_than_half_full = self.waiting.len() > CAPACITY / 2 || self.bytes > CAPACITY_BYTES / 2;
        if more_than_half_full { 0 } else { CAPACITY - self.waiting.len() }
    }

    /// Everything in hand.
    pub(super) fn known(&self) -> &HashSet<i64> {
        &self.known
    }
}
