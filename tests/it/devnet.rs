//! `devnet simulate`: an order is moved on devnet, and its event is followed through the bridge.

use http::StatusCode;
use pepay_bridge::simulator::fault::{Channel, Fault};
use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::switches::{ObjectIds, OrderShape, Switches};
use pepay_bridge::simulator::target::Reaction;
use serde_json::Value;

use crate::support::bridge::{Ended, run};
use crate::support::world::{API_KEY, World};

const ORDER: &str = "3c90c3cc-0d44-4b50-8888-8dd25736052a";

/// Runs `devnet simulate`. Returns its exit code, standard output and standard error.
async fn simulate(world: &World, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["devnet", "simulate"][..], arguments].concat();
    let Ended { code, stdout, stderr } = run(&world.configuration, &arguments).await;
    assert!(!stdout.contains(API_KEY) && !stderr.contains(API_KEY));
    (code, stdout, stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transition_is_followed_from_pepay_by_both_sources_to_every_target() {
    let mut world = World::new(World::with_duplicates()).await;
    let (orders, everything) = (world.target("orders").await, world.target("everything").await);
    world.target("invoices").await;
    world.set("TARGETS__ORDERS__TYPES", "commerce.order.*");
    world.set("TARGETS__INVOICES__TYPES", "invoice.*");
    world.set("SERVER__ADMIN_TOKEN", "the-admin-token-of-it");
    let bridge = world.bridge().await;

    let (code, shown, said) =
        simulate(&world, &[ORDER, "--to", "payment_confirmed", "--url", &bridge.admin]).await;
    assert_eq!(code, Some(0), "{shown}{said}");
    for step in [
        "Pepay             the order is processing, payment_confirmed, devnet",
        "stream            ",
        "webhook           ",
        "target orders     delivered, attempt 1",
        "target everything  delivered, attempt 1",
        "done              came by ",
    ] {
        assert!(
            shown.lines().any(|line| line.get(10..).unwrap().starts_with(step)),
            "{step} is not in\n{shown}"
        );
    }
    assert!(!shown.contains("target invoices"), "{shown}");
    assert!(orders.totals().unique == 1 && everything.totals().unique == 2);

    // This follows the next event of the order, and not the last one.
    let arguments = [ORDER, "--to", "placed", "--json", "--url", &bridge.admin];
    let (code, shown, said) = simulate(&world, &arguments).await;
    assert_eq!(code, Some(0), "{shown}{said}");
    let ended: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&ended["complete"], &ended["to"]), (&true.into(), &"placed".into()));
    assert_eq!(ended["event"]["sightings"].as_array().unwrap().len(), 2);
    let body = orders.deliveries().last().unwrap().body.clone();
    assert!(String::from_utf8(body.to_vec()).unwrap().contains("\"placed\""));

    // The reason of a refusal is Pepay's.
    let (code, _, said) =
        simulate(&world, &[ORDER, "--to", "payment_confirmed", "--url", &bridge.admin]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("INVALID_TRANSITION"), "{said}");
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_has_not_happened_in_time_is_named() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::IM_A_TEAPOT, None));
    let bridge = world.bridge().await;
    world.simulator.inject(Fault::Skip { channel: Channel::Webhook, times: 100 }).unwrap();
    let arguments = [ORDER, "--to", "payment_settled", "--timeout", "3s", "--url", &bridge.admin];
    let (code, shown, said) = simulate(&world, &arguments).await;
    assert_eq!(code, Some(1), "{shown}{said}");
    for missing in ["it has not come by webhook", "target orders has not got it", "418", "waited 3s"] {
        assert!(said.contains(missing), "{missing} is not in {said}");
    }
    let told =
        |line: &str| line.contains("target orders     retrying, attempt ") && line.contains("answered 418");
    assert!(shown.lines().any(told), "{shown}");
    assert!(bridge.stop().await.0.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_running_bridge_devnet_simulate_sends_pepay_no_request() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    let admin = bridge.admin.clone();
    assert!(bridge.stop().await.0.success());
    let (code, _, said) = simulate(&world, &[ORDER, "--to", "placed", "--url", &admin]).await;
    assert_eq!(code, Some(1));
    assert!(said.contains("no bridge answers") && said.contains("Connection refused"), "{said}");

    for arguments in [[ORDER, "--to", "eaten"], ["a/b", "--to", "placed"], [ORDER, "--timeout", "soon"]] {
        let (code, _, said) = simulate(&world, &arguments).await;
        assert_eq!(code, Some(2), "{said}");
    }
    let (code, shown, said) = {
        let bridge = world.bridge().await;
        // The order is still new: Pepay was not asked to place it.
        simulate(&world, &[ORDER, "--to", "payment_confirmed", "--url", &bridge.admin]).await
    };
    assert_eq!(code, Some(0), "{shown}{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_order_is_followed_in_either_shape_of_its_event_and_its_tracking_is_sent_as_it_is() {
    for (order_shape, object_ids, order) in [
        (OrderShape::Object, ObjectIds::Number, "734780000123"),
        (OrderShape::Snapshot, ObjectIds::Text, ORDER),
        (OrderShape::Snapshot, ObjectIds::Number, "734780000123"),
    ] {
        let switches = Switches { order_shape, object_ids, ..Switches::default() };
        let mut world = World::new(Options { switches, ..World::with_duplicates() }).await;
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        simulate(&world, &[order, "--to", "placed", "--url", &bridge.admin]).await;
        let tracking = r#"{"carrier":"dhl","number":"00340","legs":[1,2.50]}"#;
        let arguments = [order, "--to", "shipped", "--tracking", tracking, "--url", &bridge.admin];
        let (code, shown, said) = simulate(&world, &arguments).await;
        assert_eq!(code, Some(0), "{order_shape:?}: {shown}{said}");
        let bodies = target.deliveries();
        let body = String::from_utf8(bodies.last().unwrap().body.to_vec()).unwrap();
        assert!(body.contains(r#""carrier":"dhl""#) && body.contains(r#""number":"00340""#), "{body}");
        assert!(bridge.stop().await.0.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tracking_that_is_no_object_is_a_usage_error() {
    let world = World::new(World::with_duplicates()).await;
    for tracking in ["[1]", "dhl", "{", "\"dhl\"", ""] {
        let (code, _, said) = simulate(&world, &[ORDER, "--to", "shipped", "--tracking", tracking]).await;
        assert_eq!(code, Some(2), "{tracking}: {said}");
        assert!(said.contains("is no JSON object"), "{said}");
    }
}
