//! Webhooks, and the transitions of orders that cause them.

use http::StatusCode;
use pepay_bridge::domain::event::Environment;
use pepay_bridge::domain::filter::TypeFilter;
use pepay_bridge::pepay::signature::SigningKey;
use pepay_bridge::simulator::options::{Copies, WebhookEndpoint};
use pepay_bridge::simulator::target::{Options, Reaction, Target};
use serde_json::Value;

use super::harness::{START, World, event, event_of, soon, world};

/// Starts a world whose webhooks go to a target. Returns both, and the URL of the target.
async fn world_with_receiver() -> (World, Target, String) {
    let mut world = world().await;
    let (target, url) = world.target(Options::default()).await;
    world.simulator.set_webhook_endpoints(vec![endpoint(&url)]);
    (world, target, url)
}

fn endpoint(url: &str) -> WebhookEndpoint {
    WebhookEndpoint::new(format!("{url}/webhooks/pepay").parse().unwrap(), &"current".into())
}

#[tokio::test]
async fn a_webhook_is_signed_over_its_timestamp_and_exact_bytes() {
    let (world, receiver, url) = world_with_receiver().await;
    world.simulator.set_webhook_endpoints(vec![WebhookEndpoint {
        previous_key: Some(SigningKey::new(&"previous".into())),
        environment: Some(Environment::Devnet),
        ..endpoint(&url)
    }]);
    world.publish(&event(1));
    soon(receiver.until(|totals| totals.received > 0)).await;
    let delivery = receiver.deliveries().remove(0);
    let header = |name: &str| delivery.headers[name].to_str().unwrap();
    assert_eq!(delivery.body, event(1).body);
    assert_eq!(header("content-type"), "application/json");
    assert_eq!(header("x-pepay-event"), "commerce.order.updated");
    assert_eq!(header("x-pepay-event-id"), event(1).id.as_str());
    assert_eq!(header("x-pepay-network-environment"), "devnet");
    assert_eq!(header("x-pepay-timestamp"), START.to_string());
    for (name, secret) in [("x-pepay-signature", "current"), ("x-pepay-signature-previous", "previous")] {
        let key = SigningKey::new(&secret.into());
        assert!(key.verify(header(name), header("x-pepay-timestamp"), &event(1).body), "{name}");
    }
}

#[tokio::test]
async fn a_refused_webhook_is_sent_again_until_it_is_taken() {
    let (world, receiver, _) = world_with_receiver().await;
    receiver.next(1, Reaction::Answer(StatusCode::SERVICE_UNAVAILABLE, None));
    receiver.next(1, Reaction::Reset);
    receiver.next(1, Reaction::Answer(StatusCode::OK, None));
    world.publish(&event(1));
    let statistics = soon(world.simulator.webhooks_settled()).await;
    assert_eq!(statistics.webhook_attempts, 3);
    assert_eq!((statistics.webhooks_acknowledged, statistics.webhooks_given_up), (1, 0));
    let row = world.simulator.ledger(None, 1).remove(0);
    assert_eq!((row.webhook_attempts, row.webhooks_acknowledged), (3, 1));
}

#[tokio::test]
async fn a_webhook_that_is_never_taken_is_given_up() {
    let (world, receiver, _) = world_with_receiver().await;
    receiver.fail_ratio(1.0, Reaction::Answer(StatusCode::FOUND, None));
    world.publish(&event(1));
    let statistics = soon(world.simulator.webhooks_settled()).await;
    assert_eq!((statistics.webhook_attempts, statistics.webhooks_given_up), (3, 1));
}

#[tokio::test]
async fn every_event_reaches_every_endpoint_that_wants_its_type_as_often_as_asked() {
    let (mut world, all, url) = world_with_receiver().await;
    let (invoices, other_url) = world.target(Options::default()).await;
    let types = TypeFilter::new(vec!["invoice.*".parse().unwrap()]);
    world
        .simulator
        .set_webhook_endpoints(vec![endpoint(&url), WebhookEndpoint { types, ..endpoint(&other_url) }]);
    // More events than are sent at a time, and than are read from the journal at a time.
    for n in 1..=200 {
        world.publish(&event(n));
    }
    let invoice = event_of("invoice.updated", 201, r#""object":"invoice","id":"i1""#);
    world.simulator.publish_with(invoice, Copies { stream: 1, webhook: 3 }).unwrap();
    world.simulator.publish_with(event(202), Copies { stream: 1, webhook: 0 }).unwrap();
    let statistics = soon(world.simulator.webhooks_settled()).await;
    assert_eq!((statistics.published, statistics.webhooks_acknowledged), (202, 206));
    assert_eq!((all.totals().received, invoices.totals().received), (203, 3));
}

#[tokio::test]
async fn webhooks_go_on_after_a_restart_where_they_stopped() {
    let (mut world, _, _) = world_with_receiver().await;
    world.publish(&event(1));
    soon(world.simulator.webhooks_settled()).await;
    world.shut_down().await;
    world.publish(&event(2));
    let (receiver, url) = world.target(Options::default()).await;
    world.simulator.set_webhook_endpoints(vec![endpoint(&url)]);
    world.serve().await;
    soon(world.simulator.webhooks_settled()).await;
    let bodies: Vec<_> = receiver.deliveries().into_iter().map(|delivery| delivery.body).collect();
    assert_eq!(bodies, [event(2).body]);
}

#[tokio::test]
async fn a_transition_emits_its_events_on_webhook_and_stream_alike() {
    let (world, receiver, _) = world_with_receiver().await;
    let mut stream = world.stream("/ws/commerce/events").await;
    let body = r#"{"transitionTo":"payment_confirmed","walletNetwork":"bsc","walletAddress":"0xabc"}"#;
    let answer = world.post("/api/commerce/devnet/orders/3c90c3cc-0d44/simulate", body).await;
    assert_eq!(answer.status, 200);
    let order = &answer.json()["data"]["order"];
    assert_eq!(order["orderId"], "3c90c3cc-0d44");
    assert_eq!(order["networkEnvironment"], "devnet");
    assert_eq!((&order["status"], &order["substatus"]), (&"processing".into(), &"payment_confirmed".into()));
    assert_eq!(order["walletNetwork"], "bsc");

    let (invoice, changed) = (stream.json().await, stream.json().await);
    assert_eq!(invoice["type"], "invoice.updated");
    assert_eq!(invoice["data"]["object"]["status"], "paid");
    assert_eq!(invoice["data"]["object"]["id"], order["invoiceId"]);
    assert_eq!(changed["type"], "commerce.order.updated");
    assert_eq!(changed["data"]["object"]["id"], "3c90c3cc-0d44");
    assert_eq!(changed["data"]["previous_attributes"]["status"], "pending_payment");
    soon(world.simulator.webhooks_settled()).await;
    let mut sent: Vec<_> = receiver.deliveries().into_iter().map(|delivery| delivery.kind.unwrap()).collect();
    sent.sort();
    assert_eq!(sent, ["commerce.order.updated", "invoice.updated"]);
}

#[tokio::test]
async fn a_transition_that_the_order_cannot_take_changes_nothing() {
    let world = world().await;
    let path = "/api/commerce/devnet/orders/o1/simulate";
    let transition = async |to: &str| world.post(path, &format!(r#"{{"transitionTo":"{to}"}}"#)).await;
    for to in ["failed", "cancelled", "refunded"] {
        let answer = transition(to).await;
        assert_eq!(answer.status, 400, "{to}");
        assert_eq!(answer.json()["error_code"], "INVALID_TRANSITION");
    }
    assert_eq!(world.simulator.statistics().published, 0);
    for to in ["payment_confirmed", "payment_settled", "placed", "shipped", "delivery_confirmed", "refunded"]
    {
        assert_eq!(transition(to).await.status, 200, "{to}");
    }
    assert_eq!(transition("cancelled").await.status, 400);
    assert_eq!(transition("teleported").await.status, 400);
    assert_eq!(world.post("/api/commerce/devnet/orders/a%20b/simulate", "{}").await.status, 404);
    let unsigned = world.http.post(world.url(path)).body("{}");
    assert_eq!(world.send(unsigned).await.status, 401);
    let statuses: Vec<Value> = world.get("/api/v1/events?type=commerce.order.*").await.json()["data"]["data"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|event| event["data"]["object"]["status"].clone())
        .collect();
    assert_eq!(statuses, ["processing", "processing", "placed", "shipped", "delivered", "refunded"]);
}
