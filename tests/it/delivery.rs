//! What becomes of a delivery, whatever its target does: the real binary against
//! targets that fail in every way a target can.

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

/// One target for each of `scripts`, by its name, all of them configured.
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

/// Waits until `counted` of every target's deliveries is `count`, and nothing else is left to do.
async fn settled(bridge: &Bridge, field: &str, count: u64) -> Value {
    let each = |status: &Value| {
        status["targets"].as_array().unwrap().iter().all(|target| {
            target["in_flight"] == 0 && target["backlog"] == 0 && (field.is_empty() || target[field] == count)
        }) && status["store"]["last_sequence"].as_u64() > Some(0)
    };
    bridge.until("the end of all deliveries", each).await
}

/// Waits until nothing is left to do.
async fn all_settled(bridge: &Bridge) {
    settled(bridge, "", 0).await;
}

/// The lines that tell of failed attempts at `target`.
fn failures(log: &[Value], target: &str) -> Vec<Value> {
    let of_target = |line: &&Value| line["target"] == target && line["error"].is_string();
    log.iter().filter(of_target).cloned().collect()
}
