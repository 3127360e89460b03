//! Replay of an event that has been delivered.

use reqwest::StatusCode;
use serde_json::json;

use super::Operator;
use crate::support::soon;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_is_marked_so_that_a_target_can_tell_it_from_a_repetition() {
    let mut world = World::new(World::with_duplicates()).await;
    let (target, picky) = (world.target("orders").await, world.target("picky").await);
    world.set("TARGETS__PICKY__TYPES", "something.else");
    let bridge = world.bridge().await;
    let ids = world.simulator.play(1);
    let (id, operator) = (ids[0].as_str(), Operator::of(&bridge));
    operator.until_all_are("delivered", 1).await;

    for number in 1..=2 {
        let (status, delivery) =
            operator.post(&format!("events/{id}/replay"), json!({ "target": "orders" })).await;
        assert_eq!((status, &delivery["replays"]), (StatusCode::ACCEPTED, &json!(number)), "{delivery}");
        operator.until(&format!("deliveries/orders/{id}"), |delivery| delivery["state"] == "delivered").await;
    }
    // A target whose types do not match the event receives it by a replay.
    operator.act(&format!("events/{id}/replay"), json!({ "target": "picky" })).await;
    soon("the replay", picky.until(|totals| totals.unique == 1)).await;

    let marks: Vec<_> = target
        .deliveries()
        .iter()
        .map(|delivery| {
            assert_eq!((&*delivery.id, delivery.signature_valid), (id, Some(true)));
            delivery.headers.get("pepay-bridge-replay").map(|mark| mark.to_str().unwrap().to_owned())
        })
        .collect();
    assert_eq!(marks, [None, Some("1".to_owned()), Some("2".to_owned())]);
    assert_eq!(picky.deliveries()[0].headers["pepay-bridge-replay"], "1");

    let (status, problem) =
        operator.post(&format!("events/{id}/replay"), json!({ "target": "nobody" })).await;
    assert_eq!(
        (status, &problem["detail"]),
        (StatusCode::NOT_FOUND, &json!("no target \"nobody\"; there are: orders, picky"))
    );
}
