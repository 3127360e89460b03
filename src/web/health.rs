//! `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

use super::readiness::{Readiness, Verdict};

/// Answers as long as the process can.
pub(super) async fn alive(State(readiness): State<Arc<Readiness>>) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": readiness.view.uptime().as_secs(),
    }))
}

/// Answers 200 if the bridge can do its work, with what a person should look at
/// all the same; else 503 with the reasons.
pub(super) async fn ready(State(readiness): State<Arc<Readiness>>) -> Response {
    let Verdict { reasons, warnings, .. } = readiness.look().await;
    if reasons.is_empty() && warnings.is_empty() {
        Json(json!({ "ready": true })).into_response()
    } else if reasons.is_empty() {
        Json(json!({ "ready": true, "warnings": warnings })).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "ready": false, "reasons": reasons }))).into_response()
    }
}
