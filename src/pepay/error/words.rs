//! The words of a refusal's body: code, message and wait of a JSON body in any of Pepay's shapes, or
//! the first words of a page of another type.

use std::borrow::Cow;
use std::time::Duration;

use http::HeaderMap;
use http::header::CONTENT_TYPE;

use crate::domain::clock::UnixMillis;
use crate::domain::retry_after;
use crate::pepay::json;

/// The largest part of a page that is searched for words, in bytes.
const PAGE_BYTES: usize = 4096;
/// The largest number of characters of a page's words.
const PAGE_WORDS: usize = 120;

/// The words of a body.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::pepay) struct Words<'a> {
    /// The code, such as `RATE_LIMIT_EXCEEDED`.
    pub code: Option<Cow<'a, str>>,
    /// A message for an operator.
    pub message: Option<Cow<'a, str>>,
    /// The value of `retry_after`, as it was sent.
    retry_after: Option<Cow<'a, str>>,
}

impl<'a> Words<'a> {
    /// Reads the words of an error object; `ws_error` frames have the same form. Of a body that was cut
    /// short, reads those before the cut.
    pub(in crate::pepay) fn of(body: &'a [u8]) -> Self {
        let [mut error, mut message, mut error_code, mut code, mut retry_after] = [None; 5];
        for (name, value) in json::members(body).into_iter().flatten().map_while(Result::ok) {
            match name {
                b"error" => error = Some(value),
                b"message" => message = Some(value),
                b"error_code" => error_code = Some(value),
                b"code" => code = Some(value),
                b"retry_after" => retry_after = Some(value),
                _ => {}
            }
        }
        let inner = |name| error.and_then(|error| json::member(error, name));
        let first = |values: &[Option<&'a [u8]>]| values.iter().flatten().find_map(|value| plain(value));
        Self {
            code: first(&[inner("code"), inner("error_code"), error_code, code]),
            message: first(&[inner("message"), message, error]),
            retry_after: first(&[retry_after, inner("retry_after")]),
        }
    }

    /// Returns the wait that the body asks for: seconds, an HTTP date, or a text such as `15 minutes`.
    pub(in crate::pepay) fn wait(&self, now: UnixMillis) -> Option<Duration> {
        let value = self.retry_after.as_deref()?.trim();
        let seconds = || Duration::try_from_secs_f64(value.parse::<f64>().ok()?.ceil()).ok();
        let text = || humantime::parse_duration(&value.to_ascii_lowercase()).ok();
        retry_after::parse(value, now).or_else(seconds).or_else(text)
    }
}

/// Returns a text that is not empty, or a number.
fn plain(value: &[u8]) -> Option<Cow<'_, str>> {
    match value.first()? {
        b'"' => json::text(value).filter(|text| !text.trim().is_empty()),
        b'-' | b'0'..=b'9' => std::str::from_utf8(value).ok().map(Cow::Borrowed),
        _ => None,
    }
}

/// Returns the type of a body that is not JSON, and its first words: `text/html "Bad Gateway"`.
pub(in crate::pepay) fn of_page(headers: &HeaderMap, body: &[u8]) -> Option<String> {
    let stated = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    let body = body.trim_ascii_start();
    // Some servers name no type, or a wrong one, for JSON.
    if body.first().is_none_or(|byte| b"{[\"".contains(byte)) {
        return None;
    }
    let is_markup = body.starts_with(b"<");
    let kind = match stated {
        Some(kind) if !kind.is_empty() && !kind.contains("json") => kind,
        _ if is_markup => "text/html".to_owned(),
        _ => "no JSON".to_owned(),
    };
    let text = String::from_utf8_lossy(body.get(..PAGE_BYTES).unwrap_or(body));
    let words = if is_markup { visible(&text) } else { squeezed(&text) };
    Some(if words.is_empty() { kind } else { format!("{kind} \"{words}\"") })
}

/// Returns the text between the tags.
fn visible(page: &str) -> String {
    let mut text = String::new();
    let mut rest = page;
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        text.push(' ');
        let tag = after.trim_start_matches('/').to_ascii_lowercase();
        // The content of these elements is not text: skip to their end.
        let end =
            ["style", "script"].into_iter().find(|name| tag.starts_with(name) && !after.starts_with('/'));
        let after = match end {
            Some(name) => match tag.find(&format!("</{name}")) {
                Some(at) => after.get(at..).unwrap_or_default(),
                None => "",
            },
            None => after,
        };
        rest = after.split_once('>').map_or("", |(_, rest)| rest);
    }
    text.push_str(rest);
    squeezed(&text)
}

fn squeezed(text: &str) -> String {
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(PAGE_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMillis = UnixMillis(784_111_777_000);

    #[test]
    fn a_wait_is_read_as_number_date_and_text() {
        for (value, seconds) in [
            ("7", Some(7)),
            ("0.2", Some(1)),
            ("\"7\"", Some(7)),
            ("\"15 minutes\"", Some(900)),
            ("\"1 Hour\"", Some(3600)),
            ("\"30s\"", Some(30)),
            ("\"Sun, 06 Nov 1994 08:50:07 GMT\"", Some(30)),
            ("\"soon\"", None),
            ("-1", None),
            ("1e400", None),
            ("null", None),
            ("{}", None),
        ] {
            let body = format!(r#"{{"retry_after":{value}}}"#);
            let inner = format!(r#"{{"error":{body}}}"#);
            for body in [body, inner] {
                let wait = Words::of(body.as_bytes()).wait(NOW);
                assert_eq!(wait, seconds.map(Duration::from_secs), "{body}");
            }
        }
    }

    #[test]
    fn the_code_and_message_of_a_truncated_body_are_read() {
        let words = Words::of(br#"{"error":{"code":"E1","message":"no"},"x":[0,0,0"#);
        assert_eq!((words.code.as_deref(), words.message.as_deref()), (Some("E1"), Some("no")));
    }

    #[test]
    fn an_html_page_is_described_by_its_type_and_first_words() {
        let headers = |kind: &'static str| HeaderMap::from_iter([(CONTENT_TYPE, kind.parse().unwrap())]);
        let page = b"<!DOCTYPE html><html><head><title>502</title><style>b { x }</style></head>\n<body><h1>Bad  Gateway</h1>";
        let named = |kind, body: &[u8]| of_page(&headers(kind), body);
        assert_eq!(named("text/html; charset=utf-8", page).unwrap(), "text/html \"502 Bad Gateway\"");
        assert_eq!(of_page(&HeaderMap::new(), page).unwrap(), "text/html \"502 Bad Gateway\"");
        assert_eq!(
            named("text/plain", b"no healthy\nupstream").unwrap(),
            "text/plain \"no healthy upstream\""
        );
        assert_eq!(named("application/json", b"oops").unwrap(), "no JSON \"oops\"");
        assert_eq!(named("application/json", b"{}"), None);
        assert_eq!(of_page(&HeaderMap::new(), b""), None);
        assert_eq!(named("text/html", b"<script>if (a < b) {}").unwrap(), "text/html");
    }
}
