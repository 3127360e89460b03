//! Tests of the server-sent events.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::*;

/// The time limit of every wait. It is far longer than any step takes; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// The overviews that one listener receives.
struct Overviews(BodyDataStream);

impl Overviews {
    async fn next(&mut self) -> Option<Value> {
        let event = tokio::time::timeout(PATIENCE, self.0.next()).await.expect("an event or the end")?;
        let event = String::from_utf8(event.unwrap().to_vec()).unwrap();
        let data = event.strip_prefix("event: overview\ndata: ").and_then(|rest| rest.strip_suffix("\n\n"));
        Some(serde_json::from_str(data.expect(&event)).unwrap())
    }
}

async fn listen(router: &Router) -> Result<Overviews, Answer> {
    let request = Request::get("/api/v1/live").header("authorization", "Bearer hunter2");
    let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
    if response.status() != StatusCode::OK {
        return Err(answer(response).await);
    }
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    Ok(Overviews(response.into_body().into_data_stream()))
}

#[tokio::test]
async fn a_live_stream_sends_the_overview_at_once_and_again_until_the_bridge_stops() {
    let shown = Shown::new().await;
    let (router, sampler) = shown.sampled(Some("hunter2"));
    let mut overviews = listen(&router).await.ok().unwrap();
    let first = overviews.next().await.unwrap();
    assert_eq!(first["targets"][0]["name"], "orders");
    assert_eq!(first["targets"][0]["backlog"], 0);

    shown.store_event("evt_1", 30).await;
    let (mut task, stop) = (JoinSet::new(), CancellationToken::new());
    task.spawn(sampler.run(stop.clone()));
    let second = overviews.next().await.unwrap();
    assert_eq!(second["targets"][0]["backlog"], 1);
    assert_eq!(second["history"].as_array().unwrap().len(), 1);
    assert!(overviews.next().await.is_some());

    stop.cancel();
    task.join_all().await;
    while overviews.next().await.is_some() {}
}

#[tokio::test]
async fn listeners_are_bounded_and_one_that_leaves_makes_room() {
    let shown = Shown::new().await;
    let (router, _sampler) = shown.sampled(Some("hunter2"));
    let mut listening = Vec::new();
    for _ in 0..16 {
        listening.push(listen(&router).await.ok().unwrap());
    }
    let refused = listen(&router).await.err().unwrap();
    refused.problem(StatusCode::SERVICE_UNAVAILABLE, "too_many_listeners");
    listening.pop();
    assert!(listen(&router).await.is_ok());
}
