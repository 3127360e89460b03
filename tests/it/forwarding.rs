//! From Pepay to the targets: each event once, as it was sent.

use std::collections::BTreeSet;

use http::StatusCode;
use pepay_bridge::simulator::target::Reaction;

use crate::support::soon;
use crate::support::world::{World, acknowledged, assert_each_once, assert_one_at_a_time};

#[tokio::test(flavor = "multi_thread")]
async fn three_hundred_events_over_both_sources_reach_each_matching_target_once_byte_for_byte() {
    let mut world = World::new(World::with_duplicates()).await;
    let (everything, orders) = (world.target("everything").await, world.target("orders").await);
    world.set("TARGETS__ORDERS__TYPES", "commerce.order.*");
    world.set("TARGETS__ORDERS__HEADERS__AUTHORIZATION", "Bearer of good news");
    let bridge = world.bridge().await;

    let ids = world.simulator.play(300);
    let truth = world.truth(&ids).await;
    soon("all deliveries", everything.until(|totals| totals.unique == 300)).await;
    let delivered = acknowledged(&everything);
    let of_orders = |kind: Option<&str>| kind.is_some_and(|kind| kind.starts_with("commerce.order."));
    let order_ids: Vec<_> =
        ids.iter().filter(|id| of_orders(delivered[id.as_str()][0].kind.as_deref())).cloned().collect();
    assert!((1..300).contains(&order_ids.len()), "the events are of several types");
    soon("the orders", orders.until(|totals| totals.unique == order_ids.len() as u64)).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;

    bridge.until_metric("pepay_bridge_events_received_total{source=\"webhook\"}", 600.0).await;
    bridge
        .until("the end of the stream's cursor", |status| status["streams"][0]["cursor"] == ids[299].as_str())
        .await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    assert!(log.iter().any(|line| line["message"] == "stopped"));

    assert_each_once(&everything, &ids);
    assert_one_at_a_time(&everything);
    assert_each_once(&orders, &order_ids);
    for (id, deliveries) in acknowledged(&everything) {
        let delivery = &deliveries[0];
        assert_eq!(delivery.body, truth[&*id], "{id} is not byte for byte what Pepay has");
        let header = |name: &str| delivery.headers.get(name).map(|value| value.to_str().unwrap());
        assert_eq!(header("content-type"), Some("application/json"));
        for same in ["webhook-id", "idempotency-key", "x-pepay-event-id"] {
            assert_eq!(header(same), Some(&*id));
        }
        assert_eq!(header("x-pepay-event"), delivery.kind.as_deref());
        assert_eq!(header("pepay-bridge-attempt"), Some("1"));
        assert!(matches!(
            header("pepay-bridge-source"),
            Some("stream" | "webhook" | "backfill" | "reconcile")
        ));
        assert_eq!(header("user-agent"), Some(concat!("pepay-bridge/", env!("CARGO_PKG_VERSION"))));
        assert_eq!(header("authorization"), None);
        assert_eq!(header("pepay-bridge-term"), None, "a store of one process has no terms");
    }
    let sequences: BTreeSet<_> =
        acknowledged(&everything).values().map(|all| all[0].sequence.unwrap()).collect();
    assert_eq!(sequences, (1..=300).collect(), "the sequence has no gap");
    let authorized = |delivery: &str| delivery == "Bearer of good news";
    assert!(
        orders
            .deliveries()
            .iter()
            .all(|delivery| authorized(delivery.headers["authorization"].to_str().unwrap()))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_in_trouble_holds_up_no_other_and_gets_everything_once_it_is_back() {
    let mut world = World::new(World::with_duplicates()).await;
    let (healthy, broken) = (world.target("healthy").await, world.target("broken").await);
    let bridge = world.bridge().await;
    broken.fail_ratio(0.5, Reaction::Answer(StatusCode::INTERNAL_SERVER_ERROR, None));
    broken.next(3, Reaction::Reset);

    let ids = world.simulator.play(120);
    soon("the healthy target's deliveries", healthy.until(|totals| totals.unique == 120)).await;
    soon("failures", broken.until(|totals| totals.failed > 5)).await;
    assert_eq!(bridge.admin("/readyz").await.status(), 200, "a failing target is no reason to be unready");
    broken.heal();
    soon("the broken target's deliveries", broken.until(|totals| totals.unique == 120)).await;
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&healthy, &ids);
    assert_each_once(&broken, &ids);
    assert_one_at_a_time(&broken);
    let retried = broken.deliveries().into_iter().filter(|delivery| delivery.attempt > Some(1)).count();
    assert!(retried > 5, "attempts are numbered");
}

#[tokio::test(flavor = "multi_thread")]
async fn deliveries_that_are_open_at_a_stop_go_on_after_the_next_start() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    let ids = world.simulator.play(40);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    assert!(bridge.stop().await.0.success());
    assert_eq!(target.totals().unique, 0);

    target.heal();
    let bridge = world.bridge().await;
    soon("all deliveries", target.until(|totals| totals.unique == 40)).await;
    assert!(bridge.stop().await.0.success());
    assert_each_once(&target, &ids);
}
