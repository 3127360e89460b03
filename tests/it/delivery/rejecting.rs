//! A target that asks for a pause by `Retry-After`, and one that refuses everything.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::bridge::Bridge;
use crate::support::raw::{Act, OK, RawTarget, Record};
use crate::support::soon;
use crate::support::world::World;

/// The `Retry-After` of the target.
const WAIT: Duration = Duration::from_secs(2);

fn refusal(status: &str) -> Act {
    Act::Say(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").into_bytes())
}

fn asks_to_wait() -> Act {
    Act::Say(
        format!("HTTP/1.1 429 Busy\r\nretry-after: {}\r\ncontent-length: 0\r\n\r\n", WAIT.as_secs())
            .into_bytes(),
    )
}

/// Returns the state of the target `orders` in `/status`.
fn orders(status: &Value) -> &Value {
    &status["targets"][0]
}

async fn world(target: &RawTarget) -> World {
    let mut world = World::new(World::with_duplicates()).await;
    world.target_at("orders", &target.url);
    world
}

async fn gauge(bridge: &Bridge, name: &str) -> f64 {
    bridge.metric(&format!("pepay_bridge_target_{name}{{target=\"orders\",configured=\"true\"}}")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_sent_to_a_target_during_its_retry_after() {
    let target = RawTarget::scripted([asks_to_wait()]).await;
    let mut world = world(&target).await;
    world.set_target("orders", "RETRY_MAX", "1h");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    target.until("the first attempt", |record| record.requests.len() == 1).await;
    let status = bridge.until("the wait", |status| !orders(status)["retry_after_until"].is_null()).await;
    assert_eq!(orders(&status)["circuit"], "closed");
    // These are about other objects, so nothing but the wait delays their first attempts.
    world.simulator.play(20);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let all = target.until("all of them", |record| record.unique() > 20).await.requests;
    assert!(all[1].at - all[0].at + Duration::from_millis(100) >= WAIT, "{:?}", all[1].at - all[0].at);
    bridge.until("the end of the wait", |status| orders(status)["retry_after_until"].is_null()).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_lasts_no_longer_than_retry_max_and_a_resume_ends_it() {
    let for_ever = b"HTTP/1.1 503 Gone\r\nretry-after: 86400\r\ncontent-length: 0\r\n\r\n";
    let target = RawTarget::scripted([Act::Say(for_ever.to_vec()), Act::Say(for_ever.to_vec())]).await;
    let mut world = world(&target).await;
    world.set_target("orders", "RETRY_MAX", "1s");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    let began = Instant::now();
    target.until("the second attempt", |record| record.requests.len() >= 2).await;
    assert!(began.elapsed() < Duration::from_secs(20));
    world.simulator.play(3);
    target.until("the rest", |record| record.unique() >= 3).await;
    bridge.stop().await;

    let target = RawTarget::scripted([Act::Say(for_ever.to_vec())]).await;
    world.target_at("orders", &target.url);
    world.set_target("orders", "RETRY_MAX", "1h");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    bridge.until("the wait", |status| !orders(status)["retry_after_until"].is_null()).await;
    world.simulator.play(1);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    assert_eq!(target.record().requests.len(), 1);
    let (code, shown) = bridge.post("/api/v1/targets/orders/resume", &json!({})).await;
    assert_eq!((code, &shown["paused"]), (200, &json!(false)));
    // The retry of the first is due in an hour; the first attempt of the second is due at once.
    target.until("the other event", |record| record.unique() >= 1).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wait_outlasts_a_reload_that_leaves_the_address_and_ends_with_one_that_changes_it() {
    let target = RawTarget::scripted([Act::Say(
        b"HTTP/1.1 429 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n".to_vec(),
    )])
    .await;
    let mut world = world(&target).await;
    world.set_target("orders", "RETRY_MAX", "1h");
    let mut bridge = world.bridge_on_file().await;
    world.simulator.play(1);
    bridge.until("the wait", |status| !orders(status)["retry_after_until"].is_null()).await;
    world.set_target("orders", "CONCURRENCY", "3");
    world.save();
    assert_eq!(bridge.reload().await["changes"], "targets.orders changed");
    world.simulator.play(1);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let status = bridge.status().await;
    assert!(!orders(&status)["retry_after_until"].is_null(), "{status}");
    let other = RawTarget::scripted([]).await;
    world.set_target("orders", "URL", &other.url);
    world.save();
    assert_eq!(bridge.reload().await["changes"], "targets.orders changed");
    other.until("the event that waited", |record| record.unique() >= 1).await;
    assert_eq!(target.record().requests.len(), 1);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_everything_is_shown_as_rejecting_until_it_takes_something() {
    let target = RawTarget::new(|_| refusal("422 No")).await;
    let world = world(&target).await;
    let mut bridge = world.bridge().await;
    world.simulator.play(40);
    bridge.logged("target refuses everything").await;
    let status = bridge.until("it", |status| !orders(status)["rejecting"].is_null()).await;
    let shown = orders(&status);
    assert_eq!((&shown["circuit"], &shown["paused"]), (&json!("closed"), &json!(false)));
    assert!(shown["rejecting"]["refusals"].as_u64() >= Some(5), "{shown}");
    assert!(shown["rejecting"]["error"].as_str().unwrap().contains("422"), "{shown}");
    assert!((gauge(&bridge, "rejecting").await - 1.0).abs() < f64::EPSILON);
    target.heal();
    bridge.logged("target takes events again").await;
    bridge.until("the end of it", |status| orders(status)["rejecting"].is_null()).await;
    assert!(gauge(&bridge, "rejecting").await.abs() < f64::EPSILON);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_refuses_some_is_not_rejecting() {
    let target = RawTarget::new(|seen| {
        let last = seen.object.bytes().last().unwrap();
        if last % 4 == 0 { refusal("422 No") } else { Act::Say(OK.to_vec()) }
    });
    let target = target.await;
    let mut world = world(&target).await;
    // The refused events are not retried during the test.
    for (key, value) in [("RETRY_MIN", "1h"), ("RETRY_MAX", "1h"), ("CONCURRENCY", "1")] {
        world.set_target("orders", key, value);
    }
    let bridge = world.bridge().await;
    world.simulator.play(200);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let taken = |record: &Record| record.requests.iter().filter(|seen| seen.acknowledged).count();
    target.until("most", |record| taken(record) > 60).await;
    let status = bridge.status().await;
    assert!(orders(&status)["rejecting"].is_null(), "{status}");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_after_outlasts_a_restart_while_the_address_stays() {
    let asks = Act::Say(b"HTTP/1.1 429 Busy\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n".to_vec());
    let target = RawTarget::scripted([asks]).await;
    let mut world = world(&target).await;
    world.set_target("orders", "RETRY_MAX", "1h");
    let bridge = world.bridge().await;
    world.simulator.play(1);
    let waits = |status: &Value| !orders(status)["retry_after_until"].is_null();
    let status = bridge.until("the wait", waits).await;
    let until = orders(&status)["retry_after_until"].clone();
    let stored = "SELECT count(*) FROM target WHERE retry_after_until > 0";
    world.until_found("the record of the wait", stored).await;
    bridge.kill().await;

    let bridge = world.bridge().await;
    assert_eq!(orders(&bridge.until("the wait", waits).await)["retry_after_until"], until);
    world.simulator.play(5);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.until("all of them", |status| orders(status)["backlog"] == 6).await;
    assert_eq!(target.record().requests.len(), 1, "nothing is sent before that");
    bridge.stop().await;

    // The target at another URL has not asked to wait.
    world.set_target("orders", "URL", &format!("{}/moved", target.url));
    let bridge = world.bridge().await;
    target.until("the others", |record| record.unique() >= 5).await;
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_of_one_event_are_enough() {
    let target = RawTarget::new(|_| refusal("401 No")).await;
    let world = world(&target).await;
    let bridge = world.bridge().await;
    world.simulator.play(1);
    let status = bridge.until("it", |status| !orders(status)["rejecting"].is_null()).await;
    assert!(orders(&status)["rejecting"]["error"].as_str().unwrap().contains("401"));
    assert_eq!(orders(&status)["rejecting"]["final_refusals"], 0);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_pauses_after_so_many_final_refusals_until_an_operator_resumes_it() {
    let target = RawTarget::new(|_| refusal("410 Gone")).await;
    let mut world = world(&target).await;
    for (key, value) in [("DEAD_ON", "410"), ("CONCURRENCY", "2"), ("PAUSE_WHEN_REJECTING", "3")] {
        world.set_target("orders", key, value);
    }
    let mut bridge = world.bridge().await;
    world.simulator.play(60);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let said = bridge
        .logged_where("the pause", |line| line["message"].as_str().unwrap().contains("is paused"))
        .await;
    assert_eq!((&said["level"], &said["target"]), (&json!("ERROR"), &json!("orders")));
    let status = bridge.until("it", |status| orders(status)["paused"] == true).await;
    let reason = orders(&status)["paused_reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("pause_when_rejecting") && reason.contains("410"), "{reason}");
    bridge.until("the end of what was out", |status| orders(status)["in_flight"] == 0).await;
    let refused = target.record().requests.len();
    // Three requests, and one that was in flight beside the third.
    assert!((3..=4).contains(&refused), "{refused}");
    assert!((gauge(&bridge, "paused").await - 1.0).abs() < f64::EPSILON);
    let stored = "SELECT count(*) FROM target WHERE paused_at IS NOT NULL";
    world.until_found("the record of the pause", stored).await;
    bridge.stop().await;

    let bridge = world.bridge().await;
    let status = bridge.status().await;
    assert_eq!(orders(&status)["paused"], true, "{status}");
    assert_eq!(orders(&status)["paused_reason"], *reason, "a restart keeps why");
    target.heal();
    let (_, shown) = bridge.post("/api/v1/targets/orders/resume", &json!({})).await;
    assert_eq!((&shown["paused"], &shown["paused_reason"]), (&json!(false), &Value::Null));
    target.until("the rest", |record| record.unique() > 50).await;
    let status = bridge.status().await;
    assert!(orders(&status)["rejecting"].is_null() && orders(&status)["paused"] == false, "{status}");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resumed_target_is_judged_anew_and_paused_again_if_nothing_has_changed() {
    let target = RawTarget::new(|_| refusal("422 No")).await;
    let mut world = world(&target).await;
    for (key, value) in [("DEAD_ON", "422"), ("CONCURRENCY", "1"), ("PAUSE_WHEN_REJECTING", "2")] {
        world.set_target("orders", key, value);
    }
    let bridge = world.bridge().await;
    world.simulator.play(40);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    for refused in [2, 4, 6] {
        bridge.until("the pause", |status| orders(status)["paused"] == true).await;
        target.until("what was sent", |record| record.requests.len() == refused).await;
        let (code, _) = bridge.post("/api/v1/targets/orders/resume", &json!({})).await;
        assert_eq!(code, 200);
    }
    bridge.stop().await;
}
