//! The stream of the real binary, which loses no event although Pepay drops connections, lists
//! wrong events, forgets old ones and refuses requests. Webhooks are off, so that every event
//! arrives by the stream or by REST.

mod control;
mod dead;
mod floor;
mod gaps;
mod large;
mod proxy;
mod reach;
mod refusals;
mod sweeps;
mod switches;
mod unsteady;
mod upgrade;
mod words;
mod wrong_lists;

use pepay_bridge::domain::event::EventId;
use pepay_bridge::simulator::fault::{Ending, Endpoint, Fault};
use pepay_bridge::simulator::options::{Copies, Options};
use pepay_bridge::simulator::target::Target;

use crate::support::bridge::Bridge;
use crate::support::soon;
use crate::support::world::World;

/// Returns options of a Pepay that sends no webhooks.
pub fn without_webhooks() -> Options {
    Options { copies: Copies { stream: 1, webhook: 0 }, ..Options::default() }
}

/// Drops every stream and refuses the next two upgrades, so that the bridge misses the events that
/// follow.
fn interrupt(world: &World, ending: Ending) {
    let refused = Fault::Answer {
        endpoint: Endpoint::Upgrade,
        times: 2,
        status: http::StatusCode::BAD_GATEWAY,
        retry_after: None,
        body: None,
    };
    world.simulator.inject(refused).unwrap();
    world.simulator.inject(Fault::Drop { ending }).unwrap();
}

/// Waits until `target` has acknowledged `count` events.
async fn delivered(target: &Target, count: usize) {
    soon("all deliveries", target.until(|totals| totals.unique >= count as u64)).await;
}

/// Waits until the stream is live and its cursor is `last`.
async fn caught_up(bridge: &Bridge, last: &EventId) {
    let reached = |status: &serde_json::Value| {
        let stream = &status["streams"][0];
        stream["cursor"] == last.as_str() && stream["phase"] == "live"
    };
    bridge.until("the cursor", reached).await;
}

/// Waits until the first stream is live.
async fn live(bridge: &Bridge) {
    bridge.until("a live stream", |status| status["streams"][0]["phase"] == "live").await;
}

/// Returns the value of a counter.
async fn counted(bridge: &Bridge, series: &str) -> String {
    bridge.metric(series).await.to_string()
}

fn gaps_counted(outcome: &str) -> String {
    format!("pepay_bridge_stream_gaps_total{{stream=\"commerce\",outcome=\"{outcome}\"}}")
}

fn reconnects(reason: &str) -> String {
    format!("pepay_bridge_stream_reconnects_total{{stream=\"commerce\",reason=\"{reason}\"}}")
}
