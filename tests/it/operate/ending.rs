//! Deliveries whose outcome is unknown wait for an operator, who decides.

use serde_json::json;

use super::{Operator, event_id};
use crate::support::raw::{Act, RawTarget};
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_held_delivery_is_released_closed_or_cancelled() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = RawTarget::new(|_| Act::Hang).await;
    world.target_at("orders", &target.url);
    for (key, value) in [("ON_UNCERTAIN", "hold"), ("TIMEOUT", "300ms"), ("ORDERING", "none")] {
        world.set_target("orders", key, value);
    }
    let bridge = world.bridge().await;
    world.simulator.play(3);
    let operator = Operator::of(&bridge);
    let held = operator.until_all_are("held", 3).await;
    let [released, closed, cancelled] = [event_id(&held[0]), event_id(&held[1]), event_id(&held[2])];
    assert_eq!(operator.look("targets").await["targets"][0]["held"], 3);

    target.heal();
    let ended = operator.act(&format!("deliveries/orders/{closed}/close"), json!({})).await;
    assert_eq!(ended["state"], "closed");
    let ended = operator.act(&format!("deliveries/orders/{cancelled}/cancel"), json!({})).await;
    assert_eq!(ended["state"], "cancelled");
    operator.act(&format!("deliveries/orders/{released}/release"), json!({})).await;
    let delivered = operator.until_all_are("delivered", 1).await;
    assert_eq!(event_id(&delivered[0]), released);

    assert_eq!(operator.refused(&format!("deliveries/orders/{released}/close")).await, json!(["held"]));
    assert_eq!(operator.state("orders", closed).await, "closed");
    let seen = target.record().requests;
    let of = |id: &str| {
        seen.iter().filter(|request| request.id == id).map(|request| request.attempt).collect::<Vec<_>>()
    };
    assert_eq!((of(released), of(closed), of(cancelled)), (vec![1, 2], vec![1], vec![1]));
}
