//! The actions of an operator on a stream: reconnect and backfill.

use pepay_bridge::simulator::fault::{Endpoint, Fault, RetryAfter};
use serde_json::{Value, json};

use super::{caught_up, counted, delivered, live, reconnects, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::soon;
use crate::support::world::{World, acknowledged, assert_each_once};

const RECONNECT: &str = "/api/v1/streams/commerce/reconnect";
const BACKFILL: &str = "/api/v1/streams/commerce/backfill";

/// Waits until no backfill runs. Returns the last one.
async fn backfilled(bridge: &Bridge) -> Value {
    let over = |status: &Value| status["streams"][0]["backfill"]["running"] == false;
    bridge.until("the end of the backfill", over).await["streams"][0]["backfill"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconnect_by_an_operator_loses_no_event() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(20);
    caught_up(&bridge, ids.last().unwrap()).await;
    let opened = world.simulator.statistics().streams_opened;
    let (status, stream) = bridge.post(RECONNECT, &json!({})).await;
    assert_eq!((status, &stream["name"]), (202, &json!("commerce")));
    let reopened = world.simulator.until(|statistics| statistics.streams_opened > opened);
    soon("the new connection", reopened).await;
    ids.extend(world.simulator.play(20));
    delivered(&target, ids.len()).await;
    assert_eq!(counted(&bridge, &reconnects("operator")).await, "1");
    let status = bridge.status().await;
    let reason = status["streams"][0]["last_disconnect"].as_str().unwrap();
    assert_eq!(reason, "operator: an operator asked for a new connection");
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_brings_what_was_before_the_beginning_and_leaves_the_cursor_alone() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let before = world.simulator.play(250);
    let bridge = world.bridge().await;
    live(&bridge).await;
    let live = world.simulator.play(5);
    caught_up(&bridge, live.last().unwrap()).await;
    let (status, stream) = bridge.post(BACKFILL, &json!({ "after": before[9].as_str() })).await;
    assert_eq!((status, &stream["backfill"]["from"]), (202, &json!(before[9].as_str())));
    let backfill = backfilled(&bridge).await;
    assert_eq!((&backfill["recorded"], &backfill["error"]), (&json!(240), &Value::Null));
    assert!(backfill["read"].as_u64().unwrap() >= 245 && backfill["ended_at"].is_string(), "{backfill}");
    assert_eq!(bridge.status().await["streams"][0]["cursor"], live.last().unwrap().as_str());

    // A second backfill, by time, finds only the events before that one.
    let (status, _) = bridge.post(BACKFILL, &json!({ "from": "2020-01-01T00:00:00Z" })).await;
    assert_eq!(status, 202);
    assert_eq!(backfilled(&bridge).await["recorded"], 10);
    let ids = [before, live].concat();
    delivered(&target, ids.len()).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
    let by_backfill = acknowledged(&target)
        .values()
        .filter(|deliveries| deliveries[0].headers["pepay-bridge-source"] == "backfill")
        .count();
    assert_eq!(by_backfill, 250);
}

/// Makes the list refuse one request, with `seconds` as its `Retry-After`.
fn refuse(world: &World, seconds: u64) {
    let retry_after = Some(RetryAfter::Seconds(seconds));
    let status = http::StatusCode::TOO_MANY_REQUESTS;
    world
        .simulator
        .inject(Fault::Answer { endpoint: Endpoint::Rest, times: 1, status, retry_after, body: None })
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backfill_runs_at_a_time_waits_as_pepay_asks_and_goes_on() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let before = world.simulator.play(3);
    let bridge = world.bridge().await;
    live(&bridge).await;
    refuse(&world, 2);
    assert_eq!(bridge.post(BACKFILL, &json!({ "from": "2020-01-01T00:00:00Z" })).await.0, 202);
    let stuck = |status: &Value| status["streams"][0]["backfill"]["error"].is_string();
    let status = bridge.until("the refusal", stuck).await;
    assert_eq!(status["streams"][0]["backfill"]["running"], true);
    assert_eq!(bridge.post(BACKFILL, &json!({ "after": before[0].as_str() })).await.0, 409);
    let backfill = backfilled(&bridge).await;
    assert_eq!((&backfill["recorded"], &backfill["error"]), (&json!(3), &Value::Null));
    delivered(&target, 3).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_backfill() {
    let mut world = World::new(without_webhooks()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    live(&bridge).await;
    refuse(&world, 3600);
    assert_eq!(bridge.post(BACKFILL, &json!({ "from": "2020-01-01T00:00:00Z" })).await.0, 202);
    let stuck = |status: &Value| status["streams"][0]["backfill"]["error"].is_string();
    bridge.until("the refusal", stuck).await;
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backfill_that_is_not_possible_is_refused_with_a_reason() {
    let mut world = World::new(without_webhooks()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    let (status, problem) = bridge.post(BACKFILL, &json!({ "from": "2099-01-01T00:00:00Z" })).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("in the future"), "{problem}");
    assert_eq!(bridge.post("/api/v1/streams/none/backfill", &json!({ "after": "evt_1" })).await.0, 404);
    assert_eq!(bridge.post("/api/v1/streams/none/reconnect", &json!({})).await.0, 404);
    assert!(bridge.stop().await.0.success());
}
