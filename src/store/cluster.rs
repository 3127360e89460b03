//! The processes that share a store, as one of them knows them: plain values.

use std::sync::Arc;

use serde_json::Value;

use super::types::{Arrived, TargetId, Term};
use crate::domain::clock::UnixMillis;

/// The living replicas, the one that has joined first at the beginning.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// All of them, with this one.
    pub replicas: Vec<Replica>,
    /// The targets that are paused, by name.
    pub paused: Vec<String>,
    /// Whether this process holds no lease since its writer completes nothing.
    pub stalled: bool,
}

/// A process that shares the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// Drawn at random by the process.
    pub id: Arc<str>,
    /// Whether it is this process.
    pub is_self: bool,
    /// The name of its host.
    pub name: String,
    /// Its version.
    pub version: String,
    /// When it joined, by the database's clock.
    pub since: UnixMillis,
    /// A digest of its configuration, without secrets.
    pub configuration: String,
    /// What it says of its parts.
    pub report: Value,
    /// The leases that it holds, by name.
    pub holds: Vec<HeldLease>,
}

/// A lease that a replica holds.
#[derive(Clone, Debug, PartialEq)]
pub struct HeldLease {
    /// `target/NAME`, `stream/NAME` or `housekeeping`.
    pub name: String,
    /// Its term.
    pub term: Term,
    /// When it was taken, by the database's clock.
    pub since: UnixMillis,
}

/// What a replica asks of another one: of the holder of `lease`.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Drawn at random.
    pub id: String,
    /// The lease.
    pub lease: String,
    /// What is asked for.
    pub body: Value,
}

/// What other processes have stored.
#[derive(Debug, Default)]
pub(super) struct LogPage {
    /// The sequence of the newest event.
    pub(super) newest: i64,
    /// The deliveries, by sequence. Beyond some megabytes of bodies they are without a job.
    pub(super) deliveries: Vec<(TargetId, Arrived)>,
    /// Whether there were more than the limit: then none of them is here.
    pub(super) overflow: bool,
}

impl Cluster {
    /// Whether there are others.
    pub fn has_others(&self) -> bool {
        self.replicas.iter().any(|replica| !replica.is_self)
    }
}
