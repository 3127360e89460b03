//! Pepay's error answers, in the three shapes its documentation shows.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::Simulator;
use super::fault::RetryAfter;

/// An error answer.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    shape: Shape,
}

/// The three shapes of an error body.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// `{"success":false,"error":{"code","message"}}`
    Nested,
    /// `{"success":false,"message","error_code"}`
    Flat,
    /// `{"error":"…","code":"…"}`
    Plain,
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), shape: Shape::Flat }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn unauthorized(message: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", message)
    }

    pub(super) fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, "FORBIDDEN", message)
    }

    pub(super) fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// What Pepay would say with this status.
    pub(super) fn of_status(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            400 => "BAD_REQUEST",
            401 => "UNAUTHORIZED",
            403 => "FORBIDDEN",
            404 => "NOT_FOUND",
            429 => "RATE_LIMIT_EXCEEDED",
            _ => "INTERNAL_ERROR",
        };
        Self::new(status, code, status.canonical_reason().unwrap_or("error"))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let Self { status, code, message, shape } = self;
        let mut body = match shape {
            Shape::Nested => json!({"success": false, "error": {"code": code, "message": message}}),
            Shape::Flat => json!({"success": false, "message": message, "error_code": code}),
            Shape::Plain => json!({"error": message, "code": code}),
        };
        if status == StatusCode::TOO_MANY_REQUESTS {
            body["retry_after"] = json!("15 minutes");
        }
        (status, Json(body)).into_response()
    }
}

impl RetryAfter {
    /// The header's value, `now` being the time; `None` if the text cannot be one.
    pub(super) fn header(&self, now: SystemTime) -> Option<HeaderValue> {
        match self {
            Self::Seconds(seconds) => Some((*seconds).into()),
            Self::Date(seconds) => {
                let date = now.checked_add(Duration::from_secs(*seconds))?;
                HeaderValue::try_from(httpdate::fmt_http_date(date)).ok()
            }
            Self::Literal(text) => HeaderValue::try_from(text).ok(),
        }
    }
}

/// Answers a path that Pepay does not have.
pub(super) async fn unknown_path() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", "no such endpoint").shaped(Shape::Plain)
}

/// Names every answer, as Pepay does, so that logs can refer to it.
pub(super) async fn with_request_id(State(simulator): State<Simulator>, mut response: Response) -> Response {
    let number = simulator.0.answers.fetch_add(1, Ordering::Relaxed);
    if let Ok(id) = HeaderValue::try_from(format!("req_{number}")) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
