//! Failures of requests to Pepay, and the parsing of its refusals. Error bodies come in three shapes
//! (Pepay: `api-spec/errors`): `{"success":false,"error":{"code","message"}}`,
//! `{"success":false,"message","error_code"}` and `{"error":"…","code":"…"}`.

mod words;

use std::time::Duration;

use http::{HeaderMap, StatusCode, header};
use url::Url;

use crate::domain::clock::UnixMillis;
use crate::domain::retry_after;

pub(super) use words::{Words, of_page};

/// The longest `Retry-After` that is respected. A longer value is more likely a mistake, and would stop
/// the bridge for too long.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// The longest part of Pepay's own words that a log line repeats.
const LONGEST_MESSAGE: usize = 200;

/// A failed request to Pepay: the one error of the REST list, the token and the upgrade. Its text has
/// neither key nor token nor URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Failure {
    /// The kind, which decides what follows.
    pub kind: FailureKind,
    /// The wait that Pepay asks for.
    pub retry_after: Option<Duration>,
    /// A description for the log.
    pub text: String,
}

/// The kind of a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// 401 or 403: this key or token is not accepted. An immediate retry does not help.
    Refused,
    /// 404, 405 or 501: the address does not have this resource.
    Missing,
    /// Another 4xx: Pepay does not answer this request, such as one with a cursor that it has
    /// forgotten.
    Rejected,
    /// 429: too many requests.
    RateLimited,
    /// 5xx, 408, 425, or a redirect, which is not followed: Pepay cannot answer now.
    Unavailable,
    /// No answer at all: the network, TLS, or a time limit.
    Unreachable,
    /// An answer that cannot be read.
    Malformed,
}

impl Failure {
    /// Returns the failure that no answer came, because of `what`.
    pub fn unreachable(what: impl Into<String>) -> Self {
        Self { kind: FailureKind::Unreachable, retry_after: None, text: what.into() }
    }

    /// Returns the failure that the answer cannot be read.
    pub fn malformed(what: impl Into<String>) -> Self {
        Self { kind: FailureKind::Malformed, retry_after: None, text: what.into() }
    }

    /// Returns the failure of a refusal. `secrets` are removed from Pepay's own words, which may repeat
    /// the request.
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
            // The request is not at fault: it was slow to arrive, or came too early on its connection.
            408 | 425 => FailureKind::Unavailable,
            400..=499 => FailureKind::Rejected,
            _ => FailureKind::Unavailable,
        };
        Self::said(kind, status, headers, body, now, secrets)
    }

    /// Returns the failure of a 200 whose body is a denial (`"success":false`).
    pub(super) fn denial(headers: &HeaderMap, body: &[u8], now: UnixMillis, secrets: &[&str]) -> Self {
        let limited = Words::of(body).code.is_some_and(|code| code.starts_with("RATE_LIMIT"));
        let kind = if limited { FailureKind::RateLimited } else { FailureKind::Unavailable };
        Self::said(kind, StatusCode::OK, headers, body, now, secrets)
    }

    fn said(
        kind: FailureKind,
        status: StatusCode,
        headers: &HeaderMap,
        body: &[u8],
        now: UnixMillis,
        secrets: &[&str],
    ) -> Self {
        let words = Words::of(body);
        let retry_after = header_text(headers, &[header::RETRY_AFTER.as_str()])
            .and_then(|value| retry_after::parse(value, now))
            .or_else(|| words.wait(now))
            .map(|wait| wait.min(LONGEST_RETRY_AFTER));
        let request = header_text(headers, &["x-request-id", "request-id"]);
        let moved = if status.is_redirection() { redirect(headers) } else { None };
        let wordless = words.code.is_none() && words.message.is_none();
        let page = if wordless { of_page(headers, body) } else { None };
        let part = |before: &str, words: Option<&str>, after: &str| {
            words.map(|words| format!("{before}{}{after}", legible(words, secrets))).unwrap_or_default()
        };
        let text = [
            format!("Pepay answered {}", status.as_u16()),
            part(" ", words.code.as_deref(), ""),
            part(": ", words.message.as_deref().or(page.as_deref()), ""),
            part(" (a redirect to ", moved.as_deref(), ")"),
            part(" (request ", request, ")"),
        ];
        Self { kind, retry_after, text: text.concat() }
    }
}

fn header_text<'a>(headers: &'a HeaderMap, names: &[&str]) -> Option<&'a str> {
    names.iter().find_map(|name| headers.get(*name)?.to_str().ok())
}

/// Returns host and path of a redirect's address. Its query may contain a secret.
fn redirect(headers: &HeaderMap) -> Option<String> {
    let target = header_text(headers, &[header::LOCATION.as_str()])?;
    match Url::parse(target) {
        Ok(target) => Some(format!("{}{}", target.host_str().unwrap_or_default(), target.path())),
        Err(_) => target.split(['?', '#']).next().map(str::to_owned),
    }
}

/// Returns Pepay's own words for one line of a log: bounded, without control characters and without any
/// of `secrets`.
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
        for body in ["", "[]", "{", r#"{"error":[]}"#] {
            assert_eq!(refusal(502, &[], body).text, "Pepay answered 502", "{body}");
        }
    }

    #[test]
    fn an_html_page_is_quoted_and_a_redirect_is_named_without_its_query() {
        let page = "<html><title>Bad Gateway</title>";
        assert_eq!(refusal(502, &[], page).text, "Pepay answered 502: text/html \"Bad Gateway\"");
        for (location, named) in [
            ("https://login.example/a/b?key=k3y#x", "login.example/a/b"),
            ("/a?key=k3y", "/a"),
            ("//login.example/a?b", "//login.example/a"),
        ] {
            let failure = refusal(307, &[("location", location)], "");
            assert_eq!(failure.text, format!("Pepay answered 307 (a redirect to {named})"));
        }
    }

    #[test]
    fn a_200_with_success_false_is_a_failure_with_pepays_message() {
        let body = br#"{"success":false,"error":{"code":"WS_PLAN","message":"no plan for k3y"}}"#;
        let failure = Failure::denial(&HeaderMap::new(), body, NOW, &["k3y"]);
        assert_eq!(failure.text, "Pepay answered 200 WS_PLAN: no plan for [redacted]");
        assert_eq!(failure.kind, FailureKind::Unavailable);
        let body = br#"{"success":false,"error_code":"RATE_LIMIT_EXCEEDED","retry_after":"15 minutes"}"#;
        let failure = Failure::denial(&HeaderMap::new(), body, NOW, &[]);
        assert_eq!(failure.kind, FailureKind::RateLimited);
        assert_eq!(failure.retry_after, Some(Duration::from_secs(900)));
    }

    #[test]
    fn the_status_decides_what_follows() {
        let kinds = [
            (401, FailureKind::Refused),
            (403, FailureKind::Refused),
            (400, FailureKind::Rejected),
            (408, FailureKind::Unavailable),
            (425, FailureKind::Unavailable),
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
    fn the_header_wins_over_the_body() {
        let body = r#"{"message":"slow","retry_after":"15 minutes"}"#;
        assert_eq!(refusal(429, &[], body).retry_after, Some(Duration::from_secs(900)));
        assert_eq!(refusal(429, &[("retry-after", "7")], body).retry_after, Some(Duration::from_secs(7)));
        assert_eq!(refusal(429, &[], r#"{"retry_after":1e9}"#).retry_after, Some(LONGEST_RETRY_AFTER));
    }

    #[test]
    fn a_secret_that_pepay_repeats_is_redacted() {
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
