//! Connections that break without an end, and frames that cannot be parsed.

use std::time::Duration;

use pepay_bridge::simulator::fault::{Fault, Frame};
use pepay_bridge::simulator::options::Options;
use sqlx::Connection as _;

use super::proxy::{Proxy, Way};
use super::{caught_up, counted, delivered, live, reconnects, without_webhooks};
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

/// Starts a world whose stream goes through a proxy and counts as dead after a second of silence.
async fn proxied() -> (World, Proxy) {
    let mut world = World::new(without_webhooks()).await;
    let proxy = Proxy::to(&world.configuration["PEPAY__API_URL"]).await;
    world.set("PEPAY__WS_URL", &proxy.url);
    world.set("STREAMS__COMMERCE__IDLE_TIMEOUT", "1s");
    world.set("STREAMS__COMMERCE__PING_INTERVAL", "300ms");
    (world, proxy)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_carries_no_more_bytes_is_replaced_without_loss() {
    let (mut world, proxy) = proxied().await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(10);
    caught_up(&bridge, ids.last().unwrap()).await;
    proxy.treat(Way::Swallow);
    ids.extend(world.simulator.play(50));
    bridge.until("the loss", |status| status["streams"][0]["connected"] == false).await;
    proxy.treat(Way::Pass);
    delivered(&target, ids.len()).await;
    assert!(bridge.metric(&reconnects("idle")).await >= 1.0);
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_connection_whose_peer_answers_pings_stays() {
    let (mut world, _proxy) = proxied().await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    // Ten pings take three times as long as the idle timeout.
    let before = world.simulator.statistics().pings_received;
    soon("pings", world.simulator.until(|seen| seen.pings_received >= before + 10)).await;
    assert_eq!(world.simulator.statistics().streams_opened, 1);
    let ids = world.simulator.play(3);
    delivered(&target, 3).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_reset_or_slow_lose_nothing() {
    let (mut world, proxy) = proxied().await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = Vec::new();
    for way in [Way::Reset, Way::Trickle, Way::Reset] {
        proxy.treat(way);
        ids.extend(world.simulator.play(60));
        proxy.treat(Way::Pass);
        ids.extend(world.simulator.play(20));
        caught_up(&bridge, ids.last().unwrap()).await;
    }
    delivered(&target, ids.len()).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_cannot_be_parsed_cost_no_event() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    live(&bridge).await;
    let mut ids = Vec::new();
    let deep = format!(r#"{{"object":"event","a":{}1{}}}"#, "[".repeat(5000), "]".repeat(5000));
    let oversized = format!(r#"{{"object":"event","a":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    for frame in [
        Frame::Binary(vec![0, 159, 146, 150]),
        Frame::Text("not JSON".to_owned()),
        Frame::Text(r#"{"object":"event","id":"evt_half"}"#.to_owned()),
        Frame::Text(r#"{"object":"from_the_future","id":7}"#.to_owned()),
        Frame::Text(deep),
        Frame::Text(oversized),
    ] {
        ids.extend(world.simulator.play(2));
        world.simulator.inject(Fault::Frame { frame }).unwrap();
        ids.extend(world.simulator.play(2));
    }
    caught_up(&bridge, ids.last().unwrap()).await;
    delivered(&target, ids.len()).await;
    let skipped = "pepay_bridge_stream_frames_total{stream=\"commerce\",kind=\"invalid\"}";
    assert_eq!(counted(&bridge, skipped).await, "5");
    assert_eq!(counted(&bridge, &reconnects("protocol")).await, "1");
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ws_error_is_the_reason_of_the_reconnect() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    live(&bridge).await;
    let error = Fault::Error { code: "SESSION_EXPIRED".to_owned(), message: "come back".to_owned() };
    world.simulator.inject(error).unwrap();
    let ids = world.simulator.play(5);
    delivered(&target, 5).await;
    let status = bridge.status().await;
    let reason = status["streams"][0]["last_disconnect"].as_str().unwrap();
    assert!(reason.contains("SESSION_EXPIRED") && reason.contains("come back"), "{reason}");
    assert_eq!(counted(&bridge, &reconnects("error")).await, "1");
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_does_not_commit_delays_no_pong_and_loses_no_event() {
    let options = Options { ping_interval: Some(Duration::from_millis(50)), ..without_webhooks() };
    let mut world = World::new(options).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(5);
    delivered(&target, 5).await;
    let url = &world.configuration["STORE__URL"];
    let mut other = sqlx::SqliteConnection::connect(url).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    ids.extend(world.simulator.play(300));
    let before = world.simulator.statistics();
    soon("pongs", world.simulator.until(|seen| seen.pongs_received >= before.pongs_received + 10)).await;
    assert_eq!(world.simulator.statistics().streams_opened, before.streams_opened);
    assert_eq!(target.totals().unique, 5);
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    delivered(&target, ids.len()).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}
