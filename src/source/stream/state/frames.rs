//! What may be in memory: frames, and the pages of a walk.

use std::collections::VecDeque;

use crate::domain::event::Received;
use crate::source::backfill::Budget;

/// What goes to the store as one.
const BATCH: Room = Room { frames: 500, bytes: 4 * 1024 * 1024 };

/// Bounds of memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// What a walk may keep.
    pub walk: Budget,
    /// Frames that may be held while a gap is open.
    pub held: Room,
    /// Live frames that may wait for the store before no more are read.
    pub pending: Room,
}

/// Room for frames; the last one may reach beyond the bytes.
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

/// Frames that are read and not yet stored, in the order they were read.
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

    /// The one that was pushed first.
    pub(super) fn first(&self) -> Option<&Received> {
        self.queue.front()
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether there is no room for another.
    pub(super) fn is_full(&self) -> bool {
        self.queue.len() >= self.room.frames || self.bytes >= self.room.bytes
    }

    /// The next frames to store as one, at least one if there is any.
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

    /// All of them; then there are none.
    pub(super) fn take(&mut self) -> VecDeque<Received> {
        std::mem::replace(self, Self::new(self.room)).queue
    }
}
