//! The response to a delivery, and the count of refusals.

use std::borrow::Cow;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, StatusCode};
use metrics::Counter;
use serde::Serialize;

use crate::domain::clock::UnixMillis;
use crate::domain::event::EventId;
use crate::domain::log_limit::LogLimit;
use crate::store::types::Recorded;
use crate::telemetry::names;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Why a delivery was refused, as the answer, the metrics and `/status` name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    /// No signature over these bytes by any configured secret.
    InvalidSignature,
    /// The timestamp is missing, not a number, or too far from now.
    TimestampOutOfRange,
    /// The body is not an event.
    MalformedPayload,
    /// `X-Pepay-Event-ID` names another event than the body.
    EventIdMismatch,
    /// The delivery names another environment than the configured one.
    WrongEnvironment,
    /// The body exceeds the endpoint's limit.
    PayloadTooLarge,
    /// The body did not arrive in time.
    RequestTimeout,
    /// The connection ended before the body did.
    ConnectionCut,
    /// The event could not be committed.
    StoreUnavailable,
    /// The store's queue is full.
    Overloaded,
}

impl Code {
    /// Every code, in the order of the declaration, so that `code as usize` is its index.
    pub(super) const ALL: [Self; 10] = [
        Self::InvalidSignature,
        Self::TimestampOutOfRange,
        Self::MalformedPayload,
        Self::EventIdMismatch,
        Self::WrongEnvironment,
        Self::PayloadTooLarge,
        Self::RequestTimeout,
        Self::ConnectionCut,
        Self::StoreUnavailable,
        Self::Overloaded,
    ];

    /// Returns the name in answers, metrics and logs.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidSignature => "invalid_signature",
            Self::TimestampOutOfRange => "timestamp_out_of_range",
            Self::MalformedPayload => "malformed_payload",
            Self::EventIdMismatch => "event_id_mismatch",
            Self::WrongEnvironment => "wrong_environment",
            Self::PayloadTooLarge => "payload_too_large",
            Self::RequestTimeout => "request_timeout",
            Self::ConnectionCut => "connection_cut",
            Self::StoreUnavailable => "store_unavailable",
            Self::Overloaded => "overloaded",
        }
    }

    const fn status(self) -> StatusCode {
        match self {
            Self::InvalidSignature
            | Self::TimestampOutOfRange
            | Self::MalformedPayload
            | Self::EventIdMismatch
            | Self::WrongEnvironment
            // The sender has gone.
            | Self::ConnectionCut => StatusCode::BAD_REQUEST,
            Self::PayloadTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::StoreUnavailable | Self::Overloaded => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the seconds after which a repeat may succeed.
    const fn retry_after(self) -> Option<HeaderValue> {
        match self {
            Self::Overloaded => Some(HeaderValue::from_static("1")),
            Self::StoreUnavailable => Some(HeaderValue::from_static("5")),
            _ => None,
        }
    }

    /// Returns whether a part of the request may be left unread on the connection.
    const fn ends_connection(self) -> bool {
        matches!(self, Self::PayloadTooLarge | Self::RequestTimeout | Self::ConnectionCut)
    }
}

/// A refused delivery.
#[derive(Debug)]
pub(super) struct Refusal {
    /// The error code of the response.
    pub(super) code: Code,
    /// The reason, for the sender.
    message: Cow<'static, str>,
    /// The reason for the operator alone, if the response has less detail.
    detail: Option<String>,
    /// The event's id, known once the signature has been verified.
    pub(super) event_id: Option<EventId>,
    /// The size of the body in bytes, if it was declared or read.
    pub(super) bytes: Option<u64>,
    /// The timestamp less the time of arrival, in seconds.
    pub(super) clock_off: Option<i64>,
}

impl Refusal {
    /// Creates a refusal with `message` as its reason.
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self { code, message, detail: None, event_id: None, bytes: None, clock_off: None }
    }

    /// Returns the refusal with the id of its event.
    pub(super) fn about(self, event_id: EventId) -> Self {
        Self { event_id: Some(event_id), ..self }
    }

    /// Returns the refusal with a reason for the operator alone.
    pub(super) fn in_detail(self, detail: impl Into<String>) -> Self {
        Self { detail: Some(detail.into()), ..self }
    }

    /// Returns the refusal with the distance of the timestamp from the time of arrival, in seconds.
    pub(super) fn off_by(self, seconds: i64) -> Self {
        Self { clock_off: Some(seconds), ..self }
    }

    /// Returns the refusal with this size of the body, unless it has one.
    pub(super) fn sized(self, bytes: Option<u64>) -> Self {
        Self { bytes: self.bytes.or(bytes), ..self }
    }

    /// Returns the full reason, for the operator.
    pub(super) fn reason(&self) -> &str {
        self.detail.as_deref().unwrap_or(&self.message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = error(self.code.status(), self.code.as_str(), &self.message);
        let headers = response.headers_mut();
        if let Some(seconds) = self.code.retry_after() {
            headers.insert(RETRY_AFTER, seconds);
        }
        if self.code.ends_connection() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

/// The refusals of one endpoint, by code.
#[derive(Debug)]
pub(super) struct Rejections([Tally; Code::ALL.len()]);

#[derive(Debug)]
struct Tally {
    /// The handle is looked up once: it costs an increment, and a lookup by label a hash and a lock.
    counter: Counter,
    lines: LogLimit,
}

impl Rejections {
    pub(super) fn new() -> Self {
        Self(Code::ALL.map(|code| Tally {
            counter: metrics::counter!(names::WEBHOOKS_REJECTED, "reason" => code.as_str()),
            lines: LogLimit::default(),
        }))
    }

    /// Counts a refusal. If a log line is due, returns the number of refusals with this code since the
    /// last line.
    pub(super) fn count(&self, code: Code, now: UnixMillis) -> Option<u64> {
        let tally = &self.0[code as usize];
        tally.counter.increment(1);
        tally.lines.note(now)
    }
}

/// Returns the response to a delivery whose event is committed.
pub(super) fn accepted(recorded: Recorded) -> Response {
    let body = match recorded {
        Recorded::New => r#"{"ok":true,"duplicate":false}"#,
        Recorded::Duplicate | Recorded::Conflict => r#"{"ok":true,"duplicate":true}"#,
    };
    ([(CONTENT_TYPE, JSON)], body).into_response()
}

/// Returns the response to every method except POST; the router adds `Allow`.
pub(super) async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "webhooks are delivered with POST")
}

fn error(status: StatusCode, code: &'static str, message: &str) -> Response {
    #[derive(Serialize)]
    struct Error<'a> {
        error: Detail<'a>,
    }
    #[derive(Serialize)]
    struct Detail<'a> {
        code: &'static str,
        message: &'a str,
    }
    // Two strings always serialise; without a body the status alone is the answer.
    let body = serde_json::to_vec(&Error { error: Detail { code, message } }).unwrap_or_default();
    (status, [(CONTENT_TYPE, JSON)], Body::from(body)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_its_own_index() {
        for (index, code) in Code::ALL.into_iter().enumerate() {
            assert_eq!(code as usize, index);
        }
    }

    #[test]
    fn many_refusals_with_one_code_hide_no_other_code() {
        let (rejections, now) = (Rejections::new(), UnixMillis(1_734_780_000_000));
        assert_eq!(rejections.count(Code::InvalidSignature, now), Some(0));
        assert_eq!(rejections.count(Code::InvalidSignature, now), None);
        assert_eq!(rejections.count(Code::MalformedPayload, now), Some(0));
    }
}
