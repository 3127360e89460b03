//! What goes wrong when Pepay is asked for something, and how its refusals
//! read. Error bodies come in three shapes (Pepay: `api-spec/errors`):
//! `{"success":false,"error":{"code","message"}}`,
//! `{"success":false,"message","error_code"}` and `{"error":"…","code":"…"}`.

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use serde_json::Value;

use crate::domain::clock::UnixMillis;
use crate::domain::retry_after;

/// The longest `Retry-After` that is believed. A value beyond it is more likely
/// a mistake than a wish, and a daemon that sleeps for a week has given up.
pub const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The longest stretch of Pepay's own words that is repeated in a log.
const LONGEST_MESSAGE: usize = 200;

/// Pepay did not give what it was asked for: the one error of the REST list, the
/// token and the upgrade alike. Its text names neither key nor token nor URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// What follows from it.
    pub kind: FailureKind,
    /// Not before this has passed, Pepay asks.
    pub retry_after: Option<Duration>,
    /// What happened, for a person.
    pub text: String,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// 401 or 403: this key or token is not accepted. Does not heal by retrying at once.
    Refused,
    /// 404, 405 or 501: there is no such thing at this address.
    Missing,
    /// Another 4xx: the request as it is will not be answered, such as a cursor
    /// that Pepay has forgotten.
    Rejected,
    /// 429: too many requests.
    RateLimited,
    /// 5xx, or a redirect, which is not followed: Pepay cannot answer now.
    Unavailable,
    /// No answer at all: the network, TLS, or a time limit.
    Unreachable,
    /// An answer that makes no sense.
    Malformed,
}

/// Where JSON is not what it should be. The parser's own message would repeat
/// what it found there, at any length.
pub fn place(problem: &serde_json::Error) -> String {
    let what = if problem.is_data() { "another shape of JSON" } else { "no JSON" };
    format!("{what} at line {}, column {}", problem.line(), problem.column())
}

impl Failure {
    /// No answer came: `what` happened instead.
    pub fn unreachable(what: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unreachable, retry_after: None, text: what.into() }
    }

    /// The answer came and makes no sense.
    pub fn malformed(what: impl Into<String>) -> Self {
        Self { kind: FailureKind::Malformed, retry_after: None, text: what.into() }
    }

    /// The answer was a refusal. `secrets` are struck out of Pepay's own words,
    /// should it repeat what it was sent.
    pub fn refusal(
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: UnixMillis,
        secrets: &[&str],
    ) -> Self {
        let kind = match status.as_u16() {
            401 | 403 => FailureKind::Refused,
            404 | 405 | 501 => FailureKind::Missing,
            429 => FailureKind::RateLimited,
            400..=499 => FailureKind::Rejected,
            _ => FailureKind::Unavailable,
        };
        let retry_after = header_text(headers, &[header::RETRY_AFTER.as_str()])
            .and_then(|value| retry_after::parse(value, now))
            .map(|wait| wait.min(LONGEST_RETRY_AFTER));
        let (code, message) = words(body);
        let request = header_text(headers, &["x-request-id", "request-id"]);
        let part = |before: &str, words: Option<&str>, after: &str| {
            words.map(|words| format!("{before}{}{after}", legible(words, secrets))).unwrap_or_default()
        };
        let text = [
            format!("Pepay answered {}", status.as_u16()),
            part(" ", code.as_deref(), ""),
            part(": ", message.as_deref(), ""),
            part(" (request ", request, ")"),
        ];
        Self { kind, retry_after, text: text.concat() }
    }
}

fn header_text<'a>(headers: &'a HeaderMap, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| headers.get(*name)?.to_str().ok())
}

/// Code and message of an error body, whichever shape it has.
fn words(body: &[u8]) -> (Option<String>, Option<String>) {
    let Ok(body) = serde_json::from_slice::<Value>(body) else { return (None, None) };
    code_and_message(&body)
}

/// Code and message of an error object in any of Pepay's shapes; `ws_error`
/// frames have the same.
pub(super) fn code_and_message(object: &Value) -> (Option<String>, Option<String>) {
    let inner = object.get("error").unwrap_or(&Value::Null);
    let first = |candidates: [&Value; 4]| {
        candidates.into_iter().find_map(|value| match value {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        })
    };
    let field = |object: &'_ Value, name: &str| object.get(name).cloned().unwrap_or_default();
    let code = first([
        &field(inner, "code"),
        &field(inner, "error_code"),
        &field(object, "error_code"),
        &field(object, "code"),
    ]);
    let message = first([&field(inner, "message"), &field(object, "message"), inner, &Value::Null]);
    (code, message)
}

/// Pepay's own words, fit for one line of a log: bounded, without control
/// characters and without any of `secrets`.
pub fn legible(text: &str, secrets: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, "[redacted]");
    }
    let mut line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LONGEST_MESSAGE + 1).collect();
    if line.chars().count() > LONGEST_MESSAGE {
        line.pop();
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(784_111_777_000);

    fn refusal(status: u16, headers: &[(&'static str, &str)], body: &str) -> Failure {
        let headers =
            headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect();
        Failure::refusal(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes(), NOW, &["k3y"])
    }

    #[test]
    fn all_three_shapes_of_error_bodies_are_read() {
        for body in [
            r#"{"success":false,"error":{"code":"BAD","message":"no such thing"}}"#,
            r#"{"success":false,"message":"no such thing","error_code":"BAD"}"#,
            r#"{"error":"no such thing","code":"BAD"}"#,
        ] {
            let failure = refusal(400, &[("x-request-id", "req_1")], body);
            assert_eq!(failure.text, "Pepay answered 400 BAD: no such thing (request req_1)");
            assert_eq!(failure.kind, FailureKind::Rejected);
        }
    }

    #[test]
    fn a_body_of_another_kind_leaves_the_status() {
        for body in ["", "<html>", "[]", "null", "3", r#"{"error":[]}"#] {
            assert_eq!(refusal(502, &[], body).text, "Pepay answered 502", "{body}");
        }
    }

    #[test]
    fn the_status_decides_what_follows() {
        let kinds = [
            (401, FailureKind::Refused),
            (403, FailureKind::Refused),
            (400, FailureKind::Rejected),
            (404, FailureKind::Missing),
            (501, FailureKind::Missing),
            (429, FailureKind::RateLimited),
            (503, FailureKind::Unavailable),
            (302, FailureKind::Unavailable),
        ];
        for (status, kind) in kinds {
            assert_eq!(refusal(status, &[], "").kind, kind, "{status}");
        }
    }

    #[test]
    fn retry_after_is_read_in_both_forms_and_bounded() {
        let wait = |value| refusal(429, &[("retry-after", value)], "").retry_after;
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("Sun, 06 Nov 1994 08:50:07 GMT"), Some(Duration::from_secs(30)));
        assert_eq!(wait("99999999"), Some(LONGEST_RETRY_AFTER));
        assert_eq!(wait("soon"), None);
    }

    #[test]
    fn a_secret_that_is_echoed_is_struck_out() {
        let failure = refusal(401, &[], r#"{"error":"bad key k3y","code":"k3y"}"#);
        assert_eq!(failure.text, "Pepay answered 401 [redacted]: bad key [redacted]");
    }

    #[test]
    fn long_or_many_line_messages_become_one_short_line() {
        let failure = refusal(500, &[], &format!(r#"{{"message":"a\n{}"}}"#, "x".repeat(999)));
        assert!(failure.text.starts_with("Pepay answered 500: a x") && failure.text.ends_with('…'));
        assert!(failure.text.chars().count() < 250);
    }
}
