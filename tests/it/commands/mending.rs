//! A target breaks, is repaired, and receives its dead deliveries. An operator decides held deliveries.

use pepay_bridge::simulator::target::Reaction;
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::{Shell, cells};
use crate::support::raw::{Act, RawTarget};
use crate::support::world::{World, assert_each_once};

#[tokio::test(flavor = "multi_thread")]
async fn the_dead_deliveries_of_a_broken_target_are_found_and_retried_until_all_are_delivered() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set_target("orders", "DEAD_ON", "410");
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::GONE, None));
    let bridge = world.bridge().await;
    let mut ids = world.simulator.play(20);
    let shell = Shell::beside(&bridge, &world.configuration);
    shell.until_all_are("dead", 20).await;

    // What is wrong, and how many deliveries it concerns.
    let targets = shell.done("targets list").await;
    assert!(targets.contains("answered 410"), "{targets}");
    let printed = shell.done("deliveries list --state dead --target orders").await;
    let header = "AGE | TARGET | EVENT | TYPE | OBJECT | STATE | ATTEMPTS | NEXT TRY | LAST ERROR";
    let rows = cells(&printed, header);
    assert_eq!(rows.len(), 20, "{printed}");
    assert!(rows.iter().all(|row| row[5] == "dead" && row[6] == "1" && row[8].contains("410")), "{printed}");
    assert!(shell.failed("targets test orders", 1).await.contains("target orders: answered 410"));
    let outcome = shell.run("targets test orders --json").await;
    assert_eq!(outcome.code, Some(1));
    assert_eq!(serde_json::from_str::<Value>(&outcome.stdout).unwrap()["acknowledged"], false);

    // Without a terminal nobody can confirm, so nothing changes.
    let retry = "deliveries retry --state dead --target orders";
    let unasked = shell.failed(retry, 2).await;
    assert!(unasked.contains("20 deliveries to retry") && unasked.contains("--yes"), "{unasked}");
    assert_eq!(shell.done(&format!("{retry} --dry-run")).await, "20 deliveries to retry\n");
    let counted = shell.json(&format!("{retry} --dry-run")).await;
    assert_eq!(counted, json!({ "action": "retry", "matching": 20, "changed": 0 }));
    for wrong in ["deliveries retry", "deliveries retry orders", "deliveries retry --yes"] {
        assert!(!shell.failed(wrong, 2).await.is_empty());
    }
    let both = format!("deliveries retry orders {} --state dead", rows[0][2]);
    assert!(!shell.failed(&both, 2).await.is_empty());
    assert_eq!(shell.until_all_are("dead", 20).await.len(), 20, "nothing has changed");

    // The target is repaired and tested. One delivery is retried first, then all others.
    target.heal();
    let tested = shell.json("targets test orders").await;
    assert_eq!(tested["acknowledged"], true);
    ids.push(tested["event_id"].as_str().unwrap().parse().unwrap());
    let first = shell.done(&format!("deliveries retry orders {}", rows[0][2])).await;
    assert!(first.starts_with(&format!("the delivery of {} to orders is ", rows[0][2])), "{first}");
    shell.until_all_are("delivered", 1).await;
    assert_eq!(shell.done(&format!("{retry} --yes")).await, "retry: 19 deliveries changed\n");
    shell.until_all_are("delivered", 20).await;
    assert_eq!(shell.done(&format!("{retry} --yes")).await, "0 deliveries to retry\n");
    let target_now = shell.json("targets list").await["targets"][0].clone();
    assert_eq!((&target_now["dead"], &target_now["backlog"]), (&json!(0), &json!(0)));
    assert_each_once(&target, &ids);

    let refused = shell.failed(&format!("deliveries retry orders {}", rows[0][2]), 1).await;
    let said = "pepay-bridge: the delivery is delivered; this can be done to one that is retrying, dead, \
                closed, cancelled\n";
    assert_eq!(refused, said);
    for of_nobody in [
        "deliveries cancel nobody evt_1",
        "deliveries cancel --target nobody --yes",
        "events list --target nobody",
    ] {
        let refused = shell.failed(of_nobody, 1).await;
        assert_eq!(refused, "pepay-bridge: no target \"nobody\"; there are: orders\n", "{of_nobody}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn held_deliveries_are_released_closed_and_cancelled() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = RawTarget::new(|_| Act::Hang).await;
    world.target_at("orders", &target.url);
    for (key, value) in [("ON_UNCERTAIN", "hold"), ("TIMEOUT", "300ms"), ("ORDERING", "none")] {
        world.set_target("orders", key, value);
    }
    let bridge = world.bridge().await;
    world.simulator.play(4);
    let shell = Shell::beside(&bridge, &world.configuration);
    let held = shell.until_all_are("held", 4).await;
    let id = |index: usize| held[index]["event_id"].as_str().unwrap();

    target.heal();
    let closed = shell.done(&format!("deliveries close orders {}", id(0))).await;
    assert_eq!(closed, format!("the delivery of {} to orders is closed\n", id(0)));
    let cancelled = shell.json(&format!("deliveries cancel orders {}", id(1))).await;
    assert_eq!(cancelled["state"], "cancelled");
    let shown = shell.done(&format!("events show {}", id(1))).await;
    assert!(shown.contains("delivery to orders: cancelled at "), "{shown}");
    let released = shell.json("deliveries release --state held --target orders --yes").await;
    assert_eq!(released, json!({ "action": "release", "matching": 2, "changed": 2 }));
    shell.until_all_are("delivered", 2).await;
    for (state, count) in [("closed", 1), ("cancelled", 1), ("held", 0)] {
        shell.until_all_are(state, count).await;
    }
    assert_eq!(target.record().unique(), 2);
}
