//! Signed webhooks, taken on axum endpoints.
//!
//! One request takes one road: `body` reads a bounded body, `verified` turns it
//! into an event that is proven to be Pepay's, the store commits it, and
//! `answer` says so. Whatever is refused on the way is counted, shown and logged
//! in one place, `Endpoint::refuse`.

mod answer;
mod body;
mod rejections;
mod room;
#[cfg(test)]
mod tests;
mod verified;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{self, MethodRouter};
use tokio::sync::watch;

use self::answer::{Code, Refusal};
use self::rejections::Rejections;
use self::room::Room;
use self::verified::Verified;
use crate::domain::clock::Clock;
use crate::domain::event::Environment;
use crate::domain::status::{Rejection, SeenEvent, WebhookStatus};
use crate::pepay::signature::SigningKey;
use crate::store::error::RecordError;
use crate::store::inbox::Inbox;
use crate::store::types::Recorded;

/// How long a delivery waits for its commit.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// One configured endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where it listens, such as `/webhooks/pepay`.
    pub path: Arc<str>,
    /// The secrets a signature may be made with, the current one first.
    pub keys: Vec<SigningKey>,
    /// Refuse deliveries that name another environment.
    pub environment: Option<Environment>,
    /// How far the timestamp may lie from now, either way.
    pub tolerance: Duration,
    /// The largest accepted body, in bytes.
    pub max_body: usize,
}

impl Settings {
    /// The most that [`max_body`](Self::max_body) may be.
    pub const LARGEST_BODY: usize = 16 << 20;
}

/// The endpoints that are open.
///
/// Metrics go to the recorder that is installed when an endpoint is opened.
#[derive(Debug)]
pub struct Endpoints {
    inbox: Inbox,
    clock: Clock,
    room: Room,
    open: Vec<Arc<Endpoint>>,
}

impl Endpoints {
    /// None yet; what they accept will be recorded in `inbox`.
    pub fn new(inbox: Inbox, clock: Clock) -> Self {
        Self { inbox, clock, room: Room::new(), open: Vec::new() }
    }

    /// Opens these endpoints and closes all others. One that is open under its
    /// name already keeps its status. The paths have to be distinct and begin
    /// with a slash.
    pub fn open(&mut self, endpoints: Vec<Settings>) {
        let open = std::mem::take(&mut self.open);
        let endpoints = endpoints.into_iter().map(|settings| {
            let before = open.iter().find(|endpoint| endpoint.settings.name == settings.name);
            match before {
                Some(before) if before.settings == settings => Arc::clone(before),
                before => {
                    let status = before.map(|before| before.status.clone());
                    let (inbox, clock) = (self.inbox.clone(), self.clock.clone());
                    Arc::new(Endpoint::new(settings, status, inbox, clock, self.room.clone()))
                }
            }
        });
        self.open = endpoints.collect();
    }

    /// What each was opened with.
    pub fn settings(&self) -> impl Iterator<Item = &Settings> {
        self.open.iter().map(|endpoint| &endpoint.settings)
    }

    /// What each says about itself.
    pub fn statuses(&self) -> Vec<watch::Receiver<WebhookStatus>> {
        self.open.iter().map(|endpoint| endpoint.status.subscribe()).collect()
    }

    /// The routes of those that are open now.
    pub fn router(&self) -> Router {
        self.open.iter().fold(Router::new(), |router, endpoint| {
            router.route(&endpoint.settings.path, methods(Arc::clone(endpoint)))
        })
    }
}

/// What the requests of one endpoint share.
#[derive(Debug)]
struct Endpoint {
    settings: Settings,
    inbox: Inbox,
    clock: Clock,
    room: Room,
    status: watch::Sender<WebhookStatus>,
    rejections: Rejections,
    /// How long a delivery waits for its commit before it is answered 503. The
    /// event may still be stored after that; Pepay's repeat is a duplicate then.
    commit_limit: Duration,
}

fn methods(endpoint: Arc<Endpoint>) -> MethodRouter {
    routing::post(receive).fallback(answer::method_not_allowed).with_state(endpoint)
}

async fn receive(State(endpoint): State<Arc<Endpoint>>, verified: Result<Verified, Refusal>) -> Response {
    let outcome = match verified {
        Ok(verified) => endpoint.commit(verified).await,
        Err(refusal) => Err(refusal),
    };
    match outcome {
        Ok(recorded) => answer::accepted(recorded),
        Err(refusal) => {
            endpoint.refuse(&refusal);
            refusal.into_response()
        }
    }
}

impl Endpoint {
    /// An endpoint that goes on with `status`, if another had its name before.
    fn new(
        settings: Settings,
        status: Option<watch::Sender<WebhookStatus>>,
        inbox: Inbox,
        clock: Clock,
        room: Room,
    ) -> Self {
        let (name, path) = (Arc::clone(&settings.name), Arc::clone(&settings.path));
        let fresh = WebhookStatus { name, path, last_event: None, last_rejection: None };
        let status = status.unwrap_or_else(|| watch::Sender::new(fresh));
        status.send_modify(|status| status.path = Arc::clone(&settings.path));
        Self {
            settings,
            inbox,
            clock,
            room,
            status,
            rejections: Rejections::new(),
            commit_limit: COMMIT_LIMIT,
        }
    }

    /// Stores the event; only then may the delivery be answered with success.
    async fn commit(&self, verified: Verified) -> Result<Recorded, Refusal> {
        // Held to the end: the room is given back with the answer.
        let (received, _room) = verified.into_parts();
        let id = received.event.id.clone();
        let committed = tokio::time::timeout(self.commit_limit, self.inbox.try_record(received)).await;
        let (code, message) = match committed {
            Ok(Ok(recorded)) => {
                let at = self.clock.now();
                let seen = SeenEvent { id: id.to_string(), at };
                self.status.send_modify(|status| status.last_event = Some(seen));
                let duplicate = recorded != Recorded::New;
                tracing::debug!(webhook = %self.settings.name, event_id = %id, duplicate, "webhook accepted");
                return Ok(recorded);
            }
            Ok(Err(error @ RecordError::Overloaded)) => (Code::Overloaded, error.to_string()),
            // The store's own words stay in the log of the store: the sender needs none of them.
            Ok(Err(RecordError::Unavailable(_))) => {
                (Code::StoreUnavailable, "the event could not be stored".to_owned())
            }
            Err(_) => (Code::StoreUnavailable, "the event was not stored in time".to_owned()),
        };
        Err(Refusal::new(code, message).about(id))
    }

    /// Counts, shows and logs a refusal.
    fn refuse(&self, refusal: &Refusal) {
        let at = self.clock.now();
        let code = refusal.code.as_str();
        self.status.send_modify(|status| status.last_rejection = Some(Rejection { code, at }));
        if let Some(unlogged) = self.rejections.count(refusal.code, at) {
            let (webhook, event_id) =
                (&*self.settings.name, refusal.event_id.as_ref().map(tracing::field::display));
            tracing::warn!(webhook, code, event_id, unlogged, "webhook refused");
        }
    }
}
