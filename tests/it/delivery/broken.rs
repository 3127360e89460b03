//! Connections that break after the request was sent: it is unknown whether the target has
//! the event.

use http::StatusCode;
use pepay_bridge::simulator::target::{Delivery, Reaction};

use crate::delivery::{all_settled, failures, settled, targets};
use crate::support::raw::Act;
use crate::support::soon;
use crate::support::world::{SHORT, World};

/// The ways not to answer, each with the start of the error that is logged.
fn broken() -> Vec<(&'static str, Act, &'static str)> {
    let close = |bytes: &[u8]| Act::SayAndClose(bytes.to_vec());
    vec![
        ("closed", close(b""), "the connection broke: connection closed before message completed"),
        ("reset", Act::SayAndReset(Vec::new()), "the connection broke: "),
        ("halfaline", close(b"HTTP/1.1 20"), "the connection broke: "),
        ("early", Act::SayAndReset(b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()), "the connection broke: "),
        ("garbage", close(b"It is done, thank you.\r\n\r\n"), "the connection broke: invalid HTTP"),
        ("version", close(b"HTTP/9.9 200 OK\r\n\r\n"), "the connection broke: invalid HTTP version"),
        ("status", close(b"HTTP/1.1 2000 OK\r\n\r\n"), "the connection broke: invalid HTTP"),
        ("silent", Act::Hang, "no answer within 300ms"),
        ("trickling", Act::Trickle(b"HTTP/1.1 200 ".to_vec()), "no answer within 300ms"),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncertain_attempt_is_sent_again() {
    let mut world = World::new(World::with_duplicates()).await;
    let scripts = broken().into_iter().map(|(name, act, _)| (name.to_owned(), vec![act]));
    let targets = targets(&mut world, scripts).await;
    for name in targets.keys() {
        world.set_target(name, "TIMEOUT", &format!("{}ms", SHORT.as_millis()));
    }
    let bridge = world.bridge().await;
    world.simulator.play(1);
    all_settled(&bridge).await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    for (name, _, error) in broken() {
        let requests = targets[name].record().requests;
        assert_eq!(targets[name].attempts(), [1, 2], "{name}");
        assert_eq!(requests[0].id, requests[1].id);
        let failures = failures(&log, name);
        assert_eq!(failures.len(), 1, "{name}");
        assert!(failures[0]["error"].as_str().unwrap().starts_with(error), "{name}: {}", failures[0]);
        assert!(failures[0]["status"].is_null(), "{name}: {}", failures[0]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_uncertain_attempt_is_held_where_that_is_configured() {
    let mut world = World::new(World::with_duplicates()).await;
    let scripts = broken().into_iter().map(|(name, act, _)| (name.to_owned(), vec![act]));
    let targets = targets(&mut world, scripts).await;
    for name in targets.keys() {
        world.set_target(name, "TIMEOUT", &format!("{}ms", SHORT.as_millis()));
        world.set_target(name, "ON_UNCERTAIN", "hold");
    }
    let bridge = world.bridge().await;
    world.simulator.play(1);
    settled(&bridge, "held", 1).await;
    bridge.stop().await;
    // A restart does not send them either.
    let bridge = world.bridge().await;
    settled(&bridge, "held", 1).await;
    bridge.stop().await;
    for (name, target) in targets {
        assert_eq!(target.attempts(), [1], "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_delivery_holds_back_its_object_and_no_request_is_repeated() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("ledger").await;
    world.set_target("ledger", "ON_UNCERTAIN", "hold");
    world.set_target("ledger", "TIMEOUT", &format!("{}ms", SHORT.as_millis()));
    target.next(1, Reaction::Hang);
    target.next(1, Reaction::Reset);
    target.next(1, Reaction::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    let bridge = world.bridge().await;
    let ids = world.simulator.play(60);
    let status = bridge.until("two held deliveries", |status| status["targets"][0]["held"] == 2);
    assert_eq!(status.await["targets"][0]["dead"], 0);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    bridge.stop().await;
    let bridge = world.bridge().await;
    let status = bridge.status().await;
    assert_eq!(status["targets"][0]["held"], 2, "{status}");
    bridge.stop().await;

    let (all_requests, refused) = (target.deliveries(), Some(StatusCode::SERVICE_UNAVAILABLE));
    let mut requests = all_requests.clone();
    requests.retain(|request| request.answer != refused);
    let all = requests.len();
    requests.sort_by(|a, b| a.id.cmp(&b.id));
    requests.dedup_by(|a, b| a.id == b.id);
    assert_eq!(requests.len(), all, "no request without an answer was repeated");
    let held_back = ids.len() - all;
    assert!(held_back < ids.len() / 2, "only what shares an object with a held delivery waits: {held_back}");
    let held = world.rows(
        "SELECT e.id, e.object_id FROM delivery d JOIN event e USING (sequence) WHERE d.state = 'held'",
    );
    for (id, object) in &held {
        let is_about = |delivery: &&Delivery| delivery.object_id.as_deref() == Some(&**object);
        let last = all_requests.iter().rfind(is_about).unwrap();
        assert_eq!(*last.id, **id, "it holds back every other event of {object}");
    }
    assert_eq!(held.len(), 2);
}
