//! Signed webhooks, taken on axum endpoints.
//!
//! One request takes one road: `body` reads a bounded body, `verified` turns it
//! into an event that is proven to be Pepay's, the store commits it, and
//! `answer` says so. Whatever is refused on the way is counted, shown and logged
//! in one place, `Endpoint::refuse`.

mod answer;
mod body;
mod rejections;
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
use self::verified::Verified;
use crate::domain::clock::Clock;
use crate::domain::event::Environment;
use crate::domain::status::{Rejection, SeenEvent, WebhookStatus};
use crate::pepay::signature::SigningKey;
use crate::store::inbox::{Inbox, RecordError, Recorded};

/// How long a delivery waits for its commit.
const COMMIT_LIMIT: Duration = Duration::from_secs(10);

/// One configured endpoint.
#[derive(Clone, Debug)]
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

/// The routes of `endpoints`, and what each of them says about itself.
///
/// Metrics go to the recorder that is installed when this is called. The paths
/// have to be distinct and begin with a slash.
pub fn router(
    endpoints: Vec<Settings>,
    inbox: Inbox,
    clock: Clock,
) -> (Router, Vec<watch::Receiver<WebhookStatus>>) {
    let endpoints = endpoints.into_iter().map(move |settings| {
        let path = Arc::clone(&settings.path);
        let (endpoint, status) = Endpoint::new(settings, inbox.clone(), clock.clone());
        (path, endpoint.into_methods(), status)
    });
    let (mut router, mut statuses) = (Router::new(), Vec::new());
    for (path, methods, status) in endpoints {
        router = router.route(&path, methods);
        statuses.push(status);
    }
    (router, statuses)
}

/// What the requests of one endpoint share.
struct Endpoint {
    settings: Settings,
    inbox: Inbox,
    clock: Clock,
    status: watch::Sender<WebhookStatus>,
    rejections: Rejections,
    /// How long a delivery waits for its commit before it is answered 503. The
    /// event may still be stored after that; Pepay's repeat is a duplicate then.
    commit_limit: Duration,
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
    fn new(settings: Settings, inbox: Inbox, clock: Clock) -> (Self, watch::Receiver<WebhookStatus>) {
        let (status, shown) = watch::channel(WebhookStatus {
            name: Arc::clone(&settings.name),
            path: Arc::clone(&settings.path),
            last_event: None,
            last_rejection: None,
        });
        let rejections = Rejections::new();
        (Self { settings, inbox, clock, status, rejections, commit_limit: COMMIT_LIMIT }, shown)
    }

    fn into_methods(self) -> MethodRouter {
        routing::post(receive).fallback(answer::method_not_allowed).with_state(Arc::new(self))
    }

    /// Stores the event; only then may the delivery be answered with success.
    async fn commit(&self, verified: Verified) -> Result<Recorded, Refusal> {
        let received = verified.into_received();
        let id = received.event.id.clone();
        let committed = tokio::time::timeout(self.commit_limit, self.inbox.try_record(received)).await;
        let (code, message) = match committed {
            Ok(Ok(recorded)) => {
                let at = self.clock.now();
                let seen = SeenEvent { id: id.to_string(), at };
                self.status.send_modify(|status| status.last_event = Some(seen));
                let duplicate = recorded == Recorded::Duplicate;
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
