//! What neither source brought.

use pepay_bridge::simulator::fault::{Fault, Road};
use pepay_bridge::simulator::statistics::Statistics;

use super::{counted, delivered, reconnects, without_webhooks};
use crate::support::soon;
use crate::support::world::{World, acknowledged, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn what_the_stream_lost_in_silence_is_found_and_a_stream_that_goes_on_losing_is_replaced() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let bridge = world.bridge().await;
    bridge.until("a live stream", |status| status["streams"][0]["phase"] == "live").await;
    world.simulator.inject(Fault::Skip { road: Road::Live, times: 7 }).unwrap();
    let mut ids = world.simulator.play(7);
    ids.extend(world.simulator.play(5));
    delivered(&target, 12).await;
    let delivered_as = |source: &str| {
        acknowledged(&target).values().filter(|all| all[0].headers["pepay-bridge-source"] == source).count()
    };
    assert_eq!((delivered_as("reconcile"), delivered_as("stream")), (7, 5));
    let unique = "pepay_bridge_events_unique_total{source=\"reconcile\"}";
    assert_eq!(counted(&bridge, unique).await, "7");

    let mut lost = 0;
    while bridge.metric(&reconnects("behind")).await < 1.0 {
        world.simulator.inject(Fault::Skip { road: Road::Live, times: 1 }).unwrap();
        ids.extend(world.simulator.play(1));
        lost += 1;
        delivered(&target, 12 + lost).await;
    }
    bridge.until("the return", |status| status["streams"][0]["connected"] == true).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_that_finds_nothing_costs_one_request() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    bridge.until("a live stream", |status| status["streams"][0]["phase"] == "live").await;
    let ids = world.simulator.play(80);
    delivered(&target, 80).await;
    bridge.stop().await;

    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let before = world.simulator.statistics().rest_pages;
    let bridge = world.bridge().await;
    let pages = |seen: &Statistics| seen.rest_pages >= before + 6;
    soon("sweeps", world.simulator.until(pages)).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}
