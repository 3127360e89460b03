//! The reasons why a delivery waits, as the API and the commands show them.

use serde_json::{Value, json};

use super::Operator;
use crate::support::bridge::{Configuration, run};
use crate::support::raw::{Act, RawTarget};
use crate::support::world::{World, hold};

fn refusal(head: &str) -> Act {
    Act::Say(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

/// Waits until `target` has `count` deliveries and `wanted` holds for the `next_try` of each. Returns them.
async fn waiting(
    operator: &Operator,
    target: &str,
    count: usize,
    wanted: impl Fn(&Value) -> bool,
) -> Vec<Value> {
    let path = format!("deliveries?target={target}&limit=500");
    let all = operator.until(&path, |body| {
        let open = body["deliveries"].as_array().unwrap();
        open.len() == count && open.iter().all(|delivery| wanted(&delivery["next_try"]))
    });
    all.await["deliveries"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_says_what_it_waits_for() {
    let mut world = World::new(World::with_duplicates()).await;
    let (_held, down) = hold();
    let busy = RawTarget::new(|_| refusal("503 Busy\r\nretry-after: 600")).await;
    let broken = RawTarget::new(|_| refusal("500 No")).await;
    for (name, url) in
        [("down", &down), ("busy", &busy.url), ("broken", &broken.url), ("paused", &broken.url)]
    {
        world.target_at(name, url);
        world.set_target(name, "RETRY_MIN", "30m");
        world.set_target(name, "RETRY_MAX", "1h");
        world.set_target(name, "ORDERING", "none");
    }
    world.set_target("broken", "ORDERING", "per_object");
    world.set_target("broken", "TYPES", "invoice.*");
    let bridge = world.bridge().await;
    let operator = Operator::of(&bridge);
    operator.act("targets/paused/pause", json!({})).await;
    for (number, kind) in (1..=12).zip(["commerce.order.updated", "invoice.updated"].into_iter().cycle()) {
        let object = if number % 2 == 0 { "inv_1".to_owned() } else { format!("order_{number}") };
        let event = json!({
            "id": format!("evt_1734780000000-{number}"), "object": "event", "type": kind,
            "created": 1_734_780_000, "data": { "object": { "id": object } },
        });
        crate::support::world::webhook(&bridge, &event.to_string()).await;
    }
    let is = |what: &'static str| move |next: &Value| next["waits_for"] == what;
    waiting(&operator, "paused", 12, is("pause")).await;
    // Some may have been probes already; these wait for their time or for the next probe.
    let down =
        waiting(&operator, "down", 12, |next| next["waits_for"] == "probe" || next["waits_for"] == "time");
    assert!(down.await.iter().any(|delivery| delivery["next_try"]["waits_for"] == "probe"));
    // The retry of one that was refused may be due later than the `Retry-After` of the target.
    let busy = waiting(&operator, "busy", 12, |next| {
        next["waits_for"] == "retry_after" || next["waits_for"] == "time"
    });
    let busy = busy.await;
    let untried = busy.iter().filter(|delivery| delivery["attempts"] == 0).collect::<Vec<_>>();
    assert!(
        untried.len() > 6 && untried.iter().all(|one| one["next_try"]["waits_for"] == "retry_after"),
        "{busy:?}"
    );
    assert!(busy.iter().all(|delivery| delivery["next_try"]["at"].is_string()), "{busy:?}");
    let lane = waiting(&operator, "broken", 6, |next| !next["waits_for"].is_null());
    let lane = lane.await;
    let (head, behind) = lane.split_last().unwrap();
    assert_eq!(head["next_try"]["waits_for"], "time", "{head}");
    for (delivery, before) in behind.iter().zip(&lane[1..]) {
        let next = &delivery["next_try"];
        assert_eq!(
            (&next["waits_for"], &next["event_id"]),
            (&json!("event"), &before["event_id"]),
            "{delivery}"
        );
    }
    let event = operator.look("events/evt_1734780000000-1").await;
    let shown: Vec<_> = event["deliveries"].as_array().unwrap().iter().collect();
    let of = |name: &str| &shown.iter().find(|delivery| delivery["target"] == name).unwrap()["next_try"];
    assert_eq!(of("paused")["waits_for"], "pause");

    let here = ["--admin-url", &*bridge.admin];
    let list = [&["deliveries", "list", "--target", "paused"][..], &here].concat();
    let told = run(&Configuration::new(), &list).await.stdout;
    assert!(told.contains("NEXT TRY") && told.contains("when its target is resumed"), "{told}");
    let told = run(&Configuration::new(), &[&["targets", "list"][..], &here].concat()).await.stdout;
    for (target, says) in [("busy", "its Retry-After"), ("paused", "by an operator"), ("down", "a probe")] {
        let row = told.lines().find(|row| row.starts_with(target)).unwrap();
        assert!(row.contains(says), "{row}");
    }
    bridge.stop().await;
}
