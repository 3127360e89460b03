//! The budget of memory for webhook bodies before their signature is verified.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Settings;

/// The largest number of bytes of large bodies at the same time.
const SHARED: usize = 2 * Settings::LARGEST_BODY;

/// The budget that the large bodies of all endpoints share. Clones share it too.
#[derive(Clone, Debug)]
pub(super) struct BodyMemory(Arc<Semaphore>);

impl BodyMemory {
    /// The number of bytes of a body that do not count towards the budget. As much is read ahead of any
    /// request, and Pepay's events are far smaller. So a flood of large bodies keeps no ordinary event
    /// out.
    pub(super) const FREE: usize = 64 << 10;

    /// Creates the budget of a bridge.
    pub(super) fn new() -> Self {
        Self::of(SHARED)
    }

    /// Creates a budget of this number of bytes.
    pub(super) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// Takes this number of bytes until the permit is dropped, if so many are left.
    pub(super) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }
}
