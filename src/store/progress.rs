//! Whether the committer gets on: the membership of a shared store holds leases only then.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Since when the committer waits for the database.
#[derive(Debug, Default)]
pub(super) struct Progress(Mutex<Option<Waiting>>);

/// What the committer waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    /// When the first group began since the last one that was completed.
    pub(super) since: Instant,
    /// When the database last answered a part of it, or that beginning. `None` for a call
    /// that takes as long as there are rows.
    pub(super) answered: Option<Instant>,
}

impl Progress {
    /// A group begins.
    pub(super) fn begun(&self, now: Instant) {
        self.lock().get_or_insert(Waiting { since: now, answered: Some(now) });
    }

    /// A call begins that takes as long as there are rows.
    pub(super) fn long_call_begun(&self, now: Instant) {
        self.lock().get_or_insert(Waiting { since: now, answered: None });
    }

    /// The database has done a part of a group.
    pub(super) fn answered(&self, now: Instant) {
        if let Some(Waiting { answered: Some(answered), .. }) = &mut *self.lock() {
            *answered = now;
        }
    }

    /// A group was completed. One that fails leaves everything as it is.
    pub(super) fn completed(&self) {
        *self.lock() = None;
    }

    /// What is waited for; `None` if nothing is.
    pub(super) fn waiting(&self) -> Option<Waiting> {
        *self.lock()
    }

    /// A change is one assignment: a panic elsewhere leaves nothing half-done.
    fn lock(&self) -> MutexGuard<'_, Option<Waiting>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
