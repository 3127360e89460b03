//! Tokens of streams, and the keys that mint them.

use std::time::Duration;

use pepay_bridge::simulator::options::{ApiKey, Options, Scope};

use super::harness::{KEY, options, world, world_with};

const PATH: &str = "/api/v1/ws/token";

#[tokio::test]
async fn a_key_in_either_header_mints_a_token() {
    let world = world().await;
    for header in ["x-api-key", "x-commerce-api-key"] {
        let request = world.http.post(world.url(PATH)).header(header, KEY);
        let answer = world.send(request.body(r#"{"scope":"commerce","ttl_seconds":60}"#)).await;
        assert_eq!(answer.status, 200, "{header}");
        let body = answer.json();
        assert_eq!(body["success"], true);
        assert_eq!(body["data"]["scope"], "commerce");
        assert_eq!(body["data"]["merchant_id"], 123);
        assert_eq!(body["data"]["network_environment"], serde_json::Value::Null);
        assert_eq!(body["data"]["expires_at"], "2024-12-21T11:21:00.000Z");
        assert!(body["data"]["ws_url"].as_str().unwrap().ends_with("/ws/commerce/events"));
        assert!(answer.headers.contains_key("x-request-id"));
    }
}

#[tokio::test]
async fn without_a_known_key_nothing_is_minted() {
    let world = world().await;
    let request = world.http.post(world.url(PATH)).header("x-api-key", "other");
    let answer = world.send(request.body("{}")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.json()["success"], false);
    assert_eq!(answer.json()["error"]["code"], "UNAUTHORIZED");
    assert_eq!(world.send(world.http.post(world.url(PATH)).body("{}")).await.status, 401);
    assert_eq!(world.simulator.statistics().refused[&401], 2);
}

#[tokio::test]
async fn scope_and_lifetime_are_checked() {
    let world = world().await;
    for body in [
        "",
        "{}",
        r#"{"scope":"admin","ttl_seconds":60}"#,
        r#"{"scope":"commerce","ttl_seconds":0}"#,
        r#"{"scope":"commerce","ttl_seconds":3601}"#,
        r#"{"scope":"commerce","ttl_seconds":"60"}"#,
    ] {
        assert_eq!(world.post(PATH, body).await.status, 400, "{body}");
    }
    assert_eq!(world.simulator.statistics().tokens_minted, 0);
}

#[tokio::test]
async fn a_token_opens_the_stream_of_its_scope_alone() {
    let world = world().await;
    let token = world.mint("merchant").await;
    world.try_stream(&format!("/ws/merchant/events?token={token}"), None).await.ok().unwrap();
    let Err(refusal) = world.try_stream(&format!("/ws/commerce/events?token={token}"), None).await else {
        panic!("a merchant token opened the commerce stream");
    };
    assert_eq!(refusal.status, 403);
    let statistics = world.simulator.statistics();
    assert_eq!((statistics.tokens_used, statistics.tokens_reused), (1, 1));
}

#[tokio::test]
async fn a_token_ends_with_its_lifetime_and_leaves_the_open_stream_alone() {
    let world = world().await;
    let token = world.mint("commerce").await;
    let path = format!("/ws/commerce/events?token={token}");
    let mut stream = world.try_stream(&path, None).await.ok().unwrap();
    world.clock.advance(Duration::from_mins(1));
    assert_eq!(world.try_stream(&path, None).await.err().unwrap().status, 401);
    world.publish(&super::harness::event(1));
    assert_eq!(stream.ids(1).await, [super::harness::id(1)]);
}

#[tokio::test]
async fn a_key_opens_its_scopes_alone_and_a_rotated_one_nothing() {
    let key = ApiKey { scopes: vec![Scope::Merchant], ..ApiKey::new(KEY) };
    let world = world_with(Options { keys: vec![key], ..options() }).await;
    assert_eq!(world.post(PATH, r#"{"scope":"commerce","ttl_seconds":60}"#).await.status, 403);
    assert_eq!(world.refusal("/ws/commerce/events").await.status, 403);
    world.stream("/ws/merchant/events").await;
    world.simulator.set_keys(vec![ApiKey::new("new")]);
    assert_eq!(world.refusal("/ws/merchant/events").await.status, 401);
    assert_eq!(world.get("/api/v1/events").await.status, 401);
}
