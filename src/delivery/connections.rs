//! The connections to one target. Each has at most one request at a time, and unused connections are
//! kept for a while.
//!
//! A request that meets the closing of a kept connection has an unknown outcome. So no connection is
//! kept for longer than the target says it keeps it (`Keep-Alive: timeout`,
//! draft-thomson-hybi-http-timeout) or than the configured limit, and none at all if an unknown outcome
//! holds the delivery.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use std::{fmt, io};

use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::body::Body;
use super::connector::Connector;
use super::status_line::{Observed, Status};

/// The age at which a connection is replaced by a new one, also under load, so that a change of the
/// target's address in DNS is followed.
const MAX_AGE: Duration = Duration::from_secs(60);

/// How much earlier than the announced time a connection is closed.
const HEAD_START: Duration = Duration::from_secs(1);

/// The largest number of bytes of an answer that are read so that the connection can be used again. A
/// longer answer costs the connection.
const DRAINED: usize = 64 << 10;

/// The largest number of bytes of a failed answer that are kept for the operator.
const KEPT: usize = 1 << 10;

/// The time limit for the body of an answer once its status is known. The status alone decides.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// The limits of unused connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keep {
    /// How long an unused connection is kept; zero keeps none.
    pub(super) idle: Duration,
    /// The largest number of unused connections.
    pub(super) most: usize,
}

/// Sends requests to one target. Clones share the connections.
#[derive(Clone)]
pub(super) struct Connections(Arc<Inner>);

struct Inner {
    connector: Connector,
    http: Builder,
    keep: Keep,
    pool: Mutex<Pool>,
}

/// The unused connections, and the tasks of all connections, which end with the last handle.
#[derive(Default)]
struct Pool {
    /// The connection used last is the last one.
    unused: Vec<Unused>,
    /// One task drives each connection, used or not; one more closes outdated connections.
    tasks: JoinSet<()>,
    is_tidied: bool,
}

struct Unused {
    connection: Connection,
    until: Instant,
}

/// One connection.
struct Connection {
    requests: SendRequest<Body>,
    status: Status,
    opened: Instant,
}

/// Why a request got no answer.
#[derive(Debug)]
pub(super) enum NoAnswer {
    /// There was no connection.
    Unconnected(io::Error),
    /// The connection broke, or the answer is not HTTP.
    Broken(hyper::Error),
}

/// The head of an answer, and its unread body.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: UnreadBody,
}

/// The unread body of an answer.
pub(super) struct UnreadBody {
    body: Incoming,
    connection: Connection,
    /// How long the connection may be kept unused after this answer.
    idle: Duration,
    connections: Connections,
}

impl Connections {
    pub(super) fn new(connector: Connector, keep: Keep) -> Self {
        let mut http = Builder::new();
        // Malformed header lines of an answer are no reason to send an event again.
        http.ignore_invalid_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .allow_obsolete_multiline_headers_in_responses(true);
        Self(Arc::new(Inner { connector, http, keep, pool: Mutex::default() }))
    }

    /// Sends `request` and returns the head of the answer. `status` notes, even after an error or if
    /// this future is dropped, whether the status line had arrived.
    pub(super) async fn send(
        &self,
        mut request: Request<Body>,
        status: &mut Status,
    ) -> Result<Answer, NoAnswer> {
        if self.0.keep.idle.is_zero() {
            request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        while let Some(kept) = self.take() {
            match self.send_on(kept, request, status).await {
                Ok(answer) => return Ok(answer),
                // The target had closed the connection before any byte of the request was sent.
                Err((_, Some(unsent))) => request = *unsent,
                Err((error, None)) => return Err(NoAnswer::Broken(error)),
            }
        }
        let fresh = self.open().await?;
        self.send_on(fresh, request, status).await.map_err(|(error, _)| NoAnswer::Broken(error))
    }

    /// The error returns the request if no byte of it was sent.
    async fn send_on(
        &self,
        mut connection: Connection,
        request: Request<Body>,
        status: &mut Status,
    ) -> Result<Answer, (hyper::Error, Option<Box<Request<Body>>>)> {
        connection.status.expect_another();
        status.clone_from(&connection.status);
        let answered = connection.requests.try_send_request(request).await;
        let answer = answered.map_err(|mut failed| {
            let unsent = failed.take_message().map(Box::new);
            (failed.into_error(), unsent)
        })?;
        let (head, body) = answer.into_parts();
        let idle = announced(&head.headers).map_or(self.0.keep.idle, |idle| idle.min(self.0.keep.idle));
        let body = UnreadBody { body, connection, idle, connections: self.clone() };
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    async fn open(&self) -> Result<Connection, NoAnswer> {
        let stream = self.0.connector.open().await.map_err(NoAnswer::Unconnected)?;
        let status = Status::default();
        let transport = TokioIo::new(Observed::new(stream, status.clone()));
        let (requests, driver) = self.0.http.handshake(transport).await.map_err(NoAnswer::Broken)?;
        let mut pool = self.0.pool();
        while pool.tasks.try_join_next().is_some() {}
        pool.tasks.spawn(async move {
            // The request on the connection, if there is one, gets the error too.
            let _ = driver.await;
        });
        Ok(Connection { requests, status, opened: Instant::now() })
    }

    /// Returns the connection used last, if it may still be used.
    fn take(&self) -> Option<Connection> {
        let (mut pool, now) = (self.0.pool(), Instant::now());
        std::iter::from_fn(|| pool.unused.pop())
            .find(|unused| unused.is_usable(now))
            .map(|unused| unused.connection)
    }

    /// Keeps a connection whose last answer has been read to its end.
    fn keep(&self, connection: Connection, idle: Duration) {
        let now = Instant::now();
        let until = kept_until(connection.opened, now, idle);
        let unused = Unused { connection, until };
        let mut pool = self.0.pool();
        if !unused.is_usable(now) || pool.unused.len() >= self.0.keep.most {
            return;
        }
        pool.unused.push(unused);
        if !pool.is_tidied {
            pool.is_tidied = true;
            pool.tasks.spawn(tidy(Arc::downgrade(&self.0)));
        }
    }
}

impl Inner {
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Unused {
    fn is_usable(&self, now: Instant) -> bool {
        now < self.until && !self.connection.requests.is_closed()
    }
}

/// Returns until when a connection that was `opened` then may be used again, if it is unused from `now`
/// on.
fn kept_until(opened: Instant, now: Instant, idle: Duration) -> Instant {
    (now + idle).min(opened + MAX_AGE)
}

/// Closes outdated connections, until there is no unused one.
async fn tidy(connections: Weak<Inner>) {
    loop {
        let next = {
            let Some(inner) = connections.upgrade() else { return };
            let (mut pool, now) = (inner.pool(), Instant::now());
            pool.unused.retain(|unused| unused.is_usable(now));
            let next = pool.unused.iter().map(|unused| unused.until).min();
            pool.is_tidied = next.is_some();
            next
        };
        match next {
            Some(next) => tokio::time::sleep_until(next).await,
            None => return,
        }
    }
}

/// Returns how long the target says that it keeps an unused connection, less [`HEAD_START`].
fn announced(headers: &HeaderMap) -> Option<Duration> {
    let values = headers.get_all("keep-alive").iter().filter_map(|value| value.to_str().ok());
    let parameters = values.flat_map(|value| value.split(',')).filter_map(|one| one.split_once('='));
    let timeouts = parameters.filter(|(name, _)| name.trim().eq_ignore_ascii_case("timeout"));
    let seconds = timeouts.filter_map(|(_, value)| value.trim().trim_matches('"').parse().ok());
    seconds.min().map(|seconds| Duration::from_secs(seconds).saturating_sub(HEAD_START))
}

impl UnreadBody {
    /// Gives the connection back if the body is at its end; returns itself otherwise.
    pub(super) fn unless_at_end(self) -> Option<Self> {
        if self.body.is_end_stream() && self.connection.requests.is_ready() {
            self.connections.keep(self.connection, self.idle);
            return None;
        }
        Some(self)
    }

    /// Reads the body within bounds, so that the connection can be used again. Its first bytes go to
    /// `kept`, at most [`KEPT`] of them.
    pub(super) async fn read(mut self, kept: Option<&mut Vec<u8>>) {
        let read =
            async { drain(&mut self.body, kept).await && self.connection.requests.ready().await.is_ok() };
        if tokio::time::timeout(DRAIN_TIME, read).await.unwrap_or(false) {
            self.connections.keep(self.connection, self.idle);
        }
    }
}

/// Reads `body` to its end or to [`DRAINED`] bytes. Returns whether it has ended without an error.
async fn drain(body: &mut Incoming, mut kept: Option<&mut Vec<u8>>) -> bool {
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        // An error ends the answer too; the connection is closed then.
        let Ok(frame) = frame else { return false };
        let Some(data) = frame.data_ref() else { continue };
        if let Some(kept) = &mut kept {
            kept.extend(data.iter().take(KEPT - kept.len()));
        }
        read += data.len();
        if read >= DRAINED {
            return false;
        }
    }
    true
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("keep", &self.0.keep).finish_non_exhaustive()
    }
}

impl fmt::Debug for UnreadBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnreadBody").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_grows_no_older_than_a_minute_however_busy_it_is() {
        let (opened, idle) = (Instant::now(), Duration::from_secs(4));
        let at = |seconds| opened + Duration::from_secs(seconds);
        assert_eq!(kept_until(opened, at(10), idle), at(14));
        assert_eq!(kept_until(opened, at(58), idle), at(60));
        assert!(kept_until(opened, at(60), idle) <= at(60), "it is not usable any more");
    }

    #[test]
    fn a_target_says_how_long_it_keeps_a_connection() {
        let said = |values: &[&'static str]| {
            let mut all = HeaderMap::new();
            for value in values {
                all.append("keep-alive", HeaderValue::from_static(value));
            }
            announced(&all).map(|idle| idle.as_secs())
        };
        assert_eq!(said(&[]), None);
        assert_eq!(said(&["max=100", "nonsense", "timeout=soon", "timeout"]), None);
        assert_eq!(said(&["timeout=5"]), Some(4));
        assert_eq!(said(&["max=100, Timeout = \"3\""]), Some(2));
        assert_eq!(said(&["timeout=9", "timeout=2"]), Some(1));
        assert_eq!(said(&["timeout=1"]), Some(0));
        assert_eq!(said(&["timeout=0"]), Some(0));
    }
}
