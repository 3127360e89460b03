//! Concurrency, order, rate limit and headers of the requests to a target.

use std::time::Duration;

use pepay_bridge::simulator::target::Reaction;

use crate::support::soon;
use crate::support::world::{World, assert_each_once, assert_one_at_a_time};

#[tokio::test(flavor = "multi_thread")]
async fn concurrency_is_a_limit_and_events_of_one_object_never_overlap() {
    let mut world = World::new(World::with_duplicates()).await;
    let (narrow, wide) = (world.target("narrow").await, world.target("wide").await);
    world.set_target("narrow", "CONCURRENCY", "3");
    for target in [&narrow, &wide] {
        target.delay(Duration::from_millis(20));
    }
    let bridge = world.bridge().await;
    let ids = world.simulator.play(120);
    for target in [&narrow, &wide] {
        soon("all deliveries", target.until(|totals| totals.unique == 120)).await;
        assert_each_once(target, &ids);
        assert_one_at_a_time(target);
    }
    bridge.stop().await;
    assert_eq!(narrow.totals().max_in_flight, 3);
    assert!(wide.totals().max_in_flight > 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_ordering_events_of_one_object_are_sent_at_the_same_time() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "ORDERING", "none");
    // All are sent at once: fewer that hang would open the breaker before the others are sent.
    world.set_target("orders", "CONCURRENCY", "60");
    world.set_target("orders", "TIMEOUT", "2s");
    target.fail_ratio(1.0, Reaction::Hang);
    let bridge = world.bridge().await;
    world.simulator.play(60);
    soon("two of one object", target.until(|totals| totals.overlapping > 0)).await;
    target.heal();
    soon("all deliveries", target.until(|totals| totals.unique == 60)).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_limit_spreads_requests_over_time() {
    const EVENTS: u32 = 20;
    const RATE: u32 = 20;
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "RATE_LIMIT", &RATE.to_string());
    let bridge = world.bridge().await;
    let ids = world.simulator.play(EVENTS as usize);
    soon("all deliveries", target.until(|totals| totals.unique == u64::from(EVENTS))).await;
    bridge.stop().await;
    let times: Vec<_> = target.deliveries().iter().map(|delivery| delivery.received_at).collect();
    let span = times.iter().max().unwrap().since(*times.iter().min().unwrap());
    // The first request may arrive late, which shortens the observed span.
    assert!(span * 2 >= Duration::from_secs(1) * (EVENTS - 1) / RATE, "{span:?}");
    assert_each_once(&target, &ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_may_come_from_a_file_and_are_never_shown() {
    const SECRET: &str = "the-word-that-opens-the-door";
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let file = world.folder.path().join("headers");
    std::fs::write(&file, format!("authorization: Bearer {SECRET}\nx-team: orders\n")).unwrap();
    world.set_target("orders", "HEADERS_FILE", file.to_str().unwrap());
    world.set("LOG__FILTER", "debug");
    target.next(1, Reaction::Reset);
    let bridge = world.bridge().await;
    world.simulator.play(1);
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;
    let status = bridge.status().await;
    let (_, log) = bridge.stop().await;
    for delivery in target.deliveries() {
        assert_eq!(delivery.headers["authorization"], format!("Bearer {SECRET}"));
        assert_eq!(delivery.headers["x-team"], "orders");
    }
    assert!(!status.to_string().contains(SECRET));
    assert!(log.iter().all(|line| !line.to_string().contains(SECRET)));
    let at_debug = |message: &str| {
        log.iter().any(|line| {
            line["message"] == message && line["target"] == "orders" && line["event_id"].is_string()
        })
    };
    assert!(at_debug("sending") && at_debug("delivered"));
}
