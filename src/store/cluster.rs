//! The processes that share a store, as one of them knows them.

use std::sync::Arc;

use serde_json::Value;

use super::types::{Arrived, TargetId, Term};
use crate::domain::clock::UnixMillis;

/// The living replicas and the state of the store that they share.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cluster {
    /// All living replicas, this one included, in the order in which they joined.
    pub replicas: Vec<Replica>,
    /// The targets that are paused, by name.
    pub paused: Vec<String>,
    /// Whether this process has given up its leases because its committer completes no group.
    pub stalled: bool,
}

/// A process that shares the store.
#[derive(Clone, Debug, PartialEq)]
pub struct Replica {
    /// A random id, which the process has drawn.
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
    /// The state of its parts, as the replica reports it.
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

/// A request of a replica to the holder of `lease`.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// A random id.
    pub id: String,
    /// The lease.
    pub lease: String,
    /// The content of the request.
    pub body: Value,
}

/// A page of the deliveries that other processes have stored.
#[derive(Debug, Default)]
pub(super) struct LogPage {
    /// The sequence of the newest event.
    pub(super) newest: i64,
    /// The deliveries, by sequence. After some megabytes of bodies the others have no job.
    pub(super) deliveries: Vec<(TargetId, Arrived)>,
    /// Whether there were more deliveries than the limit: then `deliveries` is empty.
    pub(super) overflow: bool,
}

impl Cluster {
    /// Returns whether there are other replicas.
    pub fn has_others(&self) -> bool {
        self.replicas.iter().any(|replica| !replica.is_self)
    }
}
