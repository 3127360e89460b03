//! A target breaks, is repaired, and receives its dead deliveries.

use pepay_bridge::simulator::target::Reaction;
use reqwest::StatusCode;
use serde_json::json;

use super::{Operator, event_id};
use crate::support::soon;
use crate::support::world::{World, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn dead_deliveries_of_a_broken_target_are_retried_in_bulk_until_all_have_arrived() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::GONE, None));
    let mut bridge = world.bridge().await;
    let ids = world.simulator.play(20);
    let operator = Operator::of(&bridge);

    let dead = operator.until_all_are("dead", 20).await;
    assert!(dead.iter().all(|delivery| delivery["last_status"] == 410 && delivery["attempts"] == 1));
    let one = operator.look(&format!("deliveries/orders/{}", event_id(&dead[0]))).await;
    assert_eq!(
        (&one["attempt_log"][0]["number"], &one["attempt_log"][0]["status"]),
        (&json!(1), &json!(410))
    );

    let filter = json!({ "state": "dead", "target": "orders" });
    let counted = operator.act("deliveries/retry", json!({ "filter": filter, "dry_run": true })).await;
    assert_eq!(counted, json!({ "action": "retry", "matching": 20, "changed": 0 }));
    let (status, problem) =
        operator.post("deliveries/retry", json!({ "filter": filter, "confirm": 19 })).await;
    assert_eq!((status, &problem["matching"]), (StatusCode::CONFLICT, &json!(20)));
    assert_eq!(operator.until_all_are("dead", 20).await, dead, "nothing has changed");

    target.heal();
    let changed = operator.act("deliveries/retry", json!({ "filter": filter, "confirm": 20 })).await;
    assert_eq!(changed, json!({ "action": "retry", "matching": 20, "changed": 20 }));
    let delivered = operator.until_all_are("delivered", 20).await;
    assert!(delivered.iter().all(|delivery| delivery["attempts"] == 2));
    let counted = operator.act("deliveries/retry", json!({ "filter": filter, "dry_run": true })).await;
    assert_eq!(counted["matching"], 0);
    assert_each_once(&target, &ids);

    let line = bridge.logged_where("the trace of the retry", |line| line["outcome"] == "done").await;
    assert_eq!(
        (&line["action"], &line["count"], &line["level"]),
        (&json!("retry"), &json!(20), &json!("INFO"))
    );
    assert!(line["filter"].as_str().unwrap().contains("\"dead\""), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bulk_change_that_the_store_does_not_finish_says_how_many_were_changed() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::GONE, None));
    let mut bridge = world.bridge().await;
    world.simulator.play(201);
    let operator = Operator::of(&bridge);
    operator.until_all_are("dead", 201).await;

    let other_writer = rusqlite::Connection::open(world.database()).unwrap();
    let refuse = "CREATE TRIGGER refuse BEFORE UPDATE ON delivery WHEN new.state = 'cancelled' AND new.sequence > 200 \
                  BEGIN SELECT raise(ABORT, 'refused by the test'); END";
    other_writer.execute_batch(refuse).unwrap();
    let all = json!({ "filter": { "state": "dead" }, "confirm": 201 });
    let (status, problem) = operator.post("deliveries/cancel", all).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("refused by the test; 200 were changed before that"), "{detail}");
    operator.until_all_are("cancelled", 200).await;
    let line = bridge.logged_where("the trace of the call", |line| line["action"] == "cancel").await;
    assert_eq!((&line["count"], &line["outcome"]), (&json!(200), &json!("store_unavailable")));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_delivery_that_waits_for_its_retry_is_retried_at_once_and_another_is_cancelled_for_good() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    for (key, value) in [("RETRY_MIN", "1h"), ("RETRY_MAX", "1h"), ("ORDERING", "none")] {
        world.set_target("orders", key, value);
    }
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::BAD_REQUEST, Some("3600".to_owned())));
    let bridge = world.bridge().await;
    world.simulator.play(2);
    let operator = Operator::of(&bridge);
    let waiting = operator.until_all_are("retrying", 2).await;
    let (first, second) = (event_id(&waiting[0]), event_id(&waiting[1]));

    target.heal();
    let cancelled = operator.act(&format!("deliveries/orders/{second}/cancel"), json!({})).await;
    assert_eq!((&cancelled["state"], &cancelled["due_at"]), (&json!("cancelled"), &json!(null)));
    let retried = operator.act(&format!("deliveries/orders/{first}/retry"), json!({})).await;
    assert_eq!(retried["event_id"], first);
    soon("the retry", target.until(|totals| totals.unique == 1)).await;
    operator.until_all_are("delivered", 1).await;
    assert_eq!(operator.state("orders", second).await, "cancelled");

    let allowed = operator.refused(&format!("deliveries/orders/{first}/retry")).await;
    assert_eq!(allowed, json!(["retrying", "dead", "closed", "cancelled"]));
    assert_eq!(operator.refused(&format!("deliveries/orders/{second}/release")).await, json!(["held"]));
    // A cancelled delivery can still be retried.
    operator.act(&format!("deliveries/orders/{second}/retry"), json!({})).await;
    operator.until_all_are("delivered", 2).await;
}
