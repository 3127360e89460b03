//! Lists of events and deliveries, and one event in full.

use std::collections::BTreeSet;

use pepay_bridge::domain::event::EventId;
use serde_json::{Value, json};

use super::Operator;
use crate::support::soon;
use crate::support::world::World;

/// Returns whether a filter should keep an event.
type Keeps = Box<dyn Fn(&Value) -> bool>;

#[tokio::test(flavor = "multi_thread")]
async fn every_event_is_listed_once_newest_first_page_by_page_and_by_every_filter() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    world.set("TARGETS__ORDERS__TYPES", "commerce.order.*");
    let bridge = world.bridge().await;
    let ids = world.simulator.play(40);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.until("all events", |status| status["store"]["events"] == 40).await;
    bridge.until("their delivery", |status| status["targets"][0]["backlog"] == 0).await;
    let operator = Operator::of(&bridge);

    let (mut events, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = operator.look(&format!("events?limit=7{cursor}")).await;
        let listed = page["events"].as_array().unwrap();
        assert!(listed.len() <= 7);
        events.extend(listed.iter().cloned());
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let sequences: Vec<_> = events.iter().map(|event| event["sequence"].as_i64().unwrap()).collect();
    assert_eq!(sequences, (1..=40).rev().collect::<Vec<_>>());
    let listed: BTreeSet<_> = events.iter().map(|event| event["id"].as_str().unwrap()).collect();
    assert_eq!(listed, ids.iter().map(EventId::as_str).collect());

    // Each filter keeps exactly the events that match it.
    let chosen = &events[20];
    let text = |name: &str| chosen[name].as_str().unwrap().to_owned();
    let has_delivered =
        |event: &Value| event["deliveries"].as_array().unwrap().iter().any(|one| one["state"] == "delivered");
    let same = |name: &'static str, value: String| move |event: &Value| event[name] == value.as_str();
    let expectations: Vec<(String, Keeps)> = vec![
        (format!("type={}", text("type")), Box::new(same("type", text("type")))),
        (
            "type=commerce.order.*".to_owned(),
            Box::new(|event| event["type"].as_str().unwrap().starts_with("commerce.order.")),
        ),
        (format!("object_id={}", text("object_id")), Box::new(same("object_id", text("object_id")))),
        ("source=stream".to_owned(), Box::new(same("source", "stream".to_owned()))),
        (format!("id_prefix={}", text("id")), Box::new(same("id", text("id")))),
        ("state=delivered".to_owned(), Box::new(has_delivered)),
        ("target=orders".to_owned(), Box::new(|event| event["deliveries"] != json!([]))),
        ("state=dead".to_owned(), Box::new(|_| false)),
        (
            format!("from={}", text("received_at")),
            Box::new({
                let from = text("received_at");
                move |event| event["received_at"].as_str().unwrap() >= from.as_str()
            }),
        ),
        (
            format!("to={}", text("received_at")),
            Box::new({
                let to = text("received_at");
                move |event| event["received_at"].as_str().unwrap() < to.as_str()
            }),
        ),
    ];
    for (query, keeps) in expectations {
        let kept =
            operator.look(&format!("events?limit=500&{query}")).await["events"].as_array().unwrap().clone();
        let expected: Vec<_> = events.iter().filter(|event| keeps(event)).cloned().collect();
        assert_eq!(kept, expected, "{query}");
    }
    let deliveries =
        operator.look("deliveries?limit=500&target=orders").await["deliveries"].as_array().unwrap().clone();
    let orders: Vec<_> =
        events.iter().filter(|event| event["deliveries"] != json!([])).map(|event| &event["id"]).collect();
    assert_eq!(deliveries.iter().map(|delivery| &delivery["event_id"]).collect::<Vec<_>>(), orders);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_shown_with_its_exact_bytes_every_sighting_and_every_attempt() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    let ids = world.simulator.play(1);
    let truth = world.truth(&ids).await;
    let (id, operator) = (ids[0].as_str(), Operator::of(&bridge));
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.until_metric("pepay_bridge_events_received_total{source=\"stream\"}", 1.0).await;
    operator.until_all_are("delivered", 1).await;

    let event = operator.look(&format!("events/{id}")).await;
    assert_eq!(event["body"].as_str().unwrap().as_bytes(), truth[id]);
    assert_eq!(event["size"], truth[id].len());
    assert_eq!(event["body_sha256"].as_str().unwrap().len(), 64);
    let sources: BTreeSet<_> =
        event["sightings"].as_array().unwrap().iter().map(|one| one["source"].as_str().unwrap()).collect();
    assert!(sources.is_superset(&BTreeSet::from(["stream", "webhook"])), "{sources:?}");
    assert_eq!(event["sightings"][0]["lag_ms"], 0);
    let delivery = &event["deliveries"][0];
    assert_eq!(
        (&delivery["target"], &delivery["state"], &delivery["attempts"]),
        (&json!("orders"), &json!("delivered"), &json!(1))
    );
    assert_eq!(
        (&delivery["attempt_log"][0]["number"], &delivery["attempt_log"][0]["status"]),
        (&json!(1), &json!(200))
    );
    assert_eq!(*delivery, operator.look(&format!("deliveries/orders/{id}")).await);

    let bytes = bridge.admin(&format!("/api/v1/events/{}/body", id.replace('_', "%5F"))).await;
    assert_eq!(bytes.headers()["content-type"], "application/json");
    assert_eq!(bytes.bytes().await.unwrap(), truth[id]);
}
