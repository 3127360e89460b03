//! The frames and pages in memory, and their bounds.

use std::collections::VecDeque;

use crate::domain::event::Received;
use crate::source::backfill::Budget;

/// The bounds of a batch for the store.
const BATCH: Room = Room { frames: 500, bytes: 4 * 1024 * 1024 };

/// The bounds of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The pages that a walk may keep.
    pub walk: Budget,
    /// The frames that may be held while a gap is open.
    pub held: Room,
    /// The live frames that may wait for the store before no more are read.
    pub pending: Room,
}

/// A bound for frames. The last frame may exceed the bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub frames: usize,
    pub bytes: usize,
}

impl Limits {
    pub(super) const DEFAULT: Self = Self {
        walk: Budget::DEFAULT,
        held: Room { frames: 5_000, bytes: 16 * 1024 * 1024 },
        pending: Room { frames: 1_000, bytes: 8 * 1024 * 1024 },
    };
}

/// Frames that were read and are not stored yet, in the order of reading.
#[derive(Debug)]
pub(super) struct Frames {
    room: Room,
    queue: VecDeque<Received>,
    bytes: usize,
}

impl Frames {
    pub(super) const fn new(room: Room) -> Self {
        Self { room, queue: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, frame: Received) {
        self.bytes += frame.event.body.len();
        self.queue.push_back(frame);
    }

    /// Returns the frame that was pushed first.
    pub(super) fn first(&self) -> Option<&Received> {
        self.queue.front()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Returns whether there is no room for another frame.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.room.frames || self.bytes >= self.room.bytes
    }

    /// Takes the next frames for a batch, at least one if there is any.
    pub(super) fn next_batch(&mut self) -> Vec<Received> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH.frames && bytes < BATCH.bytes {
            let Some(frame) = self.queue.pop_front() else { break };
            bytes += frame.event.body.len();
            batch.push(frame);
        }
        self.bytes -= bytes;
        batch
    }

    /// Takes all frames.
    pub(super) fn take(&mut self) -> VecDeque<Received> {
        std::mem::replace(self, Self::new(self.room)).queue
    }
}
