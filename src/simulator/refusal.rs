//! Pepay's error answers, in the three shapes of its documentation.

use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, DATE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use super::Simulator;
use super::fault::RetryAfter;
use super::switches::{ErrorShape, RetryAfterPlace, Switches};
use crate::domain::clock::UnixMillis;

/// An error answer. [`finish`], which knows the switches, writes its body.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    shape: Shape,
    /// The wait that a 429 asks for, if the simulator knows it.
    wait: Option<Duration>,
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
        Self { status, code, message: message.into(), shape: Shape::Flat, wait: None }
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

    /// Returns a 429 that asks to wait for `wait`.
    pub(super) fn too_many(wait: Duration) -> Self {
        Self { wait: Some(wait), ..Self::of_status(StatusCode::TOO_MANY_REQUESTS) }
    }

    pub(super) fn shaped(self, shape: Shape) -> Self {
        Self { shape, ..self }
    }

    /// Returns Pepay's error of this status.
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

    fn rendered(self, switches: Switches) -> Response {
        let Self { status, code, message, shape, wait } = self;
        let shape = match switches.error_shape {
            ErrorShape::Mixed => shape,
            ErrorShape::Nested => Shape::Nested,
            ErrorShape::Flat => Shape::Flat,
            ErrorShape::Plain => Shape::Plain,
        };
        let mut body = match shape {
            Shape::Nested => json!({"success": false, "error": {"code": code, "message": message}}),
            Shape::Flat => json!({"success": false, "message": message, "error_code": code}),
            Shape::Plain => json!({"error": message, "code": code}),
        };
        if status == StatusCode::TOO_MANY_REQUESTS {
            let hint = wait.map(|wait| format!("{} seconds", wait.as_secs()));
            body["retry_after"] = json!(hint.as_deref().unwrap_or("15 minutes"));
        }
        let mut response = (status, Json(body)).into_response();
        if let Some(wait) = wait
            && switches.retry_after == RetryAfterPlace::Header
        {
            response.headers_mut().insert(RETRY_AFTER, wait.as_secs().into());
        }
        response
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// Returns the answer of a fault, instead of the right one.
pub(super) fn instead(
    status: StatusCode,
    retry_after: Option<&RetryAfter>,
    body: Option<String>,
    now: UnixMillis,
) -> Response {
    let mut response = match body {
        Some(body) => {
            let html = body.trim_start().starts_with('<');
            let kind = if html { "text/html; charset=utf-8" } else { "application/json" };
            (status, [(CONTENT_TYPE, kind)], body).into_response()
        }
        None => Refusal::of_status(status).into_response(),
    };
    if let Some(value) = retry_after.and_then(|after| after.header(now.into())) {
        response.headers_mut().insert(RETRY_AFTER, value);
    }
    response
}

impl RetryAfter {
    /// Returns the value of the header at the time `now`; `None` if the text cannot be one.
    fn header(&self, now: SystemTime) -> Option<HeaderValue> {
        match self {
            Self::Seconds(seconds) => Some((*seconds).into()),
            Self::Date(seconds) => date(now, i64::try_from(*seconds).ok()?),
            Self::Literal(text) => HeaderValue::try_from(text).ok(),
        }
    }
}

/// Returns the HTTP date `ahead` seconds after `now`; a negative number is before it.
fn date(now: SystemTime, ahead: i64) -> Option<HeaderValue> {
    let by = Duration::from_secs(ahead.unsigned_abs());
    let date = if ahead < 0 { now.checked_sub(by)? } else { now.checked_add(by)? };
    // A year beyond 9999 cannot be written.
    let year_9999 = SystemTime::UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    (SystemTime::UNIX_EPOCH..=year_9999)
        .contains(&date)
        .then(|| HeaderValue::try_from(httpdate::fmt_http_date(date)).ok())?
}

/// Returns the answer for a path that Pepay does not have.
pub(super) async fn unknown_path() -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, "NOT_FOUND", "no such endpoint").shaped(Shape::Plain)
}

/// Writes the body of a refusal, and adds a `Date` and a request id to every answer, as Pepay does.
pub(super) async fn finish(State(simulator): State<Simulator>, mut response: Response) -> Response {
    let switches = simulator.switches();
    if let Some(refusal) = response.extensions_mut().remove::<Refusal>() {
        let given = response.headers_mut().remove(RETRY_AFTER);
        response = refusal.rendered(switches);
        if let Some(given) = given {
            response.headers_mut().insert(RETRY_AFTER, given);
        }
    }
    if let Some(date) = date(simulator.0.clock.now().into(), switches.date_offset) {
        response.headers_mut().insert(DATE, date);
    }
    let number = simulator.0.answers.fetch_add(1, Ordering::Relaxed);
    if let Ok(id) = HeaderValue::try_from(format!("req_{number}")) {
        response.headers_mut().insert("x-request-id", id);
    }
    response
}
