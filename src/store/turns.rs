//! Who may start what: the one thing the writer and a dispatcher have to agree on
//! faster than a commit.
//!
//! When an event arrives that Pepay created before the one whose turn it is,
//! and that one has not been started, the two change places. Whether it has been
//! started only the dispatcher knows, so both ask here, under one lock.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The deliveries of one target's lanes.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Sequences>);

#[derive(Debug, Default)]
struct Sequences {
    /// Handed to a request whose outcome is not written yet.
    started: HashSet<i64>,
    /// Must not be started: another goes first.
    revoked: HashSet<i64>,
}

impl Turns {
    /// Whether the dispatcher may start `sequence`. A no is said once: the
    /// delivery is let out again when its turn comes.
    pub(super) fn start(&self, sequence: i64) -> bool {
        let mut turns = self.lock();
        !turns.revoked.remove(&sequence) && turns.started.insert(sequence)
    }

    /// The request of `sequence` has ended, or was not made.
    pub(super) fn end(&self, sequence: i64) {
        self.lock().started.remove(&sequence);
    }

    /// Whether the writer could take the turn of `sequence` back.
    pub(super) fn revoke(&self, sequence: i64) -> bool {
        let mut turns = self.lock();
        let free = !turns.started.contains(&sequence);
        if free {
            turns.revoked.insert(sequence);
        }
        free
    }

    /// It is the turn of `sequence`, whatever was said before.
    pub(super) fn grant(&self, sequence: i64) {
        self.lock().revoked.remove(&sequence);
    }

    /// Each change is one call: a panic elsewhere leaves nothing half-done.
    fn lock(&self) -> MutexGuard<'_, Sequences> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
