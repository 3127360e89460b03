//! The other alerts, each raised by its real cause: a connection that breaks, another body
//! under a known id, a full disk, a silent source, a gap, a refused stream.

use http::StatusCode;
use pepay_bridge::simulator::fault::{Endpoint, Fault};
use pepay_bridge::simulator::options::{Copies, Options};
use pepay_bridge::simulator::target::Reaction;
use serde_json::json;

use super::{Desk, alert};
use crate::support::bridge::{Bridge, command_of};
use crate::support::world::{World, webhook};
use crate::support::{left_out, soon};

/// Options of a Pepay that sends no webhooks.
fn stream_alone() -> Options {
    Options { copies: Copies { stream: 1, webhook: 0 }, ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_delivery_raises_an_alert_and_the_decision_about_it_ends_it() {
    let desk = Desk::new([]).await;
    let mut world = World::new(World::with_duplicates()).await;
    let orders = world.target("orders").await;
    world.set_target("orders", "ON_UNCERTAIN", "hold");
    // The target reads the request and breaks the connection: the outcome is unknown.
    orders.next(1, Reaction::Reset);
    alert(&mut world, &desk);
    let bridge = world.bridge().await;
    let id = world.simulator.play(1)[0].as_str().to_owned();
    let held = desk.told("held", "firing").await;
    assert_eq!(held["name"], "orders");
    assert!(held["summary"].as_str().unwrap().starts_with("1 delivery to target orders held"), "{held}");
    let (code, _) = bridge.post(&format!("/api/v1/deliveries/orders/{id}/close"), &json!({})).await;
    assert_eq!(code, 200);
    desk.told("held", "resolved").await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_body_under_a_known_id_raises_an_alert() {
    let desk = Desk::new([]).await;
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    alert(&mut world, &desk);
    let bridge = world.bridge().await;
    for status in ["paid", "unpaid"] {
        let object = json!({ "object": "invoice", "id": "inv_1", "status": status });
        let body = json!({ "id": "evt_1734780000000-1", "object": "event", "created": 1_734_780_000,
                           "type": "invoice.updated", "data": { "object": object } });
        webhook(&bridge, &body.to_string()).await;
    }
    let conflict = desk.told("conflict", "firing").await;
    assert_eq!(conflict["name"], "webhook");
    assert!(conflict["summary"].as_str().unwrap().contains("1 since the start"), "{conflict}");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_that_pepay_can_no_longer_fill_raises_an_alert() {
    let desk = Desk::new([]).await;
    let options = Options { replay_retention: 30, rest_retention: 30, snapshot: 5, ..stream_alone() };
    let mut world = World::new(options).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    let known = world.simulator.play(3);
    soon("the deliveries", target.until(|totals| totals.unique == 3)).await;
    bridge.stop().await;
    world.simulator.play(100);
    alert(&mut world, &desk);
    let bridge = world.bridge().await;
    let gap = desk.told("gap", "firing").await;
    assert_eq!(gap["name"], "commerce");
    let summary = gap["summary"].as_str().unwrap();
    assert!(summary.contains(&format!("events after {}", known[2])), "{summary}");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_stream_raises_an_alert_and_its_return_ends_it() {
    let desk = Desk::new([]).await;
    let mut world = World::new(stream_alone()).await;
    world.target("orders").await;
    alert(&mut world, &desk);
    let refusal = Fault::Answer {
        endpoint: Endpoint::Token,
        times: u32::MAX,
        status: StatusCode::UNAUTHORIZED,
        retry_after: None,
        body: None,
    };
    world.simulator.inject(refusal).unwrap();
    let bridge = Bridge::start(&world.configuration).await;
    let down = desk.told("stream_down", "firing").await;
    assert_eq!(down["name"], "commerce");
    assert!(down["summary"].as_str().unwrap().contains("401"), "{down}");
    world.simulator.clear_faults();
    let (code, _) = bridge.post("/api/v1/streams/commerce/reconnect", &json!({})).await;
    assert_eq!(code, 202);
    desk.told("stream_down", "resolved").await;
    bridge.stop().await;
}

/// Makes all stored events ten minutes older. The bridge compares sources only after five minutes,
/// which is longer than a test takes.
fn age(world: &World) {
    world.execute("UPDATE event SET received_at = received_at - 600000", []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_silent_while_the_other_is_not_raises_an_alert_and_its_return_ends_it() {
    let desk = Desk::new([]).await;
    let mut world = World::new(stream_alone()).await;
    let target = world.target("orders").await;
    alert(&mut world, &desk);
    let bridge = world.bridge().await;
    world.simulator.play(25);
    soon("the deliveries", target.until(|totals| totals.unique == 25)).await;
    age(&world);
    let quiet = desk.told("source_quiet", "firing").await;
    assert_eq!(quiet["name"], "webhook");
    assert!(quiet["summary"].as_str().unwrap().contains("the last 25 events"), "{quiet}");
    let object = json!({ "object": "invoice", "id": "inv_1", "status": "paid" });
    let body = json!({ "id": "evt_back", "type": "invoice.updated", "data": { "object": object } });
    webhook(&bridge, &body.to_string()).await;
    age(&world);
    desk.told("source_quiet", "resolved").await;
    bridge.stop().await;
}

/// The size of the disk of the test, in MiB.
const DISK: usize = 64;

/// The program that starts another one in a mount namespace of its own.
const UNSHARE: &str = "/usr/bin/unshare";

/// Returns whether this user may make a mount namespace, which some containers do not allow. The test
/// needs one for a file system that only the bridge sees.
fn may_mount() -> bool {
    let tried = std::process::Command::new(UNSHARE).args(["-Urm", "true"]).output();
    tried.is_ok_and(|output| output.status.success())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_raises_an_alert_and_freed_space_ends_it() {
    if !may_mount() {
        left_out("the alert of a full disk", "this user may not make a mount namespace");
        return;
    }
    let desk = Desk::new([]).await;
    let mut world = World::new(stream_alone()).await;
    world.target("orders").await;
    alert(&mut world, &desk);
    let volume = world.folder.path().join("disk");
    std::fs::create_dir(&volume).unwrap();
    world.set("STORE__URL", &format!("sqlite://{}", volume.join("bridge.db").display()));
    let script = format!("mount -t tmpfs -o size={DISK}m,mode=700 tmpfs \"$1\" && exec \"$0\"");
    let mut inside = command_of(UNSHARE, &["-Urm", "/bin/sh", "-c", &script], &world.configuration);
    inside.arg(&volume).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let bridge = Bridge::of(inside).await;

    let seen = volume.strip_prefix("/").unwrap();
    let filler = std::path::Path::new("/proc").join(bridge.pid().to_string()).join("root").join(seen);
    let filler = filler.join("filler");
    let room = DISK - DISK / 10;
    std::fs::write(&filler, vec![0; room << 20])
        .unwrap_or_else(|error| panic!("{}: {error}", filler.display()));
    let full = desk.told("disk", "firing").await;
    assert!(full["summary"].as_str().unwrap().contains("nearly full"), "{full}");
    std::fs::remove_file(&filler).unwrap();
    desk.told("disk", "resolved").await;
    assert!(bridge.stop().await.0.success());
}
