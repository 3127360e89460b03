//! Actions on targets and streams while they run.

use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;

use super::Operator;
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_paused_receives_only_test_events_until_it_is_resumed_even_after_a_restart() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let operator = Operator::of(&bridge);
    let paused = operator.act("targets/orders/pause", json!({})).await;
    assert_eq!((&paused["name"], &paused["paused"]), (&json!("orders"), &json!(true)));
    let mut ids = world.simulator.play(5);
    operator.until("targets", |body| body["targets"][0]["backlog"] == 5).await;

    let outcome = operator.act("targets/orders/test", json!({})).await;
    assert_eq!(
        (&outcome["acknowledged"], &outcome["status"], &outcome["error"]),
        (&json!(true), &json!(200), &json!(null))
    );
    let received = target.deliveries();
    assert_eq!(received.len(), 1, "only the test event");
    assert_eq!(
        (received[0].kind.as_deref(), received[0].signature_valid),
        (Some("pepay_bridge.test"), Some(true))
    );
    assert_eq!(received[0].headers["pepay-bridge-test"], "1");
    assert_eq!(*received[0].id, *outcome["event_id"].as_str().unwrap());
    let (status, _) = operator.get(&format!("events/{}", received[0].id)).await;
    assert_eq!(status, StatusCode::NOT_FOUND, "a test event is not stored");
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.stop().await;

    let bridge = world.bridge().await;
    let operator = Operator::of(&bridge);
    ids.extend(world.simulator.play(1));
    let body = operator.until("targets", |body| body["targets"][0]["backlog"] == 6).await;
    assert_eq!((&body["targets"][0]["paused"], target.totals().unique), (&json!(true), 1));
    assert_eq!(operator.act("targets/orders/resume", json!({})).await["paused"], json!(false));
    operator.until_all_are("delivered", 6).await;
    ids.push(received[0].id.parse().unwrap());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_is_shown_without_the_secrets_of_its_address() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target_at("orders", "http://127.0.0.1:9/events?key=secret");
    world.set("TARGETS__ORDERS__TYPES", "commerce.order.*,invoice.*");
    let bridge = world.bridge().await;
    let body = Operator::of(&bridge).look("targets").await;
    let target = &body["targets"][0];
    assert_eq!(target["url"], "http://127.0.0.1:9/events");
    assert_eq!(target["types"], json!(["commerce.order.*", "invoice.*"]));
    assert_eq!((&target["ordering"], &target["concurrency"]), (&json!("per_object"), &json!(64)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_reconnects_and_reads_again_what_pepay_has() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    let operator = Operator::of(&bridge);
    let ids = world.simulator.play(10);
    bridge.until("all events", |status| status["store"]["events"] == 10).await;

    let opened = world.simulator.statistics().streams_opened;
    let (status, stream) = operator.post("streams/commerce/reconnect", json!({})).await;
    assert_eq!((status, &stream["name"]), (StatusCode::ACCEPTED, &json!("commerce")));
    soon("the new connection", world.simulator.until(|statistics| statistics.streams_opened > opened)).await;
    operator.until("streams", |body| body["streams"][0]["phase"] == "live").await;

    let from = json!({ "after": ids[2].as_str() });
    let (status, stream) = operator.post("streams/commerce/backfill", from).await;
    assert_eq!(status, StatusCode::ACCEPTED, "{stream}");
    let body = operator.until("streams", |body| body["streams"][0]["backfill"]["running"] == false).await;
    let backfill = &body["streams"][0]["backfill"];
    assert_eq!(
        (&backfill["from"], &backfill["recorded"], &backfill["error"]),
        (&json!(ids[2].as_str()), &json!(0), &json!(null))
    );

    let changes = operator.act("reload", json!({})).await;
    assert_eq!(changes, json!({ "applied": [], "restart_needed": [], "files": [], "removed_targets": [] }));
}

#[tokio::test(flavor = "multi_thread")]
async fn if_a_token_is_configured_requests_without_it_are_refused() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set("SERVER__ADMIN_TOKEN", "a-token-of-the-operator");
    let bridge = world.bridge().await;
    let client = reqwest::Client::builder().timeout(Duration::from_secs(30)).build().unwrap();
    let call = |token: &str| {
        let url = format!("{}/api/v1/targets/orders/test", bridge.admin);
        let request = client.post(url).header("content-type", "application/json").body("{}");
        let request = if token.is_empty() { request } else { request.bearer_auth(token) };
        async { request.send().await.unwrap() }
    };
    for token in ["", "another-token-of-an-operator"] {
        let refused = call(token).await;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(refused.headers()["content-type"], "application/problem+json");
        assert!(refused.headers().contains_key("www-authenticate"));
    }
    assert_eq!(target.totals().unique, 0);
    assert_eq!(call("a-token-of-the-operator").await.status(), StatusCode::OK);
    assert_eq!(target.totals().unique, 1);
    assert_eq!(bridge.admin("/").await.status(), StatusCode::OK, "the page holds no data");
}
