//! Signed webhooks, received on axum endpoints.
//!
//! `body` reads a bounded body, `verified` turns it into an event that is proven to be Pepay's, the
//! store commits it, and `answer` is the response. `Endpoint::refuse` counts, shows and logs every
//! refusal.

mod answer;
mod body;
#[cfg(test)]
mod tests;
mod verified;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use http::HeaderValue;
use http::request::Parts;
use tokio::sync::watch;

use self::answer::{Code, Refusal, Rejections};
use self::body::BodyMemory;
use self::verified::Verified;
use crate::domain::clock::Clock;
use crate::domain::event::Environment;
use crate::domain::status::{Rejection, SeenEvent, WebhookStatus};
use crate::pepay::signature::SigningKey;
use crate::store::error::RecordError;
use crate::store::inbox::Inbox;
use crate::store::types::Recorded;

/// Names the client if a proxy is in between (de facto standard).
const FORWARDED_FOR: &str = "x-forwarded-for";

/// How long a delivery waits for its commit.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// One configured endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The path at which it listens, such as `/webhooks/pepay`.
    pub path: Arc<str>,
    /// The secrets a signature may be made with, the current one first.
    pub keys: Vec<SigningKey>,
    /// The environment of its deliveries; a delivery that names another one is refused.
    pub environment: Option<Environment>,
    /// How far the timestamp may lie from now, in either direction.
    pub tolerance: Duration,
    /// The largest accepted body, in bytes.
    pub max_body: usize,
}

impl Settings {
    /// The largest value of [`max_body`](Self::max_body).
    pub const LARGEST_BODY: usize = 16 << 20;
}

/// The open endpoints.
///
/// Metrics go to the recorder that is installed when an endpoint is opened.
#[derive(Debug)]
pub struct Endpoints {
    inbox: Inbox,
    clock: Clock,
    memory: BodyMemory,
    open: Vec<Arc<Endpoint>>,
}

impl Endpoints {
    /// Creates the value without endpoints. Accepted events are recorded in `inbox`.
    pub fn new(inbox: Inbox, clock: Clock) -> Self {
        Self { inbox, clock, memory: BodyMemory::new(), open: Vec::new() }
    }

    /// Opens these endpoints and closes all others. An endpoint that is already open under its name
    /// keeps its status. The paths have to be distinct and begin with a slash.
    pub fn open(&mut self, endpoints: Vec<Settings>) {
        let open = std::mem::take(&mut self.open);
        let endpoints = endpoints.into_iter().map(|settings| {
            let before = open.iter().find(|endpoint| endpoint.settings.name == settings.name);
            match before {
                Some(before) if before.settings == settings => Arc::clone(before),
                before => {
                    let status = before.map(|before| before.status.clone());
                    let (inbox, clock) = (self.inbox.clone(), self.clock.clone());
                    Arc::new(Endpoint::new(settings, status, inbox, clock, self.memory.clone()))
                }
            }
        });
        self.open = endpoints.collect();
    }

    /// Returns the settings of the endpoints.
    pub fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.open.iter().map(|endpoint| &endpoint.settings)
    }

    /// Returns the statuses of the endpoints.
    pub fn statuses(&self) -> Vec<watch::Receiver<WebhookStatus>> {
        self.open.iter().map(|endpoint| endpoint.status.subscribe()).collect()
    }

    /// Returns the routes of the endpoints that are open now. Each also has the path with one more
    /// slash at its end, unless that is the path of another.
    pub fn router(&self) -> Router {
        self.open.iter().fold(Router::new(), |router, endpoint| {
            let (path, methods) = (&*endpoint.settings.path, methods(Arc::clone(endpoint)));
            let slashed = format!("{path}/");
            let is_free = self.settings().all(|other| *other.path != *slashed);
            let router = router.route(path, methods.clone());
            if is_free { router.route(&slashed, methods) } else { router }
        })
    }
}

/// The values that the requests of one endpoint share.
#[derive(Debug)]
struct Endpoint {
    settings: Settings,
    inbox: Inbox,
    clock: Clock,
    memory: BodyMemory,
    status: watch::Sender<WebhookStatus>,
    rejections: Rejections,
    /// How long a delivery waits for its commit before it is answered 503. The
    /// event may still be stored after that; Pepay's repeat is a duplicate then.
    commit_limit: Duration,
}

fn methods(endpoint: Arc<Endpoint>) -> MethodRouter {
    routing::post(receive).fallback(answer::method_not_allowed).with_state(endpoint)
}

/// The sender, as far as the connection and the request show it.
struct Sender {
    peer: Option<SocketAddr>,
    forwarded_for: Option<HeaderValue>,
}

impl<S: Sync> FromRequestParts<S> for Sender {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0);
        Ok(Self { peer, forwarded_for: parts.headers.get(FORWARDED_FOR).cloned() })
    }
}

async fn receive(
    State(endpoint): State<Arc<Endpoint>>,
    sender: Sender,
    verified: Result<Verified, Refusal>,
) -> Response {
    let outcome = match verified {
        Ok(verified) => endpoint.commit(verified).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(recorded) => answer::accepted(recorded),
        Err(refusal) => {
            endpoint.refuse(&refusal, &sender);
            refusal.into_response()
        }
    }
}

impl Endpoint {
    /// Creates an endpoint. It goes on with `status`, if another had its name before.
    fn new(
        settings: Settings,
        status: Option<watch::Sender<WebhookStatus>>,
        inbox: Inbox,
        clock: Clock,
        memory: BodyMemory,
    ) -> Self {
        let (name, path) = (Arc::clone(&settings.name), Arc::clone(&settings.path));
        let fresh = WebhookStatus { name, path, last_event: None, last_rejection: None };
        let status = status.unwrap_or_else(|| watch::Sender::new(fresh));
        status.send_modify(|status| status.path = Arc::clone(&settings.path));
        Self {
            settings,
            inbox,
            clock,
            memory,
            status,
            rejections: Rejections::new(),
            commit_limit: COMMIT_LIMIT,
        }
    }

    /// Stores the event; only then may the delivery be answered with success.
    async fn commit(&self, verified: Verified) -> Result<Recorded, Refusal> {
        // The permit is kept to the end, so the memory is given back with the response.
        let (received, _memory) = verified.into_parts();
        let (id, created) = (received.event.id.clone(), received.event.created);
        let committed = tokio::time::timeout(self.commit_limit, self.inbox.try_record(received)).await;
        let (code, message) = match committed {
            Ok(Ok(recorded)) => {
                let at = self.clock.now();
                let seen = SeenEvent { id: id.to_string(), at };
                self.status.send_modify(|status| status.last_event = Some(seen));
                let duplicate = recorded != Recorded::New;
                let webhook = &*self.settings.name;
                // `created` is logged as it was read: Pepay's pages write it in several forms.
                tracing::debug!(webhook, event_id = %id, created, duplicate, "webhook accepted");
                return Ok(recorded);
            }
            Ok(Err(error @ RecordError::Overloaded)) => (Code::Overloaded, error.to_string()),
            // The store's own error is for the operator alone.
            Ok(Err(error @ (RecordError::Unavailable(_) | RecordError::Superseded))) => {
                let refusal = Refusal::new(Code::StoreUnavailable, "the event could not be stored");
                return Err(refusal.in_detail(error.to_string()).about(id));
            }
            Err(_) => (Code::StoreUnavailable, "the event was not stored in time".to_owned()),
        };
        Err(Refusal::new(code, message).about(id))
    }

    /// Counts, shows and logs a refusal.
    fn refuse(&self, refusal: &Refusal, sender: &Sender) {
        let rejection = Rejection {
            code: refusal.code.as_str(),
            at: self.clock.now(),
            message: refusal.reason().to_owned(),
            event_id: refusal.event_id.as_ref().map(ToString::to_string),
            bytes: refusal.bytes,
            clock_off_seconds: refusal.clock_off,
            peer: sender.peer.map(|peer| peer.to_string()),
            forwarded_for: sender.forwarded_for.as_ref().map(verified::shown),
        };
        if let Some(unlogged) = self.rejections.count(refusal.code, rejection.at) {
            self.log(&rejection, refusal.code == Code::ConnectionCut, unlogged);
        }
        self.status.send_modify(|status| status.last_rejection = Some(rejection));
    }

    fn log(&self, rejection: &Rejection, is_harmless: bool, unlogged: u64) {
        let Rejection { code, message, event_id, bytes, clock_off_seconds, peer, forwarded_for, .. } =
            rejection;
        // The level of a line has to be constant: one line for each level, with the same fields.
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    webhook = &*self.settings.name,
                    code,
                    reason = message,
                    event_id,
                    bytes,
                    clock_off_seconds,
                    peer,
                    forwarded_for,
                    unlogged,
                    "webhook refused"
                )
            };
        }
        // Pepay sends an interrupted webhook again.
        if is_harmless { tell!(info) } else { tell!(warn) }
    }
}

/// Private parsers, for the fuzz targets of `tests/fuzz`.
#[cfg(fuzzing)]
pub mod fuzzing {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::Settings;
    use crate::domain::clock::UnixMillis;
    use crate::domain::event::Received;

    /// See `verified::verify`.
    pub fn verify(
        headers: &HeaderMap,
        body: Bytes,
        settings: &Settings,
        now: UnixMillis,
    ) -> Option<Received> {
        super::verified::verify(headers, body, settings, now).ok()
    }
}
