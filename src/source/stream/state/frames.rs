//! Frames that are read and not yet stored.

use std::collections::{HashSet, VecDeque};

use crate::domain::event::{EventId, Received};
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

/// Live frames on their way to the store, in the order they were read.
#[derive(Debug)]
pub(super) struct Pending {
    room: Room,
    frames: VecDeque<Received>,
    bytes: usize,
}

impl Pending {
    pub(super) const fn new(room: Room) -> Self {
        Self { room, frames: VecDeque::new(), bytes: 0 }
    }

    pub(super) fn push(&mut self, frame: Received) {
        self.bytes += frame.event.body.len();
        self.frames.push_back(frame);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Whether reading has to pause until the store has caught up.
    pub(super) fn is_full(&self) -> bool {
        self.frames.len() >= self.room.frames || self.bytes >= self.room.bytes
    }

    /// The next frames to store as one, at least one if there is any.
    pub(super) fn next_batch(&mut self) -> Vec<Received> {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while batch.len() < BATCH.frames && bytes < BATCH.bytes {
            let Some(frame) = self.frames.pop_front() else { break };
            bytes += frame.event.body.len();
            batch.push(frame);
        }
        self.bytes -= bytes;
        batch
    }

    /// All of them.
    pub(super) fn take(&mut self) -> VecDeque<Received> {
        std::mem::replace(self, Self::new(self.room)).frames
    }
}

/// Frames that wait for a gap to close: what the server replays, and what is new.
#[derive(Debug)]
pub(super) struct Hold {
    room: Room,
    frames: VecDeque<Received>,
    /// Those of `frames` that the walk has not brought.
    ids: HashSet<EventId>,
    bytes: usize,
}

impl Hold {
    pub(super) fn new(room: Room) -> Self {
        Self { room, frames: VecDeque::new(), ids: HashSet::new(), bytes: 0 }
    }

    /// Keeps `frame`, unless it is kept already. `false` if there is no room.
    #[must_use]
    pub(super) fn push(&mut self, frame: Received) -> bool {
        if self.ids.contains(&frame.event.id) {
            return true;
        }
        if self.frames.len() >= self.room.frames || self.bytes >= self.room.bytes {
            return false;
        }
        self.bytes += frame.event.body.len();
        self.ids.insert(frame.event.id.clone());
        self.frames.push_back(frame);
        true
    }

    /// The walk has brought `id`: the frame that holds it is not needed.
    pub(super) fn covered(&mut self, id: &EventId) {
        self.ids.remove(id);
    }

    /// How many are held.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    /// What the walk has not brought, in the order it was read; then empty.
    pub(super) fn release(&mut self) -> impl Iterator<Item = Received> + use<> {
        let Self { frames, mut ids, .. } = std::mem::replace(self, Self::new(self.room));
        frames.into_iter().filter(move |frame| ids.remove(&frame.event.id))
    }
}
