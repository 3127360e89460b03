//! What a store is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::delivery::Ordering;
use crate::domain::event::{Environment, Received};
use crate::domain::filter::TypeFilter;

/// Where the store lives and what a commit is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database file; its folder is created if missing.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// How long delivered events keep their bodies and attempts.
    pub payload_retention: Duration,
    /// How long event ids are kept for deduplication.
    pub dedupe_retention: Duration,
}

/// What a commit survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Power loss (`synchronous = FULL`).
    Full,
    /// A killed process (`synchronous = NORMAL`).
    Normal,
}

/// Which events become deliveries to a target.
#[derive(Clone, Debug)]
pub struct Route {
    /// The configured name of the target.
    pub target: Arc<str>,
    /// The event types it receives.
    pub types: TypeFilter,
    /// The network environment it receives events of; `None` is any, and none known.
    pub environment: Option<Environment>,
    /// Whether its deliveries wait for one another.
    pub ordering: Ordering,
}

impl Route {
    /// Whether `event` becomes a delivery.
    pub(super) fn takes(&self, event: &Received) -> bool {
        self.types.matches(event.event.kind.as_str())
            && (self.environment.is_none() || self.environment == event.environment)
    }
}
