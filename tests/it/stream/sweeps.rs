//! Sweeps, which find events that no source has brought.

use std::time::{Duration, Instant};

use pepay_bridge::simulator::fault::{Channel, Fault};
use pepay_bridge::simulator::statistics::Statistics;

use super::{caught_up, counted, delivered, live, reconnects, without_webhooks};
use crate::support::bridge::Bridge;
use crate::support::pepay::{Act, Asked, RawPepay, event, now, page};
use crate::support::soon;
use crate::support::world::{World, acknowledged, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn events_that_the_stream_lost_are_found_and_a_stream_that_goes_on_losing_is_replaced() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let bridge = world.bridge().await;
    live(&bridge).await;
    world.simulator.inject(Fault::Skip { channel: Channel::Live, times: 7 }).unwrap();
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
    // Each event waits for the sweep that finds it.
    while bridge.metric(&reconnects("behind")).await < 1.0 {
        world.simulator.inject(Fault::Skip { channel: Channel::Live, times: 1 }).unwrap();
        ids.extend(world.simulator.play(1));
        lost += 1;
        delivered(&target, 12 + lost).await;
    }
    bridge.until("the return", |status| status["streams"][0]["connected"] == true).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_over_a_complete_store_takes_one_request() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    live(&bridge).await;
    let ids = world.simulator.play(80);
    delivered(&target, 80).await;
    bridge.stop().await;

    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let before = world.simulator.statistics().rest_pages;
    let bridge = world.bridge().await;
    // The start may read pages too.
    let started = |seen: &Statistics| seen.rest_pages >= before + 3;
    let first = soon("the first sweeps", world.simulator.until(started)).await.rest_pages;
    let began = Instant::now();
    soon("eight pages", world.simulator.until(|seen| seen.rest_pages >= first + 8)).await;
    // A sweep begins a second after the end of the last one. So eight sweeps take more than seven
    // seconds, and four sweeps with two pages each would take about four.
    assert!(began.elapsed() > Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_reaches_the_end_of_its_lookback_whatever_the_number_of_events() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "0s");
    let bridge = world.bridge().await;
    live(&bridge).await;
    world.simulator.inject(Fault::Skip { channel: Channel::Live, times: 1 }).unwrap();
    let mut ids = world.simulator.play(2_200);
    delivered(&target, 2_199).await;
    caught_up(&bridge, ids.last().unwrap()).await;
    bridge.stop().await;

    // The sweep reads 23 pages: 20 at once, then three that are a second apart.
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let before = world.simulator.statistics().rest_pages;
    let bridge = world.bridge().await;
    delivered(&target, 2_200).await;
    bridge.until("the proof", |status| status["streams"][0]["compared_until"].is_string()).await;
    let found = acknowledged(&target)[ids[0].as_str()][0].headers["pepay-bridge-source"].clone();
    assert_eq!(found, "reconcile");
    // The next sweeps do not compare these events again.
    ids.extend(world.simulator.play(1));
    delivered(&target, 2_201).await;
    let pages = |seen: &Statistics| seen.rest_pages >= before + 30;
    soon("more sweeps", world.simulator.until(pages)).await;
    bridge.until("sweeps that go on", |status| status["streams"][0]["problem"].is_null()).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_kill_a_sweep_compares_all_that_none_had_compared_however_old_it_is() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "30d");
    let bridge = world.bridge().await;
    live(&bridge).await;
    world.simulator.inject(Fault::Skip { channel: Channel::Live, times: 1 }).unwrap();
    let mut ids = world.simulator.play(1);
    let lost_at = now();
    // Events go on until the lost one is older than the lookback of the next sweep.
    while now() < lost_at + 4 {
        ids.extend(world.simulator.play(1));
        delivered(&target, ids.len() - 1).await;
    }
    caught_up(&bridge, ids.last().unwrap()).await;
    bridge.kill().await;

    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    world.set("STREAMS__COMMERCE__RECONCILE_LOOKBACK", "1s");
    let bridge = world.bridge().await;
    delivered(&target, ids.len()).await;
    let found = acknowledged(&target)[ids[0].as_str()][0].headers["pepay-bridge-source"].clone();
    assert_eq!(found, "reconcile");
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_old_entry_on_a_page_does_not_end_a_sweep() {
    let mut world = World::new(without_webhooks()).await;
    let target = world.target("orders").await;
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "0s");
    world.set("STREAMS__COMMERCE__START_FROM", "earliest");
    let pepay = RawPepay::of(&mut world, |_| Act::Usual).await;
    let began = now() - 800;
    let events: Vec<_> = (0..150).map(|n| event(began + i64::from(n) * 5, n)).collect();
    for event in &events {
        pepay.publish(event.clone());
    }
    let bridge = Bridge::start(&world.configuration).await;
    delivered(&target, 150).await;
    bridge.until("the end of the gap", |status| status["streams"][0]["gap"]["state"] == "closed").await;
    bridge.stop().await;

    // The first page begins with an event of last year. An event that no source has brought is on a
    // later page.
    pepay.list_late(5, event(began + 20, 200));
    let odd: Vec<_> =
        [event(began - 31_536_000, 201)].into_iter().chain(events.into_iter().rev()).take(100).collect();
    pepay.change(move |request| match (request.asked, request.parameter("starting_after")) {
        (Asked::List, None) => {
            Act::Say("HTTP/1.1 200 OK\r\ncontent-type: application/json", page(&odd, true))
        }
        _ => Act::Usual,
    });
    world.set("STREAMS__COMMERCE__RECONCILE_INTERVAL", "1s");
    let bridge = Bridge::start(&world.configuration).await;
    let seen = pepay.record().of(Asked::List).count();
    pepay.until("a sweep", |record| record.of(Asked::List).count() >= seen + 3).await;
    pepay.change(|_| Act::Usual);
    // The event of last year is delivered too: the stream starts from the earliest.
    delivered(&target, 152).await;
    assert!(bridge.stop().await.0.success());
}
