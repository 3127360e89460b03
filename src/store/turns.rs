//! Who may start what: the one thing the writer and a dispatcher have to agree on
//! faster than a commit.
//!
//! When an event arrives that Pepay created before the one whose turn it is,
//! and that one has not been started, the two change places. Whether it has been
//! started only the dispatcher knows, so both ask here, under one lock. The same
//! goes for a delivery that a person cancels or has tried anew.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The deliveries of one target.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Sequences>);

#[derive(Debug, Default)]
struct Sequences {
    /// Handed to a request whose outcome is not written yet.
    started: HashSet<i64>,
    /// Must not be started as it was handed over: another goes first, or it has changed.
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

    /// Forgets what must not be started, but for what is `known` to be in hand.
    pub(super) fn keep_revoked(&self, known: &HashSet<i64>) {
        let mut turns = self.lock();
        if !turns.revoked.is_empty() {
            turns.revoked.retain(|sequence| known.contains(sequence));
        }
    }

    /// Each change is one call: a panic elsewhere leaves nothing half-done.
    fn lock(&self) -> MutexGuard<'_, Sequences> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
