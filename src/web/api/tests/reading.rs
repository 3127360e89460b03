//! Tests of wrong requests: each is refused, and the message names the fault and what is allowed.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use axum::response::IntoResponse as _;
use futures_util::{StreamExt as _, stream};
use serde_json::json;

use super::*;
use crate::web::api::body::bounded;

#[tokio::test]
async fn a_parameter_that_is_not_known_is_refused_by_name_with_those_that_are() {
    let caller = Caller::new().await;
    let body = caller.get("/api/v1/events?stat=dead&limit=5").await.refuses(&["stat"]);
    let known = json!([
        "type",
        "object_id",
        "order_id",
        "invoice_id",
        "source",
        "state",
        "target",
        "from",
        "to",
        "id_prefix",
        "limit",
        "cursor",
        "q"
    ]);
    assert_eq!(body["errors"][0], json!({ "name": "stat", "reason": "is not known here", "allowed": known }));
    for path in
        ["/api/v1/targets", "/api/v1/overview", "/api/v1/live", "/api/openapi.json", "/api/v1/events/evt_1"]
    {
        caller.get(&format!("{path}?verbose=1")).await.refuses(&["verbose"]);
    }
    caller.post("/api/v1/targets/orders/pause?force=1", "{}").await.refuses(&["force"]);
}

#[tokio::test]
async fn a_wrong_value_is_refused_with_what_is_allowed() {
    let caller = Caller::new().await;
    let body = caller.get("/api/v1/deliveries?state=gone").await.refuses(&["state"]);
    assert_eq!(
        body["errors"][0]["allowed"],
        json!(["pending", "sending", "retrying", "held", "delivered", "dead", "closed", "cancelled"])
    );
    let body = caller.get("/api/v1/events?source=fax").await.refuses(&["source"]);
    assert_eq!(body["errors"][0]["allowed"], json!(["stream", "webhook", "backfill", "reconcile"]));
    for (query, name) in [
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("limit=%2B5", "limit"),
        ("limit=", "limit"),
        ("from=yesterday", "from"),
        ("to=2026-01-01", "to"),
        ("type=inv*", "type"),
        ("type=", "type"),
        ("id_prefix=a%20b", "id_prefix"),
        ("cursor=3", "cursor"),
        ("target=", "target"),
        ("object_id=", "object_id"),
        ("order_id=", "order_id"),
        ("invoice_id=", "invoice_id"),
    ] {
        let body = caller.get(&format!("/api/v1/events?{query}")).await.refuses(&[name]);
        assert!(body["errors"][0]["reason"].as_str().unwrap().len() > 10, "{body}");
    }
}

#[tokio::test]
async fn all_wrong_parameters_are_reported_at_once() {
    let caller = Caller::new().await;
    caller
        .get("/api/v1/events?limit=0&from=now&colour=red&limit=1")
        .await
        .refuses(&["from", "limit", "colour", "limit"]);
}

#[tokio::test]
async fn valid_values_are_accepted() {
    let caller = Caller::new().await;
    for query in [
        "type=commerce.order.*,invoice.updated&object_id=ord_1&order_id=ord_1&invoice_id=7&source=stream&state=dead&target=orders&limit=500",
        "from=2026-01-31T09:30:00Z&to=2026-01-31T10:30:00.250%2B01:00&id_prefix=evt_&cursor=12-0",
        "cursor=12-9223372036854775807",
        "",
    ] {
        for list in ["events", "deliveries"] {
            let body = caller.get(&format!("/api/v1/{list}?{query}")).await.ok();
            assert_eq!(body[list], json!([]));
        }
    }
}

#[tokio::test]
async fn a_call_that_changes_something_has_to_be_json() {
    let caller = Caller::new().await;
    for said in
        [None, Some("text/plain"), Some("application/x-www-form-urlencoded"), Some("application/jsonp")]
    {
        let request = Request::post("/api/v1/targets/orders/pause");
        let request = said.into_iter().fold(request, |request, said| request.header("content-type", said));
        let answer = answer(caller.send(request, "{}").await).await;
        answer.problem(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type");
    }
    let request = Request::post("/api/v1/targets/orders/pause")
        .header("content-type", "Application/JSON; charset=utf-8");
    answer(caller.send(request, "{}").await).await.ok();
}

#[tokio::test]
async fn a_body_that_is_no_object_is_refused() {
    let caller = Caller::new().await;
    for body in ["", "{", "[]", "null", "\"{}\"", "{} {}"] {
        let answer = caller.post("/api/v1/targets/orders/pause", body).await;
        answer.problem(StatusCode::BAD_REQUEST, "malformed_body");
    }
}

#[tokio::test]
async fn a_body_is_bounded() {
    let caller = Caller::new().await;
    let request = Request::post("/api/v1/reload").header("content-type", "application/json");
    let answer = answer(caller.send(request, format!("{{\"x\":\"{}\"}}", "y".repeat(64 * 1024))).await).await;
    answer.problem(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large");
}

#[tokio::test]
async fn a_body_that_stops_coming_or_breaks_off_is_refused() {
    let caller = Caller::new().await;
    let reload = Request::post("/api/v1/reload").header("content-type", "application/json");
    let broken = stream::iter([Ok("{"), Err(io::Error::from(io::ErrorKind::UnexpectedEof))]);
    let broken = answer(caller.send(reload, Body::from_stream(broken)).await).await;
    broken.problem(StatusCode::BAD_REQUEST, "malformed_body");
    let stuck = stream::iter([Ok::<_, Infallible>("{")]).chain(stream::pending());
    let stuck = bounded(Body::from_stream(stuck), Duration::from_millis(1)).await.unwrap_err();
    answer(stuck.into_response()).await.problem(StatusCode::REQUEST_TIMEOUT, "request_timeout");
}

#[tokio::test]
async fn members_that_are_not_known_or_of_the_wrong_kind_are_refused_by_name() {
    let caller = Caller::new().await;
    for (path, body, names) in [
        ("/api/v1/targets/orders/pause", r#"{"force":true}"#, &["force"][..]),
        ("/api/v1/events/evt_1/replay", "{}", &["target"]),
        ("/api/v1/events/evt_1/replay", r#"{"target":7}"#, &["target"]),
        ("/api/v1/events/evt_1/replay", r#"{"target":"orders","to":"x"}"#, &["to"]),
        ("/api/v1/streams/commerce/backfill", "{}", &["from"]),
        (
            "/api/v1/streams/commerce/backfill",
            r#"{"from":"2026-01-01T00:00:00Z","after":"evt_1"}"#,
            &["from"],
        ),
        ("/api/v1/streams/commerce/backfill", r#"{"from":"today"}"#, &["from"]),
        ("/api/v1/streams/commerce/backfill", r#"{"after":"evt 1"}"#, &["after"]),
    ] {
        caller.post(path, body).await.refuses(names);
    }
}

#[tokio::test]
async fn a_bulk_change_takes_a_filter_and_a_confirmed_count() {
    let caller = Caller::new().await;
    let path = "/api/v1/deliveries/retry";
    for (body, names) in [
        ("{}", &["filter", "confirm"][..]),
        (r#"{"filter":{}}"#, &["confirm"]),
        (r#"{"filter":{},"dry_run":false}"#, &["confirm"]),
        (r#"{"filter":{},"dry_run":true,"confirm":1}"#, &["dry_run", "confirm"]),
        (r#"{"filter":{},"confirm":-1}"#, &["confirm"]),
        (r#"{"filter":{},"confirm":1.5}"#, &["confirm"]),
        (r#"{"filter":{},"dry_run":"yes"}"#, &["dry_run", "confirm"]),
        (
            r#"{"filter":{"state":"gone","colour":"red","limit":"3"},"dry_run":true}"#,
            &["filter.state", "filter.colour", "filter.limit"],
        ),
        (r#"{"filter":{"from":17},"dry_run":true}"#, &["filter.from"]),
        (r#"{"filter":"dead","dry_run":true}"#, &["filter"]),
    ] {
        caller.post(path, body).await.refuses(names);
    }
    let counted = caller.post(path, r#"{"filter":{"state":"dead"},"dry_run":true}"#).await.ok();
    assert_eq!(counted, json!({ "action": "retry", "matching": 0, "changed": 0 }));
    let changed = caller.post(path, r#"{"filter":{"state":"dead"},"confirm":0.0}"#).await.ok();
    assert_eq!(changed, json!({ "action": "retry", "matching": 0, "changed": 0 }));
    let answer = caller.post(path, r#"{"filter":{"state":"dead"},"confirm":3}"#).await;
    let body = answer.problem(StatusCode::CONFLICT, "count_changed");
    assert_eq!(body["matching"], 0);
}
