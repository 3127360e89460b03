//! The reply of the database to a process that reports that it lives.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use crate::domain::clock::{Clock, UnixMillis};
use crate::store::cluster::{Cluster, HeldLease, Replica};
use crate::store::types::Term;

/// The result of the function `beat`, with the time of the database's clock.
#[derive(Debug, Deserialize)]
pub(super) struct Beat {
    pub(super) leases: Vec<LeaseRow>,
    pub(super) replicas: Vec<ReplicaRow>,
    pub(super) requests: Vec<RequestRow>,
    pub(super) paused: Vec<String>,
    pub(super) newest: Option<i64>,
    pub(super) now: i64,
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

/// The largest difference between the clocks of machines that are kept in step.
const IN_STEP: Duration = Duration::from_millis(250);

/// The smallest correction that is logged, in milliseconds.
const WORTH_TELLING: u64 = 2_000;

impl Beat {
    /// Sets `clock` by the clock of the database. The database has returned this value between two
    /// times of `clock`.
    pub(super) fn set(&self, clock: &Clock, between: (UnixMillis, UnixMillis)) {
        let by = clock.adjust(between, UnixMillis(self.now), IN_STEP);
        if let Some(milliseconds) = by.filter(|by| by.unsigned_abs() >= WORTH_TELLING) {
            tracing::warn!(
                milliseconds,
                "the clock of this machine differs from the database's: what is stored, and when deliveries are due, \
                 goes by the database's"
            );
        }
    }

    /// Returns the replicas. `me` is the id of this process.
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
