//! What a store is opened with.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::delivery::Ordering;
use crate::domain::event::{Environment, Received};
use crate::domain::filter::TypeFilter;
use crate::domain::operator::Mismatch;
use crate::pepay::condition::Condition;

/// Where the store lives and what a commit is worth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The database file; its folder is created if missing.
    pub path: PathBuf,
    /// What a commit survives.
    pub durability: Durability,
    /// How long delivered events keep their bodies and attempts.
    pub payload_retention: Duration,
    /// How long a dead delivery that no operator has decided on keeps its event.
    pub dead_retention: Duration,
    /// How long event ids are kept for deduplication.
    pub dedupe_retention: Duration,
    /// How long entries of the audit trail are kept.
    pub audit_retention: Duration,
}

impl Settings {
    /// The files of the store, those that there may be: the database, what SQLite keeps
    /// beside it, and the lock.
    pub fn files(&self) -> Vec<PathBuf> {
        let beside = |suffix: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(suffix);
            PathBuf::from(name)
        };
        ["", "-wal", "-shm", ".lock"].map(beside).into()
    }
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
    /// What it asks of an event beside that.
    pub condition: Option<Condition>,
    /// Whether its deliveries wait for one another.
    pub ordering: Ordering,
}

impl Route {
    /// Whether `event` becomes a delivery.
    pub(super) fn takes(&self, event: &Received) -> bool {
        let Received { event, environment, .. } = event;
        self.mismatch(event.kind.as_str(), *environment, &event.body).is_none()
    }

    /// Why an event of type `kind` and of `environment` does not become a delivery, if so.
    pub fn mismatch(&self, kind: &str, environment: Option<Environment>, body: &[u8]) -> Option<Mismatch> {
        if !self.types.matches(kind) {
            Some(Mismatch::Types)
        } else if self.environment.is_some() && self.environment != environment {
            Some(Mismatch::Environment)
        } else if self.condition.as_ref().is_some_and(|condition| !condition.is_met_by(body)) {
            Some(Mismatch::Where)
        } else {
            None
        }
    }
}
