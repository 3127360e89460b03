//! A target that is down: the breaker spends no attempts of waiting deliveries on it.

use http::StatusCode;
use pepay_bridge::simulator::target::Reaction;

use crate::support::soon;
use crate::support::world::{SHORT, World, assert_each_once};

const EVENTS: usize = 300;
const CONCURRENCY: u64 = 8;

#[tokio::test(flavor = "multi_thread")]
async fn the_breaker_opens_lets_single_probes_through_and_closes_with_the_first_success() {
    let mut world = World::new(World::with_duplicates()).await;
    let (target, healthy) = (world.target("orders").await, world.target("healthy").await);
    world.set_target("orders", "CONCURRENCY", &CONCURRENCY.to_string());
    world.set_target("orders", "TIMEOUT", &format!("{}ms", SHORT.as_millis()));
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    let mut bridge = world.bridge().await;
    let ids = world.simulator.play(EVENTS);
    bridge.logged("target is down").await;
    soon("the healthy target", healthy.until(|totals| totals.unique == EVENTS as u64)).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;

    // From here on there is one probe at a time, and each hangs until its time limit.
    soon("the end of what was out", target.until(|totals| totals.in_flight == 0)).await;
    target.heal();
    target.fail_ratio(1.0, Reaction::Hang);
    let before = target.totals().failed;
    let probes = target.until(|totals| {
        assert!(totals.in_flight <= 1, "two probes at a time");
        totals.failed >= before + 4
    });
    soon("four probes", probes).await;
    let status = bridge.status().await;
    let shown = status["targets"].as_array().unwrap().iter().find(|shown| shown["name"] == "orders").unwrap();
    assert!(["open", "half_open"].contains(&shown["circuit"].as_str().unwrap()), "{shown}");
    assert_eq!(shown["backlog"], EVENTS);
    assert!(shown["backlog_oldest_seconds"].as_f64() > Some(0.0), "{shown}");
    assert!(shown["last_error"]["error"].is_string() && shown["last_delivered_at"].is_null(), "{shown}");
    let spent = target.totals().received;
    assert!(spent < EVENTS as u64 / 4, "{spent} attempts were spent on a target that is down");

    target.heal();
    bridge.logged("target is up").await;
    soon("all deliveries", target.until(|totals| totals.unique == EVENTS as u64)).await;
    assert!(target.totals().max_in_flight <= CONCURRENCY);
    let closed = bridge.until("an empty backlog", |status| {
        status["targets"].as_array().unwrap().iter().all(|target| target["backlog"] == 0)
    });
    assert!(closed.await["targets"].as_array().unwrap().iter().all(|target| target["circuit"] == "closed"));
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
    assert_each_once(&healthy, &ids);
}
