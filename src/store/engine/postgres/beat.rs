//! What the database returns to a process that says that it lives.

use serde::Deserialize;
use serde_json::Value;

use crate::domain::clock::UnixMillis;
use crate::store::cluster::{Cluster, HeldLease, Replica};
use crate::store::types::Term;

/// What the function `beat` returns.
#[derive(Debug, Deserialize)]
pub(super) struct Beat {
    pub(super) leases: Vec<LeaseRow>,
    pub(super) replicas: Vec<ReplicaRow>,
    pub(super) requests: Vec<RequestRow>,
    pub(super) paused: Vec<String>,
    pub(super) newest: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct LeaseRow {
    pub(super) name: String,
    pub(super) holder: Option<String>,
    pub(super) term: i64,
    pub(super) taken_at: Option<i64>,
    pub(super) left_ms: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ReplicaRow {
    pub(super) id: String,
    pub(super) about: Value,
    pub(super) wants: Vec<String>,
    pub(super) joined_at: i64,
}

#[derive(Debug, Deserialize)]
pub(super) struct RequestRow {
    pub(super) id: String,
    pub(super) lease: String,
    pub(super) body: Value,
}

impl Beat {
    /// The replicas, of which `me` is this process.
    pub(super) fn cluster(&self, me: &str) -> Cluster {
        let held_by = |id: &str| {
            let held = self.leases.iter().filter(|row| row.holder.as_deref() == Some(id) && row.left_ms >= 0);
            held.map(|row| HeldLease {
                name: row.name.clone(),
                term: Term(row.term),
                since: UnixMillis(row.taken_at.unwrap_or(0)),
            })
            .collect()
        };
        let text = |about: &Value, key: &str| about[key].as_str().unwrap_or_default().to_owned();
        let replica = |row: &ReplicaRow| Replica {
            id: row.id.as_str().into(),
            is_self: row.id == me,
            name: text(&row.about, "name"),
            version: text(&row.about, "version"),
            since: UnixMillis(row.joined_at),
            configuration: text(&row.about, "configuration"),
            report: row.about["report"].clone(),
            holds: held_by(&row.id),
        };
        let replicas = self.replicas.iter().map(replica).collect();
        Cluster { replicas, paused: self.paused.clone(), stalled: false }
    }
}
