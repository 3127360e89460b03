//! The audit trail: who asked for what, the number of changes, and the outcome.

use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::support::bridge::Bridge;
use crate::support::world::World;
use crate::support::{eventually, soon};

const ADMIN: &str = "the-token-of-the-admin";
const READER: &str = "the-token-of-the-reader";

/// Sends `GET path`, or with `body` a `POST`. Returns the status and the JSON of the response.
async fn ask(bridge: &Bridge, token: &str, path: &str, body: Option<&str>) -> (StatusCode, Value) {
    let url = format!("{}/api/v1/{path}", bridge.admin);
    let request = match body {
        None => Client::new().get(url),
        Some(body) => {
            Client::new().post(url).header("content-type", "application/json").body(body.to_owned())
        }
    };
    let request = request.bearer_auth(token).header("pepay-bridge-client", "page");
    let answer = soon(path, request.send()).await.unwrap();
    (answer.status(), serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap_or_default())
}

async fn listed(bridge: &Bridge, query: &str) -> Vec<Value> {
    let (status, body) = ask(bridge, READER, &format!("audit?{query}"), None).await;
    assert_eq!(status, StatusCode::OK, "{body}");
    body["entries"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_by_signal_an_export_and_tests_are_kept_with_what_they_were() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set("SERVER__ADMIN_TOKEN", ADMIN);
    world.set("SERVER__TOKENS__GRAFANA__TOKEN", READER);
    world.set("SERVER__TOKENS__GRAFANA__SCOPE", "read");
    let mut bridge = world.bridge_on_file().await;
    world.simulator.play(7);
    soon("the deliveries", target.until(|totals| totals.unique == 7)).await;
    world.set_target("orders", "CONCURRENCY", "3");
    let file = world.save();
    bridge.reload().await;
    std::fs::write(&file, "no TOML").unwrap();
    bridge.reload().await;
    let id =
        ask(&bridge, READER, "events?limit=1", None).await.1["events"][0]["id"].as_str().unwrap().to_owned();
    for path in ["export".to_owned(), format!("events/{id}"), format!("events/{id}/body")] {
        // The response has no body, so it is no reading of one.
        let head = Client::new().head(format!("{}/api/v1/{path}", bridge.admin)).bearer_auth(READER);
        assert_eq!(soon(&path, head.send()).await.unwrap().status(), StatusCode::OK, "{path}");
    }
    let url = format!("{}/api/v1/export?type=*", bridge.admin);
    let export = Client::new().get(url).bearer_auth(READER).send().await.unwrap();
    assert_eq!(soon("the export", export.text()).await.unwrap().lines().count(), 7);
    assert_eq!(ask(&bridge, ADMIN, "targets/orders/test", Some("{}")).await.0, StatusCode::OK);
    assert_eq!(ask(&bridge, ADMIN, "alerts/test", Some("{}")).await.0, StatusCode::CONFLICT);

    // No response waits for the entry of a signal.
    let all = async || Some(listed(&bridge, "").await).filter(|entries| entries.len() == 5);
    let entries = eventually("the entries", all).await;
    let mut rows: Vec<_> = entries.iter().map(|entry| json!(members(entry))).collect();
    rows.sort_by_key(ToString::to_string);
    assert_eq!(
        rows,
        [
            json!(["SIGHUP", "reload", null, null, 0, "invalid_configuration"]),
            json!(["SIGHUP", "reload", null, null, 1, "done"]),
            json!(["admin_token", "alerts test", null, null, 0, "refused"]),
            json!(["admin_token", "target test", "orders", null, 1, "done"]),
            json!(["grafana", "export", null, null, 7, "done"]),
        ]
    );
    let by_signal = entries.iter().find(|entry| entry["who"] == "SIGHUP").unwrap();
    assert_eq!((&by_signal["client"], &by_signal["peer"]), (&json!("signal"), &Value::Null));
    assert_eq!(listed(&bridge, "action=target%20test").await.len(), 1);
    bridge.stop().await;
}

/// Returns actor, action, target, event, count and outcome of an entry or of an audit line.
fn members(entry: &Value) -> [Value; 6] {
    ["who", "action", "target", "event_id", "count", "outcome"].map(|member| entry[member].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_and_every_reading_of_a_body_is_kept_and_logged_whatever_the_filter() {
    let mut world = World::new(World::with_duplicates()).await;
    let target = world.target("orders").await;
    world.set("SERVER__ADMIN_TOKEN", ADMIN);
    world.set("SERVER__TOKENS__GRAFANA__TOKEN", READER);
    world.set("SERVER__TOKENS__GRAFANA__SCOPE", "read");
    world.set("LOG__FILTER", "error,pepay_bridge::app=info");
    let bridge = world.bridge().await;
    let id = world.simulator.play(1)[0].as_str().to_owned();
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;

    let (_, event) = ask(&bridge, READER, &format!("events/{id}"), None).await;
    assert!(event["body"].is_string());
    let (_, event) = ask(&bridge, READER, &format!("events/{id}?body=false"), None).await;
    assert!(event["body"].is_null() && event["size"].is_number(), "{event}");
    let post = async |token, path: &str, body, expected: u16| {
        let (status, answer) = ask(&bridge, token, path, Some(body)).await;
        assert_eq!(status.as_u16(), expected, "{path}: {answer}");
    };
    post(READER, "targets/orders/pause", "{}", 403).await;
    post(ADMIN, "targets/orders/pause", "{}", 200).await;
    post(ADMIN, "targets/nobody/pause", "{}", 404).await;
    post(ADMIN, "deliveries/cancel", r#"{"filter":{"state":"dead"},"dry_run":true}"#, 200).await;
    post(ADMIN, "deliveries/cancel", r#"{"filter":{"state":"dead"},"confirm":0}"#, 200).await;
    let missing = r#"{"target":"orders","filter":{},"missing":true,"confirm":0}"#;
    post(ADMIN, "deliveries/replay", missing, 200).await;
    post(ADMIN, &format!("events/{id}/replay"), "no JSON", 400).await;
    post("a-wrong-token-altogether", "targets/orders/resume", "{}", 401).await;

    let entries = listed(&bridge, "limit=50").await;
    let expected = [
        json!(["admin_token", "replay", null, id, 0, "malformed_body"]),
        json!(["admin_token", "replay", "orders", null, 0, "done"]),
        json!(["admin_token", "cancel", null, null, 0, "done"]),
        json!(["admin_token", "pause", "nobody", null, 0, "not_found"]),
        json!(["admin_token", "pause", "orders", null, 1, "done"]),
        json!(["grafana", "pause", "orders", null, 0, "insufficient_scope"]),
        json!(["grafana", "read_body", null, id, 1, "done"]),
    ];
    assert_eq!(entries.iter().map(|entry| json!(members(entry))).collect::<Vec<_>>(), expected);
    assert_eq!([&entries[1]["filter"], &entries[2]["filter"]], ["missing {}", r#"{"state":"dead"}"#]);
    for entry in &entries {
        assert_eq!(
            (&entry["client"], entry["peer"].as_str().unwrap().starts_with("127.0.0.1:")),
            (&json!("page"), true)
        );
    }
    assert_eq!(listed(&bridge, "who=grafana&kind=change").await.len(), 1);
    assert_eq!(listed(&bridge, &format!("event_id={id}")).await.len(), 2);
    let (_, page) = ask(&bridge, READER, "audit?limit=4", None).await;
    let rest = listed(&bridge, &format!("cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!(rest, entries[4..]);

    let (status, log) = bridge.stop().await;
    assert!(status.success());
    let mut logged: Vec<_> = log.iter().filter(|line| line["message"] == "audit").map(members).collect();
    logged.reverse();
    assert_eq!(logged, entries.iter().map(members).collect::<Vec<_>>());

    let bridge = world.bridge().await;
    assert_eq!(listed(&bridge, "").await, entries, "a restart keeps them");
}
