//! Requests that no handler takes: a request with an unknown path, a wrong method or an invalid head. A
//! webhook that Pepay sends to a wrong address is such a request.

use std::fmt;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use ::metrics::Counter;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::log_limit::LogLimit;
use crate::telemetry::names;

/// The signature header of a webhook of Pepay. Other requests hardly ever have it.
const SIGNATURE: &str = "x-pepay-signature";
const FORWARDED_FOR: &str = "x-forwarded-for";

/// The number of characters of a path or a header that are shown.
const SHOWN: usize = 200;

/// The statuses of refusals, each with its own count and log lines.
const STATUSES: [StatusCode; 4] = [
    StatusCode::BAD_REQUEST,
    StatusCode::NOT_FOUND,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
];

/// The refusals of one listener. Clones share the same refusals.
#[derive(Clone)]
pub struct HttpRefusals(Arc<Inner>);

struct Inner {
    clock: Clock,
    tallies: [Tally; STATUSES.len()],
    last: Mutex<Option<RefusedWebhook>>,
    /// For each protocol, whether the log has named it.
    named: [AtomicBool; Protocol::ALL.len()],
}

struct Tally {
    counter: Counter,
    lines: LogLimit,
}

/// The data of a request that its refusal shows.
pub(super) struct Refused {
    peer: SocketAddr,
    forwarded_for: Option<HeaderValue>,
    /// Method and path.
    request: Asked,
    is_signed: bool,
}

enum Asked {
    Parsed(http::Method, http::Uri),
    /// The first line of an invalid head.
    Line(String),
}

/// A request with the signature of a webhook that no handler took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct RefusedWebhook {
    /// The HTTP status of the response.
    status: u16,
    /// The method and the path, as far as they were read.
    request: String,
    /// The time of the request.
    at: UnixMillis,
    /// The address and port of the client. Behind a proxy they are those of the proxy.
    peer: String,
    /// The request's `X-Forwarded-For`. Any sender can write this header.
    #[schema(required)]
    forwarded_for: Option<String>,
}

/// A protocol that the listener recognizes and does not speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Protocol {
    Http2,
    Proxy,
    Tls,
}

impl HttpRefusals {
    /// Creates an empty record. Metrics go to the recorder that is installed now.
    pub fn new(clock: Clock) -> Self {
        let tallies = STATUSES.map(|status| Tally {
            counter: ::metrics::counter!(names::HTTP_REFUSED, "code" => status.as_str().to_owned()),
            lines: LogLimit::default(),
        });
        Self(Arc::new(Inner { clock, tallies, last: Mutex::default(), named: Default::default() }))
    }

    /// Returns the last refused request that has the signature of a webhook.
    pub(super) fn last(&self) -> Option<RefusedWebhook> {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a refusal with `status`. A request with the signature of a webhook is also logged and
    /// shown.
    pub(super) fn note(&self, status: StatusCode, refused: Refused) {
        let tally = STATUSES.iter().zip(&self.0.tallies).find(|(own, _)| **own == status);
        let Some((_, tally)) = tally else { return };
        tally.counter.increment(1);
        if !refused.is_signed {
            return;
        }
        let webhook = RefusedWebhook {
            status: status.as_u16(),
            request: match refused.request {
                Asked::Parsed(method, uri) => shown(format!("{method} {}", uri.path()).as_bytes()),
                Asked::Line(line) => line,
            },
            at: self.0.clock.now(),
            peer: refused.peer.to_string(),
            forwarded_for: refused.forwarded_for.map(|value| shown(value.as_bytes())),
        };
        if let Some(unlogged) = tally.lines.note(webhook.at) {
            let RefusedWebhook { status, request, peer, forwarded_for, .. } = &webhook;
            tracing::warn!(
                status,
                request,
                peer,
                forwarded_for,
                unlogged,
                "a signed webhook reached no endpoint: is the address at Pepay, or a proxy, right?"
            );
        }
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(webhook);
    }

    /// Notes an invalid head. `read` is the part of it that was read, and `status` is that of the
    /// response.
    pub(super) fn note_head(&self, status: StatusCode, read: &[u8], peer: SocketAddr) {
        self.note(status, Refused::of_head(read, peer));
        if let Some(protocol) = Protocol::of(read) {
            self.name(protocol, peer);
        }
    }

    /// Notes that a client speaks HTTP/2.
    pub(super) fn note_http2(&self, peer: SocketAddr) {
        self.name(Protocol::Http2, peer);
    }

    /// Logs the name of the protocol, once in the life of the process.
    fn name(&self, protocol: Protocol, peer: SocketAddr) {
        if !self.0.named[protocol as usize].swap(true, Relaxed) {
            let (protocol, remedy) = protocol.in_words();
            tracing::warn!(%peer, protocol, "a client speaks another protocol than HTTP/1.1: {remedy}");
        }
    }
}

impl fmt::Debug for HttpRefusals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpRefusals").field("last", &self.last()).finish_non_exhaustive()
    }
}

impl Refused {
    /// Returns the data of `request` that a refusal shows.
    pub(super) fn of<B>(request: &Request<B>, peer: SocketAddr) -> Self {
        let headers: &HeaderMap = request.headers();
        Self {
            peer,
            forwarded_for: headers.get(FORWARDED_FOR).cloned(),
            request: Asked::Parsed(request.method().clone(), request.uri().clone()),
            is_signed: headers.contains_key(SIGNATURE),
        }
    }

    /// Returns the same data of an invalid head.
    fn of_head(head: &[u8], peer: SocketAddr) -> Self {
        let mut lines = head.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let first = lines.next().unwrap_or_default();
        let mut forwarded_for = None;
        let mut is_signed = false;
        for line in lines {
            let Some(colon) = line.iter().position(|byte| *byte == b':') else { continue };
            let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
            is_signed |= name.eq_ignore_ascii_case(SIGNATURE.as_bytes());
            if name.eq_ignore_ascii_case(FORWARDED_FOR.as_bytes()) {
                forwarded_for = HeaderValue::from_bytes(value).ok();
            }
        }
        // A query may contain a secret. The version is of no use to an operator.
        let line = first.split(|byte| *byte == b'?').next().unwrap_or_default();
        let line = line.strip_suffix(b" HTTP/1.1").unwrap_or(line);
        Self { peer, forwarded_for, request: Asked::Line(shown(line)), is_signed }
    }
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Http2, Self::Proxy, Self::Tls];

    /// Returns the protocol that begins with `read`, if it is one of these.
    fn of(read: &[u8]) -> Option<Self> {
        /// RFC 9113, section 3.4.
        const HTTP2: &[u8] = b"PRI * HTTP/2";
        /// The PROXY protocol, versions 1 and 2, without the empty lines at the beginning, which are
        /// skipped.
        const PROXY: [&[u8]; 2] = [b"PROXY ", b"\0\r\nQUIT\n"];
        /// RFC 8446, section 5.1: a record of the handshake.
        const TLS: &[u8] = b"\x16\x03";
        let start = read.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(0);
        let read = read.get(start..).unwrap_or_default();
        if read.starts_with(HTTP2) {
            Some(Self::Http2)
        } else if PROXY.iter().any(|start| read.starts_with(start)) {
            Some(Self::Proxy)
        } else {
            read.starts_with(TLS).then_some(Self::Tls)
        }
    }

    const fn in_words(self) -> (&'static str, &'static str) {
        match self {
            Self::Http2 => ("HTTP/2", "have the proxy in front use HTTP/1.1 towards the bridge"),
            Self::Proxy => {
                ("PROXY protocol", "switch it off in the proxy in front, which can send X-Forwarded-For")
            }
            Self::Tls => ("TLS", "terminate TLS in front, and have the proxy use plain HTTP/1.1"),
        }
    }
}

/// Returns the beginning of a text from a client, without control characters.
fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text).chars().filter(|char| !char.is_control()).take(SHOWN).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_protocols_are_recognised_by_their_first_bytes() {
        for (read, protocol) in [
            (&b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..], Some(Protocol::Http2)),
            (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nPOST / HTTP/1.1\r\n", Some(Protocol::Proxy)),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Some(Protocol::Proxy)),
            (b"\x16\x03\x01\x02\0", Some(Protocol::Tls)),
            (b"POST /PROXY HTTP/1.1\r\n", None),
            (b"\r\n", None),
            (b"", None),
        ] {
            assert_eq!(Protocol::of(read), protocol, "{read:?}");
        }
        for (index, protocol) in Protocol::ALL.into_iter().enumerate() {
            assert_eq!(protocol as usize, index);
        }
    }

    #[test]
    fn of_a_head_that_cannot_be_read_the_first_line_and_the_signature_are_found() {
        let peer = "127.0.0.1:1".parse().unwrap();
        let head = b"POST /hook?key=secret HTTP/1.1\r\nHost: x\r\nX-PEPAY-Signature: 00\r\nX-Forwarded-For: 10.0.0.9\r\n";
        let refused = Refused::of_head(head, peer);
        assert!(refused.is_signed);
        assert_eq!(refused.forwarded_for.unwrap(), "10.0.0.9");
        assert!(matches!(refused.request, Asked::Line(line) if line == "POST /hook"));
        let plain = Refused::of_head(b"GET / HTTP/1.1\r\nx-pepay-signature\r\n", peer);
        assert!(!plain.is_signed && plain.forwarded_for.is_none());
    }

    #[test]
    fn only_signed_requests_are_shown_and_the_last_one_is() {
        let refusals = HttpRefusals::new(Clock::from_fn(|| UnixMillis(1_734_780_000_000)));
        let peer = "127.0.0.1:1".parse().unwrap();
        let request = |path: &str, signed: bool| {
            let request = Request::post(path);
            let request = if signed { request.header(SIGNATURE, "00") } else { request };
            Refused::of(&request.body(()).unwrap(), peer)
        };
        refusals.note(StatusCode::NOT_FOUND, request("/wp-login.php", false));
        assert_eq!(refusals.last(), None);
        refusals.note(StatusCode::NOT_FOUND, request("/hook?key=secret", true));
        refusals.note(StatusCode::NOT_FOUND, request("/wp-login.php", false));
        let last = refusals.last().unwrap();
        assert_eq!((last.status, &*last.request, &*last.peer), (404, "POST /hook", "127.0.0.1:1"));
    }
}
