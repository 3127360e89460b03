//! The events that a target receives by `where`, and the secrets that sign them.

use pepay_bridge::simulator::target::Verifier;
use serde_json::{Value, json};

use crate::support::bridge::{Bridge, Configuration, run};
use crate::support::raw::{Act, OK, RawTarget};
use crate::support::soon;
use crate::support::world::{SIGNING_SECRET, World, webhook};

const OTHER_SECRET: &str = "whsec_b3RoZXItc2lnbmluZy1zZWNyZXQtMjQtYnl0ZXM=";

fn invoice(number: u32, status: &Value) -> String {
    let id = format!("evt_1734780000000-{number}");
    let object =
        json!({ "object": "invoice", "id": format!("inv_{number}"), "status": status, "total": number });
    let data = json!({ "object": object, "previous_attributes": { "status": "paid" } });
    json!({ "id": id, "object": "event", "type": "invoice.updated", "created": 1_734_780_000, "data": data })
        .to_string()
}

fn ok() -> Act {
    Act::Say(OK.to_vec())
}

async fn shown(bridge: &Bridge, number: u32) -> Value {
    let answer = bridge.admin(&format!("/api/v1/events/evt_1734780000000-{number}")).await;
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_receives_what_its_where_matches_and_an_event_says_whom_it_did_not_match() {
    let (paid, all) = (RawTarget::new(|_| ok()).await, RawTarget::new(|_| ok()).await);
    let mut world = World::new(World::with_duplicates()).await;
    world.target_at("paid", &paid.url);
    world.target_at("all", &all.url);
    world.set_target("paid", "WHERE", "data.object.status=paid, data.object.object = invoice");
    let bridge = world.bridge().await;
    for (number, status) in (1..).zip([
        json!("unpaid"),
        json!("paid"),
        json!("Paid"),
        json!(null),
        json!(["paid"]),
        json!("paid"),
    ]) {
        webhook(&bridge, &invoice(number, &status)).await;
    }
    all.until("every event", |record| record.unique() == 6).await;
    paid.until("the paid ones", |record| record.unique() == 2).await;
    let ids: Vec<_> = paid.record().requests.into_iter().map(|seen| seen.id).collect();
    assert_eq!(ids, ["evt_1734780000000-2", "evt_1734780000000-6"]);

    let routing = |event: &Value| event["routing"].clone();
    let unpaid = shown(&bridge, 1).await;
    assert_eq!(
        routing(&unpaid),
        json!([{ "target": "all", "mismatch": null }, { "target": "paid", "mismatch": "where" }])
    );
    assert_eq!(unpaid["deliveries"].as_array().unwrap().len(), 1);
    assert_eq!(routing(&shown(&bridge, 2).await)[1]["mismatch"], Value::Null);
    let (_, shows) = told(&bridge, &["events", "show", "evt_1734780000000-1"]).await;
    assert!(shows.contains("no delivery to paid: not matched by `where`"), "{shows}");

    // A replay by an operator sends it nevertheless.
    let (code, _) =
        bridge.post("/api/v1/events/evt_1734780000000-1/replay", &json!({ "target": "paid" })).await;
    assert_eq!(code, 202);
    let (_, shows) = told(&bridge, &["events", "show", "evt_1734780000000-1"]).await;
    assert!(shows.contains("although not matched by `where`"), "{shows}");
    paid.until("the replay", |record| record.unique() == 3).await;
    let targets: Value =
        serde_json::from_slice(&bridge.admin("/api/v1/targets").await.bytes().await.unwrap()).unwrap();
    assert_eq!(
        targets["targets"][1]["where"],
        json!({ "data.object.status": "paid", "data.object.object": "invoice" })
    );
    bridge.stop().await;
}

async fn told(bridge: &Bridge, arguments: &[&str]) -> (Option<i32>, String) {
    let arguments = [arguments, &["--admin-url", &bridge.admin]].concat();
    let ended = run(&Configuration::new(), &arguments).await;
    (ended.code, ended.stdout)
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_stream_are_routed_alike_and_a_reload_changes_the_routing() {
    let target = RawTarget::new(|_| ok()).await;
    let mut world = World::new(crate::stream::without_webhooks()).await;
    world.target_at("orders", &target.url);
    world.set_target("orders", "WHERE", "data.object.status=no-such-status");
    let mut bridge = world.bridge_on_file().await;
    world.simulator.play(30);
    bridge.until("all events", |status| status["store"]["last_sequence"] == 30).await;
    let status = bridge.status().await;
    assert_eq!(status["targets"][0]["backlog"], 0, "{status}");
    world.set_target("orders", "WHERE", "object=event");
    world.save();
    assert_eq!(bridge.reload().await["changes"], "targets.orders changed");
    world.simulator.play(10);
    target.until("what came since", |record| record.unique() == 10).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signing_secret_signs_and_a_reload_rotates_them() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    let file = world.folder.path().join("signing");
    let write = |secrets: &[&str]| std::fs::write(&file, secrets.join("\n")).unwrap();
    write(&[SIGNING_SECRET, OTHER_SECRET]);
    world.configuration.remove("TARGETS__ORDERS__SIGNING_SECRET");
    world.set_target("orders", "SIGNING_SECRET_FILE", file.to_str().unwrap());
    let mut bridge = world.bridge().await;
    world.simulator.play(1);
    soon("the first", target.until(|totals| totals.unique == 1)).await;
    write(&[OTHER_SECRET]);
    assert_eq!(bridge.reload().await["changes"], "targets.orders changed");
    world.simulator.play(1);
    soon("the second", target.until(|totals| totals.received >= 2)).await;
    let other = Verifier::new(&OTHER_SECRET.into()).unwrap();
    let all = target.deliveries();
    let signed = |index: usize| {
        let delivery = &all[index];
        let count = delivery.headers["webhook-signature"].to_str().unwrap().split(' ').count();
        (count, delivery.signature_valid, other.verify(&delivery.headers, &delivery.body))
    };
    assert_eq!(signed(0), (2, Some(true), true), "each of the two verifies");
    assert_eq!(signed(1), (1, Some(false), true), "the old one signs no more");
    bridge.stop().await;
}
