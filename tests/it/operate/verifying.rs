//! Comparison of an event with the event that Pepay has under its id.

use pepay_bridge::simulator::fault::{Endpoint, Fault};
use pepay_bridge::simulator::options::{ApiKey, Copies, Options};
use pepay_bridge::simulator::switches::{ListShape, Switches};
use reqwest::StatusCode;
use serde_json::json;

use super::Operator;
use crate::support::bridge::{Bridge, Ended, run};
use crate::support::world::{API_KEY, World, webhook};

/// Runs `events verify`. Returns its exit code, standard output and standard error.
async fn verify(world: &World, bridge: &Bridge, arguments: &[&str]) -> (Option<i32>, String, String) {
    let arguments = [&["events", "verify"][..], arguments, &["--admin-url", &bridge.admin]].concat();
    let Ended { code, stdout, stderr } = run(&world.configuration, &arguments).await;
    (code, stdout, stderr)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_equal_different_or_unknown_at_pepay() {
    for list_shape in [ListShape::Wrapped, ListShape::Bare] {
        let switches = Switches { list_shape, ..Switches::default() };
        let mut world = World::new(Options { switches, ..World::with_duplicates() }).await;
        world.target("orders").await;
        let bridge = world.bridge().await;
        let operator = Operator::of(&bridge);
        let id = world.simulator.play(1)[0].to_string();
        operator.until_all_are("delivered", 1).await;

        let equal = operator.act(&format!("events/{id}/verify"), json!({})).await;
        let asked_as = if equal["asked_as"] == "pepay" { "pepay" } else { "streams.commerce" };
        assert_eq!(equal, json!({"event_id": id, "outcome": "equal", "differs": [], "asked_as": asked_as}));
        let (code, said, _) = verify(&world, &bridge, &[&id]).await;
        assert_eq!(code, Some(0));
        assert!(said.starts_with(&format!("equal: Pepay has the same {id} (asked as ")), "{said}");

        // Pepay has one body, and the bridge receives another under the same id.
        let event = |status: &str, pending: u8| {
            format!(
                r#"{{"id":"evt_1734780000000-9","object":"event","type":"commerce.order.updated",
                "created":1734780000,"pending_webhooks":{pending},"data":{{"object":{{"id":"o","status":"{status}"}}}}}}"#
            )
        };
        let arrived = pepay_bridge::domain::clock::UnixMillis(0);
        let theirs = pepay_bridge::pepay::envelope::parse(event("paid", 0).into(), arrived).unwrap();
        world.simulator.publish_with(theirs, Copies { stream: 0, webhook: 0 }).unwrap();
        webhook(&bridge, &event("placed", 1)).await;
        let different = operator.act("events/evt_1734780000000-9/verify", json!({})).await;
        assert_eq!((&different["outcome"], &different["differs"]), (&json!("different"), &json!(["data"])));
        let (code, printed, said) = verify(&world, &bridge, &["evt_1734780000000-9", "--json"]).await;
        assert_eq!(code, Some(1), "{printed}");
        assert!(
            printed.contains(r#""outcome":"different""#) && said.contains("what differs: data"),
            "{printed}{said}"
        );

        // Only the bridge has this event. Neither has `evt_none`.
        webhook(&bridge, &event("paid", 0).replace("-9", "-10")).await;
        let (code, _, said) = verify(&world, &bridge, &["evt_1734780000000-10"]).await;
        assert!(
            code == Some(1) && said.contains("unknown: Pepay has no event evt_1734780000000-10"),
            "{said}"
        );
        assert_eq!(operator.post("events/evt_none/verify", json!({})).await.0, StatusCode::NOT_FOUND);
        assert!(bridge.stop().await.0.success());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_pepay_says_instead_of_an_event_is_passed_on_and_a_missing_key_is_named() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    let id = world.simulator.play(1)[0].to_string();
    let operator = Operator::of(&bridge);
    operator.until_all_are("delivered", 1).await;
    world.simulator.set_keys(vec![ApiKey::new("another-key-0123456789")]);
    let (status, problem) = operator.post(&format!("events/{id}/verify"), json!({})).await;
    assert_eq!(status, StatusCode::BAD_GATEWAY, "{problem}");
    assert_eq!(problem["type"], "urn:pepay-bridge:problem:pepay_failed");
    let detail = problem["detail"].as_str().unwrap();
    assert!(
        detail.starts_with("asking Pepay failed: ") && detail.contains("the API key is not valid"),
        "{problem}"
    );
    assert!(!problem.to_string().contains(API_KEY));
    world.simulator.set_keys(vec![ApiKey::new(API_KEY)]);
    let html = Fault::Answer {
        endpoint: Endpoint::Rest,
        times: 20,
        status: StatusCode::OK,
        retry_after: None,
        body: Some("<html><title>Sign in</title></html>".to_owned()),
    };
    world.simulator.inject(html).unwrap();
    let (code, _, said) = verify(&world, &bridge, &[&id]).await;
    assert!(code == Some(1) && said.contains("html"), "{said}");
    assert!(bridge.stop().await.0.success());

    // A bridge with webhooks alone needs no key, but the comparison needs one.
    world.configuration.retain(|key, _| !key.starts_with("STREAMS__") && key != "PEPAY__API_KEY");
    let bridge = Bridge::start(&world.configuration).await;
    let (code, _, said) = verify(&world, &bridge, &[&id]).await;
    assert!(code == Some(1) && said.contains("there is no `pepay.api_key`"), "{said}");
    assert!(bridge.stop().await.0.success());
}
