//! `/healthz`, `/readyz` and `/readyz/intake`.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode, Uri};
use serde::Serialize;
use serde_json::{Value, json};

use super::readiness::{Readiness, Verdict};
use super::{method_not_allowed, refuse};
use crate::domain::clock::{Clock, UnixMillis};

/// The `Retry-After` of a bridge that has no store yet, in seconds.
const RETRY_SECONDS: HeaderValue = HeaderValue::from_static("5");

/// The response of `/readyz`; an empty list is left out.
#[derive(Serialize)]
struct Answer {
    ready: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Returns 200 as long as the process runs.
pub(super) async fn alive(State(readiness): State<Arc<Readiness>>) -> Json<Value> {
    up_for(readiness.view.uptime())
}

fn up_for(uptime: Duration) -> Json<Value> {
    Json(json!({
        "status": "ok",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": uptime.as_secs(),
    }))
}

/// Returns 200 if the bridge can do its work, else 503 with the reasons. Either has the warnings for an
/// operator.
pub(super) async fn ready(State(readiness): State<Arc<Readiness>>) -> Response {
    Answer::from(readiness.look().await).into_response()
}

/// Returns 200 if the bridge can take webhooks, else 503 with the reasons. The state of a stream is not
/// a reason.
pub(super) async fn intake(State(readiness): State<Arc<Readiness>>) -> Response {
    Answer::from(readiness.intake().await).into_response()
}

/// Returns the routes of a listener of a bridge that has `started` and has no store yet, for this `reason`: it
/// is alive and not ready, and every other request is refused for now.
pub fn waiting(clock: Clock, started: UnixMillis, reason: &'static str) -> Router {
    let alive = move || std::future::ready(up_for(clock.now().since(started)));
    let unready = move || async move {
        let reasons = vec![reason.to_owned()];
        Answer { ready: false, reasons, warnings: Vec::new() }.into_response()
    };
    Router::new()
        .route("/healthz", get(alive))
        .route("/readyz", get(unready))
        .route("/readyz/intake", get(unready))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(async move |uri: Uri| unavailable(&uri, reason))
}

fn unavailable(uri: &Uri, reason: &str) -> Response {
    let status = StatusCode::SERVICE_UNAVAILABLE;
    let mut refused = refuse(uri.path(), status, "store_unavailable", reason);
    refused.headers_mut().insert(RETRY_AFTER, RETRY_SECONDS);
    refused
}

impl From<Verdict> for Answer {
    fn from(Verdict { reasons, warnings, .. }: Verdict) -> Self {
        Self { ready: reasons.is_empty(), reasons, warnings }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = if self.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        (status, Json(self)).into_response()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;
    use crate::web::readiness::Room;

    async fn told(reasons: &[&str], warnings: &[&str]) -> (u16, Value) {
        let [reasons, warnings] =
            [reasons, warnings].map(|lines| lines.iter().map(|&line| line.to_owned()).collect());
        let response = Answer::from(Verdict { store_failure: None, room: Room::Unknown, reasons, warnings })
            .into_response();
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    #[tokio::test]
    async fn warnings_are_shown_whether_the_bridge_is_ready_or_not() {
        assert_eq!(told(&[], &[]).await, (200, json!({ "ready": true })));
        assert_eq!(told(&[], &["w"]).await, (200, json!({ "ready": true, "warnings": ["w"] })));
        assert_eq!(told(&["r"], &[]).await, (503, json!({ "ready": false, "reasons": ["r"] })));
        assert_eq!(
            told(&["r"], &["w"]).await,
            (503, json!({ "ready": false, "reasons": ["r"], "warnings": ["w"] }))
        );
    }
}
