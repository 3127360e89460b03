//! The replicas that share the store, as `/status` and the overview show them.

use serde::Serialize;
use utoipa::ToSchema;

use super::View;
use crate::domain::clock::UnixMillis;
use crate::store::cluster::{HeldLease, Replica};

/// A process that shares the store.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ReplicaStatus {
    /// A random id, which the process has drawn.
    id: String,
    /// Whether it is the replica that returns this response.
    this: bool,
    /// The name of its host.
    name: String,
    version: String,
    /// When it joined, by the database's clock.
    since: UnixMillis,
    /// Whether its targets, streams and webhooks are configured like those of the replica that returns
    /// this response, apart from secrets.
    same_configuration: bool,
    /// The leases that it holds.
    holds: Vec<LeaseStatus>,
}

/// A lease that a replica holds.
#[derive(Debug, Serialize, ToSchema)]
struct LeaseStatus {
    /// `target/NAME`, `stream/NAME` or `housekeeping`.
    lease: String,
    /// The term, which grows with every holder. Requests to a target have it as `pepay-bridge-term`.
    term: i64,
    /// When it was taken, by the database's clock.
    since: UnixMillis,
}

impl View {
    /// Returns the living replicas, in the order in which they joined; empty for a store of one
    /// process.
    pub(super) fn replicas(&self) -> Vec<ReplicaStatus> {
        let Some(cluster) = &self.cluster else { return Vec::new() };
        let cluster = cluster.borrow().clone();
        let own = cluster.replicas.iter().find(|replica| replica.is_self);
        let own = own.map(|own| own.configuration.clone()).unwrap_or_default();
        cluster.replicas.iter().map(|replica| ReplicaStatus::new(replica, &own)).collect()
    }

    /// Returns whether another replica may have to apply a change that is made here.
    pub(super) fn has_other_replicas(&self) -> bool {
        self.cluster.as_ref().is_some_and(|cluster| cluster.borrow().has_others())
    }

    /// Returns why this replica holds no leases, if so.
    pub(super) fn stalled(&self) -> Option<String> {
        let is_stalled = self.cluster.as_ref().is_some_and(|cluster| cluster.borrow().stalled);
        is_stalled.then(|| {
            "the leases of this replica are given back: its connection that writes completes nothing"
                .to_owned()
        })
    }

    /// Returns the warning for an operator about the replicas, if there is one.
    pub(super) fn warning_of_replicas(&self) -> Option<String> {
        let replicas = self.replicas();
        let others: Vec<_> =
            replicas.iter().filter(|replica| !replica.same_configuration).map(|other| &*other.name).collect();
        (!others.is_empty()).then(|| {
            format!(
                "replicas have another configuration of targets, streams or webhooks: {}",
                others.join(", ")
            )
        })
    }
}

impl ReplicaStatus {
    fn new(replica: &Replica, own_configuration: &str) -> Self {
        let Replica { id, is_self, name, version, since, configuration, report: _, holds } = replica;
        let lease = |HeldLease { name, term, since }: &HeldLease| LeaseStatus {
            lease: name.clone(),
            term: term.number(),
            since: *since,
        };
        Self {
            id: id.to_string(),
            this: *is_self,
            name: name.clone(),
            version: version.clone(),
            since: *since,
            same_configuration: configuration == own_configuration,
            holds: holds.iter().map(lease).collect(),
        }
    }
}
