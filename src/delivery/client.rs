//! One target's HTTP client: builds the request, sends it, and says what came of it.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Request, Response};

use super::Settings;
use super::body::{Body, Departure};
use super::breaker::Health;
use super::tls::UnusableFile;
use crate::domain::cause::innermost;
use crate::domain::clock::Clock;
use crate::domain::delivery::Verdict;
use crate::domain::event::Event;
use crate::domain::retry_after;
use crate::store::outbox::Job;
use crate::telemetry::traces;

/// Bytes of an answer that are read so that the connection can be used again.
/// A longer answer costs the connection.
const DRAINED: usize = 64 << 10;

/// Bytes of a failed answer that are kept for the operator.
const KEPT: usize = 1 << 10;

/// How long the body of an answer may take once its status is known. The status
/// decides; the rest is courtesy.
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long an unused connection is kept. Many servers close theirs after five
/// seconds, and a request that meets the closing has an unknown outcome.
const IDLE: Duration = Duration::from_secs(4);

/// Headers of a request beside those that are configured, at most.
const HEADERS: usize = 16;

/// Why a target's client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// A certificate or key file cannot be used.
    #[error("target {target}: {error}")]
    File {
        /// The configured name of the target.
        target: String,
        /// Which file, and why.
        error: UnusableFile,
    },
    /// The HTTP client refuses the settings.
    #[error("target {target}: {reason}")]
    Client {
        /// The configured name of the target.
        target: String,
        /// Why.
        reason: String,
    },
}

/// Sends to one target.
#[derive(Debug)]
pub struct TargetClient {
    client: Client,
    settings: Settings,
    clock: Clock,
}

/// What came of one request.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) verdict: Verdict,
    pub(super) health: Health,
    pub(super) status: Option<StatusCode>,
    /// What went wrong, without URL or header; `None` on success.
    pub(super) error: Option<String>,
    /// The first bytes of a failed answer.
    pub(super) answer: Vec<u8>,
    /// What is left to read of an acknowledgement.
    pub(super) rest: Option<Rest>,
    pub(super) duration: Duration,
}

/// The unread rest of an answer. An acknowledgement is recorded before its rest
/// is read: a target that is slow with it must not widen the window in which a
/// crash makes its 2xx unknown.
#[derive(Debug)]
pub(super) struct Rest(Response);

impl Rest {
    /// Reads it within bounds, so that the connection can be used again.
    pub(super) async fn read(mut self) {
        // Without its end in time the connection is closed.
        let _ = tokio::time::timeout(DRAIN_TIME, drain(&mut self.0, None)).await;
    }
}

impl TargetClient {
    /// A client for the target of `settings`.
    ///
    /// # Errors
    /// [`BuildError`] if a certificate cannot be used.
    pub fn new(settings: Settings, clock: Clock) -> Result<Self, BuildError> {
        let client = builder(&settings)?.build().map_err(|error| BuildError::Client {
            target: settings.name.to_string(),
            reason: error.to_string(),
        })?;
        Ok(Self { client, settings, clock })
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
    pub(super) async fn send(&self, job: &Job, number: u32, trace: Option<&traces::Attempt>) -> Report {
        let mut headers = self.job_headers(job, number);
        if let Some(Ok(traceparent)) = trace.map(|trace| HeaderValue::from_str(&trace.traceparent())) {
            headers.insert(HeaderName::from_static("traceparent"), traceparent);
        }
        self.post(job.event.event.body.clone(), headers).await
    }

    /// Sends a made-up `event`, marked as such, and reads the rest of the answer
    /// within bounds.
    pub(super) async fn send_test(&self, event: &Event) -> Report {
        let mut headers = self.headers(event);
        headers.insert(HeaderName::from_static("pepay-bridge-attempt"), HeaderValue::from(1));
        headers.insert(HeaderName::from_static("pepay-bridge-test"), HeaderValue::from(1));
        let mut report = self.post(event.body.clone(), headers).await;
        if let Some(rest) = report.rest.take() {
            rest.read().await;
        }
        report
    }

    async fn post(&self, body: Bytes, headers: HeaderMap) -> Report {
        let (started, departure) = (Instant::now(), Departure::default());
        let mut request = Request::new(Method::POST, self.settings.url.clone());
        *request.headers_mut() = headers;
        *request.body_mut() = Some(reqwest::Body::wrap(Body::new(body, departure.clone())));
        let outcome = tokio::time::timeout(self.settings.timeout, self.client.execute(request)).await;
        let duration = started.elapsed();
        let left = departure.has_begun();
        match outcome {
            Ok(Ok(response)) => self.judge(response, duration).await,
            Ok(Err(error)) => unanswered(left, cause(&error, left), duration),
            Err(_) => {
                let limit = humantime::format_duration(self.settings.timeout);
                let what = if left { "no answer" } else { "no connection" };
                unanswered(left, format!("{what} within {limit}"), duration)
            }
        }
    }

    fn job_headers(&self, job: &Job, number: u32) -> HeaderMap {
        let mut headers = self.headers(&job.event.event);
        let source = HeaderValue::from_static(job.event.source.as_str());
        headers.insert(HeaderName::from_static("pepay-bridge-source"), source);
        if let Some(environment) = job.event.environment {
            let environment = HeaderValue::from_static(environment.as_str());
            headers.insert(HeaderName::from_static("x-pepay-network-environment"), environment);
        }
        headers.insert(HeaderName::from_static("pepay-bridge-attempt"), HeaderValue::from(number));
        headers.insert(HeaderName::from_static("pepay-bridge-sequence"), HeaderValue::from(job.sequence));
        if job.replays > 0 {
            // What tells it from a repetition, to a target that goes by the id.
            headers.insert(HeaderName::from_static("pepay-bridge-replay"), HeaderValue::from(job.replays));
        }
        headers
    }

    /// What goes with every event, a made-up one included.
    fn headers(&self, event: &Event) -> HeaderMap {
        let now = self.clock.now().seconds();
        let mut headers = HeaderMap::with_capacity(HEADERS + self.settings.headers.len());
        headers.extend(self.settings.headers.clone());
        let mut text = |name: &'static str, value: &str| {
            // Event ids and types are visible ASCII, the rest is made here: all fit a header.
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        text("webhook-id", event.id.as_str());
        text("idempotency-key", event.id.as_str());
        text("x-pepay-event", event.kind.as_str());
        text("x-pepay-event-id", event.id.as_str());
        if let Some(key) = &self.settings.signing_key {
            text("webhook-signature", &key.sign(event.id.as_str(), now, &event.body));
        }
        headers.insert(HeaderName::from_static("webhook-timestamp"), HeaderValue::from(now));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers
    }

    /// The status decides. What follows of the answer is read within bounds and
    /// cannot change the verdict.
    async fn judge(&self, mut response: Response, duration: Duration) -> Report {
        let status = response.status();
        let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|value| retry_after::parse(value, self.clock.now()));
        let (verdict, health) = classify(status, retry_after, self.settings.dead_on.contains(&status));
        if verdict == Verdict::Acknowledged {
            let rest = (response.content_length() != Some(0)).then_some(Rest(response));
            let (error, answer) = (None, Vec::new());
            return Report { verdict, health, status: Some(status), error, answer, rest, duration };
        }
        let mut answer = Vec::new();
        // What was read in time is kept.
        let _ = tokio::time::timeout(DRAIN_TIME, drain(&mut response, Some(&mut answer))).await;
        let error = Some(format!("answered {status}"));
        Report { verdict, health, status: Some(status), error, answer, rest: None, duration }
    }
}

/// The client of a target, as its settings say.
pub(super) fn builder(settings: &Settings) -> Result<ClientBuilder, BuildError> {
    let mut builder = Client::builder()
        .user_agent(concat!("pepay-bridge/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .http1_only()
        .tcp_nodelay(true)
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(settings.concurrency);
    let unusable = |error| BuildError::File { target: settings.name.to_string(), error };
    if let Some(roots) = &settings.roots {
        builder = builder.tls_certs_merge(roots.certificates().map_err(unusable)?);
    } else if settings.url.scheme() == "http" {
        // It is never asked for TLS: the system's roots would take time and memory to load.
        builder = builder.tls_certs_only([]);
    }
    if let Some(identity) = &settings.client_identity {
        builder = builder.identity(identity.identity().map_err(unusable)?);
    }
    Ok(builder)
}

/// What `status` means for the delivery, and for the target.
fn classify(status: StatusCode, retry_after: Option<Duration>, dead: bool) -> (Verdict, Health) {
    if status.is_success() {
        return (Verdict::Acknowledged, Health::Up);
    }
    let asks_to_wait = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
    let health = if asks_to_wait {
        Health::Busy
    } else if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT {
        Health::Failing
    } else {
        Health::Up
    };
    let verdict = if dead {
        Verdict::Rejected
    } else {
        Verdict::Refused { retry_after: retry_after.filter(|_| asks_to_wait) }
    };
    (verdict, health)
}

/// What a request without an answer means: an event that never left was
/// certainly not taken, of any other nobody knows.
const fn unanswered(left: bool, error: String, duration: Duration) -> Report {
    let (verdict, health) =
        if left { (Verdict::Uncertain, Health::Silent) } else { (Verdict::Unreached, Health::Unreached) };
    let answer = Vec::new();
    Report { verdict, health, status: None, error: Some(error), answer, rest: None, duration }
}

/// Why there was no answer, without the error of the client itself, which repeats the URL.
pub(super) fn cause(error: &reqwest::Error, left: bool) -> String {
    let what = if left { "the connection broke" } else { "cannot connect" };
    error.source().map_or_else(|| what.to_owned(), |cause| format!("{what}: {}", innermost(cause)))
}

/// Reads the answer to its end or to [`DRAINED`]; its first bytes go to `kept`.
async fn drain(response: &mut Response, mut kept: Option<&mut Vec<u8>>) {
    let mut read = 0;
    // An error ends the answer like its end does; the connection is closed then.
    while let Ok(Some(chunk)) = response.chunk().await {
        if let Some(kept) = &mut kept {
            kept.extend(chunk.iter().take(KEPT - kept.len()));
        }
        read += chunk.len();
        if read >= DRAINED {
            break;
        }
    }
}
