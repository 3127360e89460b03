//! How much of the machine's memory bodies may take up before they have proven anything.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Settings;

/// Bytes of large bodies at the same time.
const SHARED: usize = 2 * Settings::LARGEST_BODY;

/// What the large bodies of all endpoints share.
#[derive(Clone, Debug)]
pub(super) struct Room(Arc<Semaphore>);

impl Room {
    /// Bytes of a body that take no room: as much is read ahead of any request, and
    /// Pepay's events are far smaller. So a flood of large bodies keeps none of those out.
    pub(super) const FREE: usize = 64 << 10;

    /// The room that the bridge has.
    pub(super) fn new() -> Self {
        Self::of(SHARED)
    }

    /// Room for so many bytes.
    pub(super) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Takes as many bytes until the answer is dropped, if there are so many.
    pub(super) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }
}
