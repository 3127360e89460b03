//! The overview of the bridge, once and as a live stream.

use reqwest::StatusCode;
use serde_json::Value;

use super::Operator;
use crate::support::soon;
use crate::support::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_live_streams_and_does_not_wait_for_their_clients() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    world.simulator.play(3);
    let mut answer = bridge.admin("/api/v1/live").await;
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let mut text = String::new();
    soon("three overviews of which the last shows all deliveries", async {
        while text.matches("event: overview\n").count() < 3
            || !newest(&text).is_some_and(|overview| overview["store"]["events"] == 3)
        {
            text.push_str(std::str::from_utf8(&answer.chunk().await.unwrap().unwrap()).unwrap());
        }
    })
    .await;
    let (status, _) = bridge.stop().await;
    assert!(status.success());
    soon("the end of the stream", async { while let Ok(Some(_)) = answer.chunk().await {} }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_stream_whose_token_is_replaced_ends_and_needs_the_new_one() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target_at("orders", "http://127.0.0.1:9/");
    world.set("SERVER__ADMIN_TOKEN", "the-first-token-of-all");
    let mut bridge = world.bridge_on_file().await;
    let live = format!("{}/api/v1/live", bridge.admin);
    let listen = async |token: &str| {
        let request = reqwest::Client::new().get(&live).bearer_auth(token);
        soon("the answer", request.send()).await.unwrap()
    };
    let mut watching = listen("the-first-token-of-all").await;
    assert_eq!(watching.status(), StatusCode::OK);
    assert!(soon("an overview", watching.chunk()).await.unwrap().is_some());
    world.set("SERVER__ADMIN_TOKEN", "the-second-token-of-all");
    world.save();
    bridge.reload().await;
    soon("the end of the stream", async { while watching.chunk().await.unwrap().is_some() {} }).await;
    assert_eq!(listen("the-first-token-of-all").await.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(listen("the-second-token-of-all").await.status(), StatusCode::OK);
    assert!(bridge.stop().await.0.success());
}

/// Returns the last overview that has arrived completely.
fn newest(text: &str) -> Option<Value> {
    let (whole, _) = text.rsplit_once("\n\n")?;
    let (_, data) = whole.rsplit_once("data: ")?;
    serde_json::from_str(data).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_overview_shows_latencies_and_the_sources_of_events() {
    let mut world = World::new(World::with_duplicates()).await;
    let _target = world.target("orders").await;
    let bridge = world.bridge().await;
    world.simulator.play(30);
    soon("the webhooks", world.simulator.webhooks_settled()).await;
    let operator = Operator::of(&bridge);
    let told = |overview: &Value| {
        overview["targets"][0]["latency"]["count"] == 30 && overview["races"]["compared"] == 30
    };
    let overview = operator.until("overview", told).await;
    let received: u64 =
        overview["sources"].as_array().unwrap().iter().map(|source| source["unique"].as_u64().unwrap()).sum();
    assert_eq!((received, &overview["ready"]), (30, &Value::Bool(true)));
    assert!(overview["usage"]["database_bytes"].as_u64() > Some(0));
    assert_eq!(overview["streams"][0]["name"], "commerce");
    operator
        .until("overview", |overview| {
            let points = overview["history"].as_array().unwrap();
            let sum = |name: &str| points.iter().map(|point| point[name].as_u64().unwrap()).sum::<u64>();
            sum("unique") == 30 && sum("delivered") == 30 && sum("received") >= 60
        })
        .await;
}
