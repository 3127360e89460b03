//! The targets, as the API of a running bridge returns them.

use serde::Deserialize;

use crate::cli::Error;
use crate::cli::admin::Admin;
use crate::cli::moment::Moment;
use crate::config::Settings;

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Targets {
    pub(in crate::cli) targets: Vec<Target>,
}

/// A target. The counts from the store are missing while the store does not respond.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Target {
    pub(in crate::cli) name: String,
    pub(in crate::cli) in_flight: u64,
    pub(in crate::cli) circuit: String,
    pub(in crate::cli) next_probe: Option<NextProbe>,
    pub(in crate::cli) retry_after_until: Option<Moment>,
    pub(in crate::cli) rejecting: Option<Rejecting>,
    pub(in crate::cli) paused: bool,
    #[serde(default)]
    pub(in crate::cli) configured: Option<bool>,
    pub(in crate::cli) paused_reason: Option<String>,
    pub(in crate::cli) last_error: Option<Failure>,
    pub(in crate::cli) last_delivered_at: Option<Moment>,
    pub(in crate::cli) backlog: Option<u64>,
    pub(in crate::cli) backlog_oldest_at: Option<Moment>,
    pub(in crate::cli) held: Option<u64>,
    pub(in crate::cli) dead: Option<u64>,
    pub(in crate::cli) latency: Option<Latency>,
}

/// A run of refusals.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Rejecting {
    pub(in crate::cli) refusals: u64,
    pub(in crate::cli) error: String,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Failure {
    pub(in crate::cli) error: String,
    pub(in crate::cli) at: Moment,
}

/// The times of the next probes of an open circuit.
#[derive(Debug, Deserialize)]
pub(in crate::cli) struct NextProbe {
    pub(in crate::cli) first_attempt_at: Moment,
    pub(in crate::cli) retry_at: Moment,
}

#[derive(Debug, Deserialize)]
pub(in crate::cli) struct Latency {
    pub(in crate::cli) p50_ms: u64,
    pub(in crate::cli) p99_ms: u64,
}

/// Queries the bridge that runs under `settings`. Returns `None` if the port of its admin listener is 0,
/// and so unknown.
pub(in crate::cli) async fn of_running(settings: &Settings) -> Option<Result<Vec<Target>, Error>> {
    if settings.web.admin_listen.port() == 0 {
        return None;
    }
    let asked = async { Admin::of(&settings.web)?.get(&["targets"], &[]).await?.read::<Targets>() };
    Some(asked.await.map(|Targets { targets }| targets))
}
