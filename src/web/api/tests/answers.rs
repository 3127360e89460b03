//! Tests of responses: their form, their headers, and access to them.

use serde_json::json;

use super::*;

#[tokio::test]
async fn a_missing_resource_is_a_problem() {
    let caller = Caller::new().await;
    for path in [
        "/api",
        "/api/",
        "/api/v1",
        "/api/v2/events",
        "/api/v1/events/",
        "/api/v1/events/evt_1",
        "/api/v1/events/evt%201",
        "/api/v1/events/%FF",
        "/api/v1/events/evt_1/body",
        "/api/v1/deliveries/orders/evt_1",
        "/api/v1/deliveries/nobody/evt_1",
    ] {
        caller.get(path).await.problem(StatusCode::NOT_FOUND, "not_found");
    }
    for (path, body) in [
        ("/api/v1/deliveries/undo", r#"{"filter":{},"dry_run":true}"#),
        ("/api/v1/deliveries/orders/evt_1/undo", "{}"),
        ("/api/v1/deliveries/orders/evt_1/retry", "{}"),
        ("/api/v1/events/evt_1/replay", r#"{"target":"orders"}"#),
        ("/api/v1/targets/nobody/pause", "{}"),
        ("/api/v1/targets/nobody/resume", "{}"),
        ("/api/v1/targets/nobody/test", "{}"),
        ("/api/v1/streams/nobody/reconnect", "{}"),
        ("/api/v1/streams/nobody/backfill", r#"{"after":"evt_1"}"#),
    ] {
        caller.post(path, body).await.problem(StatusCode::NOT_FOUND, "not_found");
    }
}

#[tokio::test]
async fn a_method_that_a_path_does_not_take_is_refused_with_those_that_it_does() {
    let caller = Caller::new().await;
    for (path, allowed) in [
        ("/api/v1/events", "GET,HEAD"),
        ("/api/v1/events/evt_1/replay", "POST"),
        ("/api/v1/reload", "POST"),
        ("/api/v1/deliveries/retry", "POST"),
        ("/api/openapi.json", "GET,HEAD"),
    ] {
        let answer =
            answer(caller.send(Request::builder().method(NO_METHOD).uri(path), Body::empty()).await).await;
        assert_eq!(answer.headers["allow"], allowed, "{path}");
        answer.problem(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed");
    }
}

#[tokio::test]
async fn the_token_guards_the_whole_api_and_not_the_page() {
    let caller = Caller::new().await;
    for path in ["/api/v1/events", "/api/v1/live", "/api/openapi.json", "/api/nowhere", "/api"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = answer(caller.router.clone().oneshot(request).await.unwrap()).await;
        assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"pepay-bridge\"");
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert_eq!(answer.body["type"], "urn:pepay-bridge:problem:unauthorized");
    }
    for path in ["/", "/assets/app.js", "/assets/app.css", "/assets/icon.svg"] {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = caller.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        let headers = response.headers();
        let policy = headers["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"), "{policy}");
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        let request =
            Request::get(path).header("if-none-match", &headers["etag"]).body(Body::empty()).unwrap();
        let again = caller.router.clone().oneshot(request).await.unwrap();
        assert_eq!(again.status(), StatusCode::NOT_MODIFIED, "{path}");
    }
}

#[tokio::test]
async fn without_a_token_page_api_and_status_answer_to_loopback_names_alone() {
    let router = Shown::new().await.admin(None);
    let ask = async |path: &str, host: &str| {
        let request = Request::get(path).header("host", host).body(Body::empty()).unwrap();
        answer(router.clone().oneshot(request).await.unwrap()).await
    };
    for path in ["/", "/assets/app.js", "/status", "/api/v1/targets", "/api/openapi.json"] {
        assert_eq!(ask(path, "localhost:9090").await.status, StatusCode::OK, "{path}");
        assert_eq!(ask(path, "evil.example:9090").await.status, StatusCode::FORBIDDEN, "{path}");
    }
    let refused = ask("/api/v1/targets", "evil.example").await;
    assert_eq!(refused.body["type"], "urn:pepay-bridge:problem:foreign_host");
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(ask(path, "bridge.internal").await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn targets_show_configuration_state_and_backlog() {
    let caller = Caller::new().await;
    caller.shown.store_event("evt_1", 30).await;
    let body = caller.get("/api/v1/targets").await.ok();
    let expected = json!({ "targets": [{
        "name": "orders", "url": "http://127.0.0.1:8000/events", "types": ["*"], "ordering": "none", "concurrency": 16,
        "environment": null, "where": {}, "signed": false, "headers": [], "configured": true, "state": "configured",
        "in_flight": 2, "limited_since": null, "circuit": "closed", "next_probe": null, "retry_after_until": null,
        "rejecting": null, "paused": false, "paused_reason": null, "last_error": null, "last_delivered_at": null,
        "backlog": 1, "backlog_oldest_seconds": 30.0, "backlog_oldest_at": "2024-12-21T11:19:30.000Z",
        "held": 0, "dead": 0, "latency": null,
    }]});
    assert_eq!(body, expected);
}

#[tokio::test]
async fn a_target_is_stopped_started_and_tried() {
    let caller = Caller::new().await;
    for (call, paused) in [("pause", true), ("resume", false)] {
        let target = caller.post(&format!("/api/v1/targets/orders/{call}"), "{}").await.ok();
        assert_eq!((&target["name"], &target["paused"]), (&json!("orders"), &json!(paused)));
    }
    let outcome = caller.post("/api/v1/targets/orders/test", "{}").await.ok();
    let expected = json!({
        "event_id": "evt_test_1", "acknowledged": false, "status": 500, "duration_ms": 7, "error": "it answered 500"
    });
    assert_eq!(outcome, expected);
}

#[tokio::test]
async fn a_stream_is_told_to_reconnect_and_to_read_again() {
    let caller = Caller::new().await;
    let streams = caller.get("/api/v1/streams").await.ok();
    assert_eq!(streams["streams"][0]["name"], "commerce");
    let told = caller.post("/api/v1/streams/commerce/reconnect", "{}").await;
    assert_eq!((told.status, &told.body), (StatusCode::ACCEPTED, &streams["streams"][0]));
    let from = r#"{"from":"2026-01-31T09:30:00Z"}"#;
    assert_eq!(caller.post("/api/v1/streams/commerce/backfill", from).await.status, StatusCode::ACCEPTED);
    let busy = caller.post("/api/v1/streams/commerce/backfill", r#"{"after":"evt_1"}"#).await;
    busy.problem(StatusCode::CONFLICT, "busy");
}

#[tokio::test]
async fn a_reload_reports_its_changes_or_all_problems_or_why_it_is_impossible() {
    let caller = Caller::new().await;
    let changes = caller.post("/api/v1/reload", "{}").await.ok();
    assert_eq!(
        changes,
        json!({ "applied": ["targets.orders changed"], "restart_needed": ["server.listen"], "files": [], "removed_targets": [] })
    );
    let answer = caller.post("/api/v1/reload", "{}").await;
    let body = answer.problem(StatusCode::UNPROCESSABLE_ENTITY, "invalid_configuration");
    assert_eq!(
        body["errors"][1],
        json!({ "name": "configuration", "reason": "targets.orders.url: missing" })
    );
    let answer = caller.post("/api/v1/reload", "{}").await;
    assert_eq!(answer.headers["retry-after"], "2");
    let body = answer.problem(StatusCode::SERVICE_UNAVAILABLE, "reload_unavailable");
    let detail = "the configuration was not reloaded, nothing was changed: the disk is gone";
    assert_eq!((&body["detail"], &body["errors"]), (&json!(detail), &json!(null)));
}

#[tokio::test]
async fn a_store_that_has_stopped_is_a_problem_that_says_when_to_come_back() {
    let mut caller = Caller::new().await;
    caller.shown.close().await;
    let answer = caller.post("/api/v1/events/evt_1/replay", r#"{"target":"orders"}"#).await;
    assert_eq!(answer.headers["retry-after"], "2");
    answer.problem(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable");
    let overview = caller.get("/api/v1/overview").await.ok();
    assert_eq!(overview["store"]["committing"], json!(false));
    assert_eq!(overview["ready"], json!(false));
}

#[tokio::test]
async fn the_overview_shows_every_part() {
    let caller = Caller::new().await;
    caller.shown.store_event("evt_1", 30).await;
    let overview = caller.get("/api/v1/overview").await.ok();
    let members: Vec<_> = overview.as_object().unwrap().keys().collect();
    let expected = [
        "commit",
        "history",
        "last_refused_webhook",
        "now",
        "races",
        "ready",
        "reasons",
        "replicas",
        "sources",
        "store",
        "streams",
        "targets",
        "uptime_seconds",
        "usage",
        "version",
        "warnings",
        "webhooks",
    ];
    assert_eq!(members, expected);
    assert_eq!(
        (&overview["now"], &overview["uptime_seconds"]),
        (&json!("2024-12-21T11:20:00.000Z"), &json!(90))
    );
    assert_eq!(overview["store"]["events"], 1);
    assert_eq!(overview["targets"][0]["backlog"], 1);
    assert_eq!(overview["sources"].as_array().unwrap().len(), 4);
}
