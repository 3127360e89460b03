//! One target's HTTP client: builds the request, sends it, and says what came of it.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::Settings;
use super::body::{Body, Departure};
use super::connections::{Answer, Connections, Keep, NoAnswer, UnreadBody};
use super::connector::Connector;
use super::evidence::Health;
use super::sign::SigningKey;
use super::status_line::Status;
use crate::domain::cause::innermost;
use crate::domain::clock::Clock;
use crate::domain::delivery::{OnUncertain, Verdict};
use crate::domain::event::Event;
use crate::domain::retry_after;
use crate::store::types::Job;
use crate::telemetry::traces;

/// Characters of a header's value that are repeated in an error.
const QUOTED: usize = 200;

/// Headers of a request beside those that are configured, at most.
const HEADERS: usize = 20;

const ID: HeaderName = HeaderName::from_static("webhook-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");
const EVENT: HeaderName = HeaderName::from_static("x-pepay-event");
const EVENT_ID: HeaderName = HeaderName::from_static("x-pepay-event-id");
const ENVIRONMENT: HeaderName = HeaderName::from_static("x-pepay-network-environment");
const SOURCE: HeaderName = HeaderName::from_static("pepay-bridge-source");
const ATTEMPT: HeaderName = HeaderName::from_static("pepay-bridge-attempt");
const SEQUENCE: HeaderName = HeaderName::from_static("pepay-bridge-sequence");
const REPLAY: HeaderName = HeaderName::from_static("pepay-bridge-replay");
const TEST: HeaderName = HeaderName::from_static("pepay-bridge-test");
const TERM: HeaderName = HeaderName::from_static("pepay-bridge-term");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Why a target's client could not be built.
#[derive(Debug, thiserror::Error)]
#[error("target {target}: {reason}")]
pub struct BuildError {
    /// The configured name of the target.
    target: String,
    /// Why.
    reason: String,
}

/// Sends to one target.
#[derive(Debug)]
pub struct TargetClient {
    connections: Connections,
    /// Path and query of the target's URL.
    path: Uri,
    /// The headers that every request has.
    common: HeaderMap,
    settings: Settings,
    clock: Clock,
}

/// What came of one request.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) verdict: Verdict,
    pub(super) health: Health,
    pub(super) status: Option<StatusCode>,
    /// How long the target wants to be left alone: `Retry-After` of a 429 or 503.
    pub(super) retry_after: Option<Duration>,
    /// What went wrong, without URL or header; `None` on success.
    pub(super) error: Option<String>,
    /// The first bytes of a failed answer.
    pub(super) answer: Vec<u8>,
    /// What is left to read of an acknowledgement.
    pub(super) rest: Option<Rest>,
    pub(super) duration: Duration,
}

/// What came of a message that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageOutcome {
    /// Whether it was answered with 2xx.
    pub acknowledged: bool,
    /// The HTTP status, where there was an answer.
    pub status: Option<u16>,
    /// How long the other side wants to be left alone: `Retry-After` of a 429 or 503.
    pub retry_after: Option<Duration>,
    /// What went wrong, without URL or header; `None` on success.
    pub error: Option<String>,
    /// From the beginning of the connection to the head of the answer.
    pub duration: Duration,
}

/// The unread rest of an answer. An acknowledgement is recorded before its rest
/// is read: a target that is slow with it must not widen the window in which a
/// crash makes its 2xx unknown.
#[derive(Debug)]
pub(super) struct Rest(UnreadBody);

impl Rest {
    /// Reads it within bounds, so that the connection can be used again.
    pub(super) async fn read(self) {
        self.0.read(None).await;
    }
}

impl TargetClient {
    /// A client for the target of `settings`.
    ///
    /// # Errors
    /// [`BuildError`] if its URL or a certificate cannot be used.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, BuildError> {
        let connector = connector(&settings)?;
        let address = connector.address();
        let path = address.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let host = address.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
        // A clone has room for as much: what is added to it does not make it grow.
        let mut common = HeaderMap::with_capacity(HEADERS + settings.headers.len());
        if let Some(Ok(host)) = host {
            common.insert(HOST, host);
        }
        common.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let user_agent = concat!("pepay-bridge/", env!("CARGO_PKG_VERSION"));
        common.insert(USER_AGENT, HeaderValue::from_static(user_agent));
        common.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // The configured ones may replace what HTTP leaves open.
        common.extend(settings.headers.clone());
        let idle = match settings.retry.on_uncertain {
            OnUncertain::Retry => settings.idle_timeout,
            // A request that meets the closing of a kept connection would be held.
            OnUncertain::Hold => Duration::ZERO,
        };
        let connections = Connections::new(connector, Keep { idle, most: settings.concurrency });
        Ok(Self { connections, path: path.into(), common, settings, clock })
    }

    /// The target's settings.
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The time that requests are stamped with.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes attempt `number` of `job`, as part of `trace` if it is traced. Always
    /// ends, at the latest after the target's timeout and the time given to the
    /// rest of an answer.
    pub(super) async fn send(
        &self,
        job: &Job,
        (number, term): (u32, i64),
        trace: Option<&traces::Attempt>,
    ) -> Report {
        let mut headers = self.job_headers(job, number);
        if term > 0 {
            headers.insert(TERM, HeaderValue::from(term));
        }
        if let Some(Ok(traceparent)) = trace.map(|trace| HeaderValue::from_str(&trace.traceparent())) {
            headers.insert(TRACEPARENT, traceparent);
        }
        self.post(job.event.event.body.clone(), headers).await
    }

    /// Posts a message that is no event, signed like one.
    pub async fn send_message(&self, id: &str, message: Bytes) -> MessageOutcome {
        let headers = self.identified(id, &message);
        let mut report = self.post(message, headers).await;
        if let Some(rest) = report.rest.take() {
            rest.read().await;
        }
        MessageOutcome {
            acknowledged: report.verdict == Verdict::Acknowledged,
            status: report.status.map(|status| status.as_u16()),
            retry_after: report.retry_after,
            error: report.error,
            duration: report.duration,
        }
    }

    /// Sends a made-up `event`, marked as such, and reads the rest of the answer
    /// within bounds.
    pub(super) async fn send_test(&self, event: &Event) -> Report {
        let mut headers = self.headers(event);
        headers.insert(ATTEMPT, HeaderValue::from(1));
        headers.insert(TEST, HeaderValue::from(1));
        let mut report = self.post(event.body.clone(), headers).await;
        if let Some(rest) = report.rest.take() {
            rest.read().await;
        }
        report
    }

    async fn post(&self, body: Bytes, headers: HeaderMap) -> Report {
        let (started, departure, mut status) = (Instant::now(), Departure::default(), Status::default());
        let mut request = Request::new(Body::new(body, departure.clone()));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.path.clone();
        *request.headers_mut() = headers;
        let sent = self.connections.send(request, &mut status);
        let outcome = tokio::time::timeout(self.settings.timeout, sent).await;
        let duration = started.elapsed();
        let left = departure.has_begun();
        let error = match outcome {
            Ok(Ok(answer)) => return self.judge(answer, duration).await,
            Ok(Err(NoAnswer::Unconnected(error))) => format!("cannot connect: {}", innermost(&error)),
            Ok(Err(NoAnswer::Broken(error))) if left => {
                format!("the connection broke: {}", innermost(&error))
            }
            Ok(Err(NoAnswer::Broken(error))) => format!("cannot connect: {}", innermost(&error)),
            Err(_) => {
                let limit = humantime::format_duration(self.settings.timeout);
                let what = if left { "no answer" } else { "no connection" };
                format!("{what} within {limit}")
            }
        };
        match status.seen().filter(|_| left) {
            Some(status) => self.judge_status(status, &error, duration),
            None => unanswered(left, error, duration),
        }
    }

    fn job_headers(&self, job: &Job, number: u32) -> HeaderMap {
        let mut headers = self.headers(&job.event.event);
        headers.insert(SOURCE, HeaderValue::from_static(job.event.source.as_str()));
        if let Some(environment) = job.event.environment {
            headers.insert(ENVIRONMENT, HeaderValue::from_static(environment.as_str()));
        }
        headers.insert(ATTEMPT, HeaderValue::from(number));
        headers.insert(SEQUENCE, HeaderValue::from(job.sequence));
        if job.replays > 0 {
            // What sets it apart from a repetition, for a target that goes by the id.
            headers.insert(REPLAY, HeaderValue::from(job.replays));
        }
        headers
    }

    /// What goes with every event, a made-up one included.
    fn headers(&self, event: &Event) -> HeaderMap {
        let mut headers = self.identified(event.id.as_str(), &event.body);
        if let Some(id) = headers.get(ID).cloned() {
            headers.insert(EVENT_ID, id);
        }
        // A type is visible ASCII.
        if let Ok(kind) = HeaderValue::from_str(event.kind.as_str()) {
            headers.insert(EVENT, kind);
        }
        headers
    }

    /// What goes with every body: its id, and its signatures.
    fn identified(&self, id: &str, body: &[u8]) -> HeaderMap {
        let now = self.clock.now().seconds();
        let mut headers = self.common.clone();
        // Ids are visible ASCII, the rest is made here: all fit a header.
        if let Ok(value) = HeaderValue::from_str(id) {
            headers.insert(IDEMPOTENCY_KEY, value.clone());
            headers.insert(ID, value);
        }
        if !self.settings.signing_keys.is_empty() {
            let sign = |key: &SigningKey| key.sign(id, now, body);
            let signatures: Vec<_> = self.settings.signing_keys.iter().map(sign).collect();
            if let Ok(signatures) = HeaderValue::try_from(signatures.join(" ")) {
                headers.insert(SIGNATURE, signatures);
            }
        }
        headers.insert(TIMESTAMP, HeaderValue::from(now));
        headers
    }

    /// The status decides. What follows of the answer is read within bounds and
    /// cannot change the verdict.
    async fn judge(&self, answer: Answer, duration: Duration) -> Report {
        let Answer { status, headers, body } = answer;
        let retry_after = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, self.clock.now()));
        let retry_after = retry_after.filter(|_| asks_to_wait(status));
        let (verdict, health) = classify(status, retry_after, self.settings.dead_on.contains(&status));
        let report = Report::of(verdict, health, duration);
        let report = Report { status: Some(status), retry_after, ..report };
        if verdict == Verdict::Acknowledged {
            return Report { rest: body.unless_at_end().map(Rest), ..report };
        }
        let mut answer = Vec::new();
        // What was read in time is kept.
        body.read(Some(&mut answer)).await;
        let error = Some(format!("answered {status}{}", explanation(status, &headers)));
        Report { error, answer, ..report }
    }

    /// The same where the head of the answer could not be read beyond its status line.
    fn judge_status(&self, status: StatusCode, unread: &str, duration: Duration) -> Report {
        let (verdict, health) = classify(status, None, self.settings.dead_on.contains(&status));
        let acknowledged = verdict == Verdict::Acknowledged;
        let error = (!acknowledged).then(|| format!("answered {status}, and then {unread}"));
        Report { status: Some(status), error, ..Report::of(verdict, health, duration) }
    }
}

impl Report {
    /// A report of which nothing else is known.
    const fn of(verdict: Verdict, health: Health, duration: Duration) -> Self {
        Self {
            verdict,
            health,
            status: None,
            retry_after: None,
            error: None,
            answer: Vec::new(),
            rest: None,
            duration,
        }
    }
}

/// What connects to the target of `settings`.
pub(super) fn connector(settings: &Settings) -> Result<Connector, BuildError> {
    let unusable = |error: super::connector::Unusable| BuildError {
        target: settings.name.to_string(),
        reason: error.to_string(),
    };
    Connector::new(settings).map_err(unusable)
}

/// The header that says what a redirect or a 401 asks for. Of an address neither
/// query nor fragment is shown: they may hold a secret.
fn explanation(status: StatusCode, headers: &HeaderMap) -> String {
    let (name, text): (_, fn(&str) -> &str) = if status.is_redirection() {
        (LOCATION, |value| value.split(['?', '#']).next().unwrap_or_default())
    } else if status == StatusCode::UNAUTHORIZED {
        (WWW_AUTHENTICATE, |value| value)
    } else {
        return String::new();
    };
    let Some(value) = headers.get(&name) else { return String::new() };
    let value = String::from_utf8_lossy(value.as_bytes());
    let told: String = text(&value).chars().take(QUOTED).filter(|char| !char.is_control()).collect();
    format!(", {name}: {told}")
}

/// What `status` means for the delivery, and for the target.
fn classify(status: StatusCode, retry_after: Option<Duration>, dead: bool) -> (Verdict, Health) {
    if status.is_success() {
        return (Verdict::Acknowledged, Health::Up);
    }
    let health = if asks_to_wait(status) {
        Health::Busy
    } else if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        Health::Failing
    } else {
        Health::Up
    };
    let verdict = if dead { Verdict::Rejected } else { Verdict::Refused { retry_after } };
    (verdict, health)
}

/// Whether `status` says that the target takes nothing for now.
const fn asks_to_wait(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// What a request without an answer means: an event that never left was
/// certainly not taken; of any other it is unknown.
fn unanswered(left: bool, error: String, duration: Duration) -> Report {
    let (verdict, health) =
        if left { (Verdict::Uncertain, Health::Silent) } else { (Verdict::Unreached, Health::Unreached) };
    Report { error: Some(error), ..Report::of(verdict, health, duration) }
}
