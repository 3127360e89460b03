//! The body of a state-changing call: a small JSON object with the right content type, all of whose
//! members are known.

use std::error::Error;
use std::fmt::Display;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Request};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use http_body_util::LengthLimitError;
use serde_json::{Map, Value};

use super::params::{NoQuery, Params};
use super::problem::{Faults, Problem};

/// The longest body of a call, in bytes.
pub(super) const MAX_BODY: usize = 64 * 1024;

/// The longest time in which a body may arrive.
const READ_LIMIT: Duration = Duration::from_secs(10);

/// The members of a body that have not been read yet.
#[derive(Debug)]
pub(super) struct Members {
    unread: Map<String, Value>,
    /// The names that have been read.
    known: Vec<&'static str>,
    faults: Faults,
}

impl Members {
    /// Parses `json` and returns the members of the object.
    pub(super) fn read(json: &[u8]) -> Result<Self, Problem> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(members)) => {
                Ok(Self { unread: members, known: Vec::new(), faults: Faults::default() })
            }
            Ok(_) => Err(malformed("the body is not a JSON object")),
            Err(error) => Err(malformed(format!("the body is not JSON: {error}"))),
        }
    }

    /// Returns the member `name`, if it is there and `read` accepts it; `kind` describes the accepted
    /// values.
    fn of_kind<T>(
        &mut self,
        name: &'static str,
        kind: &str,
        read: impl FnOnce(Value) -> Option<T>,
    ) -> Option<T> {
        self.known.push(name);
        let found = read(self.unread.remove(name)?);
        if found.is_none() {
            self.faults.note(name, format!("is not {kind}"));
        }
        found
    }

    /// Returns a member that is text.
    pub(super) fn text(&mut self, name: &'static str) -> Option<String> {
        self.of_kind(name, "text", |value| match value {
            Value::String(text) => Some(text),
            _ => None,
        })
    }

    /// Returns a member that is text and that `parse` accepts.
    pub(super) fn parsed<T, E: Display>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.text(name)?;
        let wrong = |error| self.faults.note(name, format!("= `{text}`: {error}"));
        parse(&text).map_err(wrong).ok()
    }

    /// Returns a member that is `true` or `false`.
    pub(super) fn flag(&mut self, name: &'static str) -> Option<bool> {
        self.of_kind(name, "`true` or `false`", |value| value.as_bool())
    }

    /// Returns a member that is a whole number from 0.
    pub(super) fn count(&mut self, name: &'static str) -> Option<u64> {
        self.of_kind(name, "a whole number from 0", |value| whole(&value))
    }

    /// Returns a member that is an object of texts, as `read` parses it.
    pub(super) fn object<T>(
        &mut self,
        name: &'static str,
        prefix: &'static str,
        read: impl FnOnce(&mut Params) -> T,
    ) -> Option<T> {
        let members = self.of_kind(name, "an object", |value| match value {
            Value::Object(members) => Some(members),
            _ => None,
        })?;
        let mut params = Params::object(members, prefix);
        let read = read(&mut params);
        self.faults.absorb(params.faults());
        Some(read)
    }

    /// Returns a member as it was written; empty if there is none.
    pub(super) fn written(&self, name: &str) -> String {
        self.unread.get(name).map(Value::to_string).unwrap_or_default()
    }

    /// Returns whether there is an unread member of this name.
    pub(super) fn has(&self, name: &str) -> bool {
        self.unread.contains_key(name)
    }

    /// Notes a fault if the required member is missing.
    pub(super) fn require(&mut self, name: &'static str) {
        if !self.has(name) {
            self.faults.note(name, "is missing");
        }
    }

    /// Notes a fault of the body other than the type of a member.
    pub(super) fn note(&mut self, name: &'static str, reason: &str) {
        self.faults.note(name, reason);
    }

    /// Returns the value that was `read` from the body, or the problem if a member is wrong or unknown.
    pub(super) fn finish<T>(mut self, read: Option<T>) -> Result<T, Problem> {
        for name in self.unread.keys() {
            self.faults.note_allowed(name, "is not known here", &self.known);
        }
        self.faults.check()?;
        read.ok_or_else(|| malformed("something is missing"))
    }
}

fn malformed(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "malformed_body", detail)
}

/// Returns a whole number. JSON has one kind of number: `3.0` and `3` are the same.
fn whole(value: &Value) -> Option<u64> {
    let number = value.as_number()?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked to be whole and small"
    )]
    let of_float =
        |float: f64| (float.fract() == 0.0 && (0.0..9e15).contains(&float)).then_some(float as u64);
    number.as_u64().or_else(|| of_float(number.as_f64()?))
}

/// The body of a call without query parameters.
pub(super) struct Body(pub(super) Members);

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let read = async {
            NoQuery::from_request_parts(&mut parts, state).await?;
            json_is_said(&parts.headers)?;
            let body = bounded(body, READ_LIMIT).await?;
            Members::read(&body)
        };
        read.await.map(Self)
    }
}

/// The empty body of a call that needs only its path.
pub(super) struct NoBody;

impl<S: Sync> FromRequest<S> for NoBody {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let Body(members) = Body::from_request(request, state).await?;
        members.finish(Some(Self))
    }
}

/// Checks the content type. A form of another site cannot send it: a browser asks this listener first,
/// which never consents.
fn json_is_said(headers: &HeaderMap) -> Result<(), Problem> {
    let said = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let essence = said.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Ok(());
    }
    let detail = "a call that changes something takes `content-type: application/json` alone";
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail))
}

/// Returns the whole body, if it has at most [`MAX_BODY`] bytes and arrives within `patience`.
pub(super) async fn bounded(body: axum::body::Body, patience: Duration) -> Result<Bytes, Problem> {
    let Ok(read) = tokio::time::timeout(patience, axum::body::to_bytes(body, MAX_BODY)).await else {
        let detail = format!("the body has not arrived within {} s", patience.as_secs());
        return Err(Problem::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", detail));
    };
    read.map_err(|error| {
        if error.source().is_some_and(<dyn Error>::is::<LengthLimitError>) {
            let detail = format!("a body has at most {MAX_BODY} bytes");
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", detail)
        } else {
            malformed("the body has not arrived whole")
        }
    })
}
