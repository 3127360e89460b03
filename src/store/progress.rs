//! Tells whether the committer makes progress. The membership of a shared store holds leases only
//! while it does.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// How long the committer has waited for the database.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<Waiting>>);

/// The wait of the committer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// When the first group after the last completed one began.
    pub(super) since: Instant,
    /// When the database last completed a part of a group, or when the group began. `None` during a
    /// call whose duration depends on the number of rows.
    pub(super) answered: Option<Instant>,
}

impl Progress {
    /// Notes the beginning of a group.
    pub(super) fn begun(&self, now: Instant) {
        self.lock().get_or_insert(Waiting { since: now, answered: Some(now) });
    }

    /// Notes the beginning of a call whose duration depends on the number of rows.
    pub(super) fn long_call_begun(&self, now: Instant) {
        self.lock().get_or_insert(Waiting { since: now, answered: None });
    }

    /// Notes that the database has completed a part of a group.
    pub(super) fn answered(&self, now: Instant) {
        if let Some(Waiting { answered: Some(answered), .. }) = &mut *self.lock() {
            *answered = now;
        }
    }

    /// Notes that a group was completed. A failed group changes nothing here.
    pub(super) fn completed(&self) {
        *self.lock() = None;
    }

    /// Returns the present wait; `None` if the committer waits for nothing.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        *self.lock()
    }

    /// A change is one assignment, so a panic elsewhere leaves no half-done change.
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
