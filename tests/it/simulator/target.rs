//! The sample target: its records, its signature check, its faults.

use std::time::Duration;

use http::StatusCode;
use pepay_bridge::simulator::target::{Options, Reaction, Verifier};

use super::harness::{Answer, World, event, event_of, soon, world};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn post(world: &World, url: &str, n: u32) -> Answer {
    let request = world.http.post(format!("{url}/hook")).header("webhook-id", event(n).id.as_str());
    world.send(request.header("pepay-bridge-attempt", "2").body(event(n).body)).await
}

#[tokio::test]
async fn each_request_is_recorded_with_the_answer_it_got() {
    let mut world = world().await;
    let (target, url) = world.target(Options::default()).await;
    target.next(1, Reaction::Answer(StatusCode::TOO_MANY_REQUESTS, Some("2".to_owned())));
    let refused = post(&world, &url, 1).await;
    assert_eq!((refused.status.as_u16(), refused.headers["retry-after"].as_bytes()), (429, &b"2"[..]));
    for _ in 0..2 {
        assert_eq!(post(&world, &url, 1).await.status, 200);
    }
    let totals = target.totals();
    assert_eq!((totals.received, totals.acknowledged, totals.failed), (3, 2, 1));
    assert_eq!((totals.unique, totals.repeated, totals.in_flight), (1, 1, 0));
    let first = target.deliveries().remove(0);
    assert_eq!((&*first.id, first.attempt), (event(1).id.as_str(), Some(2)));
    assert_eq!(first.object_id.as_deref(), Some("order_1"));
    assert_eq!(first.body, event(1).body);

    let ledger = world.send(world.http.get(format!("{url}/ledger?limit=2"))).await.json();
    assert_eq!(ledger["totals"]["received"], 3);
    assert_eq!(ledger["deliveries"].as_array().unwrap().len(), 2);
    assert_eq!(ledger["deliveries"][1]["answer"], 200);
}

#[tokio::test]
async fn a_body_that_is_no_event_is_refused() {
    let mut world = world().await;
    let (_, url) = world.target(Options::default()).await;
    assert_eq!(world.send(world.http.post(&url).body(event(1).body)).await.status, 400, "no webhook-id");
    assert_eq!(world.send(world.http.post(&url).header("webhook-id", "a").body("{}")).await.status, 400);
    assert_eq!(world.send(world.http.get(&url)).await.status, 405);
}

#[tokio::test]
async fn with_a_secret_only_signed_requests_are_taken() {
    let mut world = world().await;
    let verifier = Some(Verifier::new(&SECRET.into()).unwrap());
    let (target, url) = world.target(Options { verifier, ..Options::default() }).await;
    assert_eq!(post(&world, &url, 1).await.status, 401);
    let (event, now) = (event_of("test.ping", 2, ""), 1_734_780_000);
    let webhook = standardwebhooks::Webhook::new(SECRET).unwrap();
    let signature = webhook.sign(event.id.as_str(), now, &event.body).unwrap();
    let request = world.http.post(&url).header("webhook-id", event.id.as_str());
    let request = request.header("webhook-timestamp", now).header("webhook-signature", signature);
    assert_eq!(world.send(request.body(event.body)).await.status, 200);
    let checked: Vec<_> = target.deliveries().iter().map(|delivery| delivery.signature_valid).collect();
    assert_eq!(checked, [Some(false), Some(true)]);
}

#[tokio::test]
async fn a_request_may_hang_or_be_cut_off() {
    let mut world = world().await;
    let (target, url) = world.target(Options::default()).await;
    target.next(1, Reaction::Reset);
    target.next(1, Reaction::Hang);
    let send = |n| {
        let request = world.http.post(&url).header("webhook-id", event(n).id.as_str());
        request.body(event(n).body).send()
    };
    assert!(soon(send(1)).await.unwrap_err().is_request());
    tokio::select! {
        answer = send(2) => panic!("{answer:?}"),
        totals = soon(target.until(|totals| totals.in_flight == 1)) => assert_eq!(totals.received, 2),
    }
    // The sender closes its connection.
    let totals = soon(target.until(|totals| totals.in_flight == 0)).await;
    assert_eq!((totals.failed, totals.acknowledged), (2, 0));
}

#[tokio::test]
async fn requests_about_one_object_at_the_same_time_are_noticed() {
    let mut world = world().await;
    let (target, url) = world.target(Options::default()).await;
    target.delay(Duration::from_millis(200));
    let (one, another) = tokio::join!(post(&world, &url, 1), post(&world, &url, 1));
    assert_eq!((one.status.as_u16(), another.status.as_u16()), (200, 200));
    let totals = target.totals();
    assert_eq!((totals.max_in_flight, totals.overlapping), (2, 1));
    target.heal();
    assert_eq!(post(&world, &url, 2).await.status, 200);
    assert_eq!(target.totals().overlapping, 1);
}
