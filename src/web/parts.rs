//! The statuses of the running parts.

use tokio::sync::watch;

use crate::domain::status::{StreamStatus, TargetStatus, WebhookStatus};

/// The parts that run under one configuration, each list sorted by name. A reload makes a new value. A
/// part that has ended is not in it.
#[derive(Clone, Debug, Default)]
pub struct Parts {
    /// One per stream.
    pub streams: Vec<watch::Receiver<StreamStatus>>,
    /// One per webhook endpoint.
    pub webhooks: Vec<watch::Receiver<WebhookStatus>>,
    /// One per target.
    pub targets: Vec<watch::Receiver<TargetStatus>>,
}

impl Parts {
    /// Returns the present status of each stream.
    pub fn streams(&self) -> Vec<StreamStatus> {
        current(&self.streams)
    }

    /// Returns the present status of each webhook endpoint.
    pub fn webhooks(&self) -> Vec<WebhookStatus> {
        current(&self.webhooks)
    }

    /// Returns whether a target of this name runs.
    pub fn has_target(&self, name: &str) -> bool {
        self.targets.iter().any(|target| *target.borrow().name == *name)
    }

    /// Returns the present status of each target.
    pub fn targets(&self) -> Vec<TargetStatus> {
        current(&self.targets)
    }
}

fn current<T: Clone>(parts: &[watch::Receiver<T>]) -> Vec<T> {
    parts.iter().map(|part| part.borrow().clone()).collect()
}
