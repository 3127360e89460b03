//! A Pepay that refuses requests for a while.

use std::time::{Duration, Instant};

use http::StatusCode;
use pepay_bridge::domain::event::EventId;
use pepay_bridge::simulator::fault::{Ending, Endpoint, Fault, RetryAfter};
use pepay_bridge::simulator::options::ApiKey;
use pepay_bridge::simulator::statistics::Statistics;

use super::{caught_up, delivered, live, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::pepay::{Act, Asked, RawPepay, news};
use crate::support::soon;
use crate::support::world::{API_KEY, World, acknowledged, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_key_is_tried_without_end_until_pepay_accepts_it_again() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(5);
    caught_up(&bridge, ids.last().unwrap()).await;
    world.simulator.set_keys(vec![ApiKey::new("another-key")]);
    world.simulator.inject(Fault::Drop { ending: Ending::Eof }).unwrap();
    ids.extend(world.simulator.play(150));
    let status = bridge
        .until("the refusal", |status| {
            let problem = status["streams"][0]["problem"].as_str().unwrap_or_default();
            problem.contains("refuses the API key") && problem.contains("401")
        })
        .await;
    assert!(!status.to_string().contains(API_KEY));
    world.simulator.set_keys(vec![ApiKey::new(API_KEY)]);
    delivered(&target, ids.len()).await;
    bridge.until("no problem", |status| status["streams"][0]["problem"].is_null()).await;
    let (exit, log) = bridge.stop().await;
    assert!(exit.success());
    assert!(
        !log.iter().any(|line| line.to_string().contains(API_KEY) || line.to_string().contains("token="))
    );
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_connection_has_a_token_of_its_own() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        world.simulator.inject(Fault::Drop { ending: Ending::Eof }).unwrap();
        ids.extend(world.simulator.play(2));
        caught_up(&bridge, ids.last().unwrap()).await;
    }
    delivered(&target, ids.len()).await;
    assert_eq!(world.simulator.statistics().tokens_reused, 0);
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn retry_after_is_kept_to_at_every_endpoint() {
    tokio::join!(keeps_away(Endpoint::Token), keeps_away(Endpoint::Upgrade), keeps_away(Endpoint::Rest));
}

/// Refuses a request at `endpoint` with a `Retry-After`. Fails unless the bridge waits for it.
async fn keeps_away(endpoint: Endpoint) {
    for (status, retry_after) in [
        (StatusCode::TOO_MANY_REQUESTS, RetryAfter::Seconds(2)),
        (StatusCode::SERVICE_UNAVAILABLE, RetryAfter::Date(3)),
    ] {
        let mut world = World::new(without_webhooks()).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        live(&bridge).await;
        let refusal =
            Fault::Answer { endpoint, times: 1, status, retry_after: Some(retry_after), body: None };
        world.simulator.inject(refusal).unwrap();
        world.simulator.inject(Fault::Drop { ending: Ending::Eof }).unwrap();
        let refused = |seen: &Statistics| seen.refused.contains_key(&status.as_u16());
        soon("the refusal", world.simulator.until(refused)).await;
        let (began, ids) = (Instant::now(), world.simulator.play(4));
        delivered(&target, 4).await;
        // A date has whole seconds, so the wait may be up to a second shorter.
        assert!(began.elapsed() >= Duration::from_millis(1_900), "{endpoint:?} {status}");
        assert!(bridge.stop().await.0.success());
        assert_each_once(&target, &ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_streams_bring_an_event_once_and_each_has_its_own_cursor() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__SHOP__ENDPOINT", "merchant");
    world.set("STREAMS__SHOP__AUTH", "header");
    world.set("STREAMS__SHOP__TYPES", "invoice.*");
    let bridge = world.bridge().await;
    let live = |status: &serde_json::Value| (0..2).all(|stream| status["streams"][stream]["phase"] == "live");
    bridge.until("two live streams", live).await;
    let ids = world.simulator.play(60);
    delivered(&target, ids.len()).await;
    let kinds = acknowledged(&target);
    let is_invoice = |id: &&EventId| kinds[id.as_str()][0].kind.as_deref().unwrap().starts_with("invoice.");
    let last_invoice = ids.iter().rev().find(is_invoice).unwrap();
    let expected = [("commerce", ids.last().unwrap()), ("shop", last_invoice)];
    let reached = |status: &serde_json::Value| {
        status["streams"]
            .as_array()
            .unwrap()
            .iter()
            .zip(expected)
            .all(|(stream, (name, cursor))| stream["name"] == name && stream["cursor"] == cursor.as_str())
    };
    bridge.until("both cursors", reached).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_list_brings_without_a_connection_is_of_the_tokens_environment() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("TARGETS__ORDERS__ENVIRONMENT", "devnet");
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let pepay = RawPepay::of(&mut world, |request| match request.asked {
        Asked::Token => {
            Act::Say("HTTP/1.1 200 OK", br#"{"token":"t0k","network_environment":"devnet"}"#.to_vec())
        }
        Asked::Stream => Act::Say("HTTP/1.1 403 Forbidden", Vec::new()),
        _ => Act::Usual,
    })
    .await;
    let bridge = Bridge::start(&world.configuration).await;
    pepay.until("the refusal", |record| record.of(Asked::Stream).count() > 0).await;
    pepay.publish(news(1));
    delivered(&target, 1).await;
    assert_eq!(target.deliveries()[0].headers["x-pepay-network-environment"], "devnet");
    assert!(bridge.stop().await.0.success());
}
