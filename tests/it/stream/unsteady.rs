//! Connections that end soon after they are opened, and one that stays open and brings nothing.

use std::time::Duration;

use serde_json::Value;

use super::{counted, delivered, live, reconnects, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::pepay::{Act, Asked, RawPepay, Then, news, stream};
use crate::support::world::{World, webhook};

const EXPIRED: &str = r#"{"object":"ws_error","code":"SESSION_LIMIT","message":"too many sessions"}"#;
const CURSOR: &str = r#"{"object":"ws_error","error":{"code":"INVALID_CURSOR","message":"unknown"}}"#;

fn problem(status: &Value) -> &str {
    status["streams"][0]["problem"].as_str().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_whose_connections_keep_ending_early_reports_it_until_one_lasts() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let pepay = RawPepay::of(&mut world, |request| match request.asked {
        Asked::Stream => stream(Then::Text(EXPIRED)),
        _ => Act::Usual,
    })
    .await;
    let bridge = Bridge::start(&world.configuration).await;
    let said = |status: &Value| {
        let problem = problem(status);
        problem.contains("connections in a row ended soon after they were opened")
            && problem.contains("SESSION_LIMIT")
            && problem.contains("too many sessions")
    };
    bridge.until("the problem", said).await;
    // A connection that opens does not clear the problem; one that lasts does.
    let opened = pepay.record().ended;
    pepay.until("more connections", |record| record.ended >= opened + 2).await;
    assert!(said(&bridge.status().await));
    pepay.change(|_| Act::Usual);
    bridge.until("no problem", |status| status["streams"][0]["problem"].is_null()).await;
    pepay.publish(news(0));
    delivered(&target, 1).await;
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_every_connection_soon_keeps_the_stream_connected_most_of_the_time() {
    let mut world = World::new(without_webhooks()).await;
    world.target("orders").await;
    let age = Duration::from_secs(1);
    let pepay = RawPepay::of(&mut world, move |request| match request.asked {
        Asked::Stream => stream(Then::LiveFor(age)),
        _ => Act::Usual,
    })
    .await;
    let bridge = Bridge::start(&world.configuration).await;
    let record = pepay.until("five connections", |record| record.of(Asked::Stream).count() == 5).await;
    let opened: Vec<_> = record.of(Asked::Stream).map(|request| request.at).collect();
    let connected = age * 4;
    let passed = opened[4] - opened[0];
    assert!(connected.as_secs_f64() > passed.as_secs_f64() * 0.9, "{connected:?} of {passed:?}");
    let status = bridge.status().await;
    assert!(status["streams"][0]["problem"].is_null(), "{status}");
    assert_eq!(counted(&bridge, &reconnects("closed")).await, "4");
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_that_is_refused_on_the_open_stream_is_left_out_after_a_few_tries() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let pepay = RawPepay::of(&mut world, |request| match request.asked {
        Asked::Stream if request.parameter("since").is_some() => stream(Then::Text(CURSOR)),
        _ => Act::Usual,
    })
    .await;
    pepay.publish(news(0));
    let bridge = Bridge::start(&world.configuration).await;
    let without = |record: &crate::support::pepay::Record| {
        record.of(Asked::Stream).any(|request| request.parameter("since").is_none())
    };
    let record = pepay.until("a stream without a cursor", without).await;
    assert_eq!(record.of(Asked::Stream).count(), 4, "three with the cursor, then one without");
    pepay.publish(news(1));
    delivered(&target, 1).await;
    bridge.until("no problem", |status| status["streams"][0]["problem"].is_null()).await;
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_brings_nothing_while_webhooks_do_is_replaced_once_and_then_reported() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let pepay = RawPepay::of(&mut world, |request| match request.asked {
        Asked::Stream => stream(Then::Quiet),
        _ => Act::Usual,
    })
    .await;
    let bridge = Bridge::start(&world.configuration).await;
    live(&bridge).await;
    let mut pace = tokio::time::interval(Duration::from_secs(1));
    let mut sent = 0;
    // Events arrive only by webhook, and Pepay lists them.
    let behind = loop {
        pace.tick().await;
        let event = news(sent);
        sent += 1;
        pepay.publish(event.clone());
        webhook(&bridge, &event).await;
        let status = bridge.status().await;
        if status["streams"][0]["behind"] == true {
            break status;
        }
        assert!(sent < 50, "{status}");
    };
    assert!(problem(&behind).contains("sweeps keep finding"), "{behind}");
    assert_eq!(counted(&bridge, &reconnects("behind")).await, "1");
    assert!(bridge.admin("/readyz").await.text().await.unwrap().contains("brings less than Pepay has"));
    // A stream that brings events again clears the problem.
    pepay.change(|_| Act::Usual);
    bridge.post("/api/v1/streams/commerce/reconnect", &serde_json::json!({})).await;
    pepay.until("a new connection", |record| record.of(Asked::Stream).count() == 3).await;
    bridge.until("the return", |status| status["streams"][0]["phase"] == "live").await;
    pepay.publish(news(sent));
    delivered(&target, sent as usize + 1).await;
    bridge.until("no problem", |status| status["streams"][0]["behind"] == false).await;
    assert!(bridge.stop().await.0.success());
}
