//! Deliveries by the real binary to targets that fail in every way.

mod answers;
mod backlog;
mod breaker;
mod broken;
mod choosing;
mod connections;
mod control;
mod engine;
mod model;
mod outcomes;
mod pace;
mod queue;
mod refused;
mod rejecting;
mod retries;
mod shares;
mod tls;
mod unreached;

use std::collections::BTreeMap;

use serde_json::Value;

use crate::support::bridge::Bridge;
use crate::support::raw::{Act, RawTarget};
use crate::support::world::World;

/// Starts and configures one target for each of `scripts`. Returns them by name.
async fn targets(
    world: &mut World,
    scripts: impl IntoIterator<Item = (String, Vec<Act>)>,
) -> BTreeMap<String, RawTarget> {
    let mut targets = BTreeMap::new();
    for (name, acts) in scripts {
        let target = RawTarget::scripted(acts).await;
        world.target_at(&name, &target.url);
        targets.insert(name, target);
    }
    targets
}

/// Waits until no delivery is open and `field` of every target is `count`. An empty `field` is not
/// looked at. Returns the status.
async fn settled(bridge: &Bridge, field: &str, count: u64) -> Value {
    let each = |status: &Value| {
        status["targets"].as_array().unwrap().iter().all(|target| {
            target["in_flight"] == 0 && target["backlog"] == 0 && (field.is_empty() || target[field] == count)
        }) && status["store"]["last_sequence"].as_u64() > Some(0)
    };
    bridge.until("the end of all deliveries", each).await
}

/// Waits until no delivery is open.
async fn all_settled(bridge: &Bridge) {
    settled(bridge, "", 0).await;
}

/// Returns the log lines about failed attempts at `target`.
fn failures(log: &[Value], target: &str) -> Vec<Value> {
    let of_target = |line: &&Value| line["target"] == target && line["error"].is_string();
    log.iter().filter(of_target).cloned().collect()
}
