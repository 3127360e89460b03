//! Tests of calls that change something while the store is slow or fails.

use std::pin::pin;

use futures_util::poll;
use serde_json::json;

use super::*;

const CANCEL: &str = "/api/v1/deliveries/cancel";

#[tokio::test]
async fn counting_what_a_bulk_call_is_for_has_longer_than_other_questions() {
    let caller = Caller::new().await;
    let held = caller.shown.view.operator.hold_reads().await;
    let mut counted = pin!(caller.post(CANCEL, r#"{"filter":{},"dry_run":true}"#));
    assert!(poll!(&mut counted).is_pending());
    let other = caller.get("/api/v1/deliveries").await;
    other.problem(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable");
    assert!(poll!(&mut counted).is_pending(), "it was asked before, and waits for longer");
    drop(held);
    assert_eq!(counted.await.ok()["matching"], 0);
}

#[tokio::test]
async fn a_bulk_call_is_listed_for_as_long_as_it_is_worked_on() {
    let caller = Caller::new().await;
    caller.shown.store_event("evt_1", 30).await;
    let listed = async || caller.get("/api/v1/bulk").await.ok()["calls"].clone();
    assert_eq!(listed().await, json!([]));
    let mut given_up = Box::pin(caller.post(CANCEL, r#"{"filter":{},"confirm":7}"#));
    assert!(poll!(&mut given_up).is_pending());
    let mut call = Box::pin(caller.post(CANCEL, r#"{"filter":{},"confirm":1}"#));
    assert!(poll!(&mut call).is_pending());
    let of = |matching| json!({ "action": "cancel", "matching": matching, "gone_through": 0, "changed": 0 });
    assert_eq!(listed().await, json!([of(7), of(1)]));
    drop(given_up);
    assert_eq!(listed().await, json!([of(1)]));
    assert_eq!(call.await.ok()["changed"], 1);
    assert_eq!(listed().await, json!([]));
}

#[tokio::test]
async fn a_done_action_that_cannot_be_shown_is_no_failure() {
    let caller = Caller::new().await;
    caller.shown.store_event("evt_1", 30).await;
    caller.shown.view.operator.fail_reads().await;
    for (path, body) in [
        ("/api/v1/deliveries/orders/evt_1/cancel", "{}"),
        ("/api/v1/events/evt_1/replay", r#"{"target":"orders"}"#),
    ] {
        let answer = caller.post(path, body).await;
        assert_eq!((answer.status, answer.body), (StatusCode::NO_CONTENT, Value::Null), "{path}");
        assert_eq!(answer.headers.get("retry-after"), None);
        // The change is stored, so the same call is refused.
        caller.post(path, body).await.problem(StatusCode::CONFLICT, "state_not_allowed");
    }
    let unread = caller.get("/api/v1/deliveries/orders/evt_1").await;
    unread.problem(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable");
}

#[tokio::test]
async fn a_call_succeeds_although_its_audit_entry_cannot_be_stored() {
    let mut caller = Caller::new().await;
    caller.shown.store_event("evt_1", 30).await;
    caller.shown.close().await;
    let outcome = caller.post("/api/v1/targets/orders/test", "{}").await.ok();
    assert_eq!(outcome["event_id"], "evt_test_1");
    assert_eq!(caller.get("/api/v1/audit").await.ok()["entries"], json!([]));
}
