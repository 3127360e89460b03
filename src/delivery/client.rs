//! The HTTP client of a target: builds a request, sends it, and judges the answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT, WWW_AUTHENTICATE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};

use super::Settings;
use super::body::{Body, Departure};
use super::connections::{Answer, Connections, Keep, NoAnswer, UnreadBody};
use super::connector::{BuildError, Connector};
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

/// The largest number of characters of a header's value that an error quotes.
const QUOTED: usize = 200;

/// The largest number of headers of a request beside the configured ones.
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

/// Sends requests to one target.
#[derive(Debug)]
pub struct TargetClient {
    connections: Connections,
    /// The path and the query of the target's URL.
    path: Uri,
    /// The headers that every request has.
    common: HeaderMap,
    settings: Settings,
    clock: Clock,
}

/// The result of a request.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) verdict: Verdict,
    pub(super) health: Health,
    pub(super) status: Option<StatusCode>,
    /// The wait that the target asks for: `Retry-After` of a 429 or 503.
    pub(super) retry_after: Option<Duration>,
    /// The error, without URL or header; `None` on success.
    pub(super) error: Option<String>,
    /// The first bytes of a failed answer.
    pub(super) answer: Vec<u8>,
    /// The unread rest of an acknowledgement.
    pub(super) rest: Option<Rest>,
    pub(super) duration: Duration,
}

/// The result of a message that is no event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageOutcome {
    /// Whether it was answered with 2xx.
    pub acknowledged: bool,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// The wait that the receiver asks for: `Retry-After` of a 429 or 503.
    pub retry_after: Option<Duration>,
    /// The error, without URL or header; `None` on success.
    pub error: Option<String>,
    /// The time from the beginning of the connection to the head of the answer.
    pub duration: Duration,
}

/// The unread rest of an answer. An acknowledgement is recorded before its rest
/// is read: a target that is slow with it must not widen the window in which a
/// crash makes its 2xx unknown.
#[derive(Debug)]
pub(super) struct Rest(UnreadBody);

impl Rest {
    /// Reads the rest within bounds, so that the connection can be used again.
    pub(super) async fn read(self) {
        self.0.read(None).await;
    }
}

impl TargetClient {
    /// Creates a client for the target of `settings`.
    ///
    /// # Errors
    /// [`BuildError`] if its URL or a certificate cannot be used.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, BuildError> {
        let connector = Connector::new(&settings)?;
        let address = connector.address();
        let path = address.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        let host = address.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
        // A clone has the same capacity, so the headers of a request do not make it grow.
        let mut common = HeaderMap::with_capacity(HEADERS + settings.headers.len());
        if let Some(Ok(host)) = host {
            common.insert(HOST, host);
        }
        common.insert(ACCEPT, HeaderValue::from_static("*/*"));
        let user_agent = concat!("pepay-bridge/", env!("CARGO_PKG_VERSION"));
        common.insert(USER_AGENT, HeaderValue::from_static(user_agent));
        common.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        // Configured headers may replace those before.
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

    /// Returns the clock of the timestamps in requests.
    pub(super) const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Makes attempt `number` of `job` under `term`, as part of `trace` if there is one. Always ends, at the latest
    /// after the target's timeout and the time limit for the rest of an answer.
    pub(super) async fn send(
        &self,
        job: &Job,
        number: u32,
        term: i64,
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
            // It distinguishes a replay from a repetition, for a target that deduplicates by the id.
            headers.insert(REPLAY, HeaderValue::from(job.replays));
        }
        headers
    }

    /// Returns the headers of every event, test events included.
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

    /// Returns the headers of every body: its id, and its signatures.
    fn identified(&self, id: &str, body: &[u8]) -> HeaderMap {
        let now = self.clock.now().seconds();
        let mut headers = self.common.clone();
        // Ids are visible ASCII, and the other values are made here: all fit a header.
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

    /// Returns the report of `answer`. The status decides. The rest of the answer is read within bounds
    /// and cannot change the verdict.
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
        // The bytes that were read in time are kept.
        body.read(Some(&mut answer)).await;
        let error = Some(format!("answered {status}{}", explanation(status, &headers)));
        Report { error, answer, ..report }
    }

    /// Returns the report of an answer whose head could not be read beyond its status line.
    fn judge_status(&self, status: StatusCode, unread: &str, duration: Duration) -> Report {
        let (verdict, health) = classify(status, None, self.settings.dead_on.contains(&status));
        let acknowledged = verdict == Verdict::Acknowledged;
        let error = (!acknowledged).then(|| format!("answered {status}, and then {unread}"));
        Report { status: Some(status), error, ..Report::of(verdict, health, duration) }
    }
}

impl Report {
    /// Creates a report without further values.
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

/// Returns the header that explains a redirect or a 401. Leaves out query and fragment of an address,
/// which may contain a secret.
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

/// Returns what `status` means for the delivery and for the target.
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

/// Returns whether `status` says that the target takes nothing for now.
const fn asks_to_wait(status: StatusCode) -> bool {
    matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE)
}

/// Returns the report of a request without an answer. An event that was not sent was not taken;
/// otherwise the outcome is unknown.
fn unanswered(left: bool, error: String, duration: Duration) -> Report {
    let (verdict, health) =
        if left { (Verdict::Uncertain, Health::Silent) } else { (Verdict::Unreached, Health::Unreached) };
    Report { error: Some(error), ..Report::of(verdict, health, duration) }
}
