//! Delivers events to targets. Each target has its own dispatcher, client, breaker and retry schedule,
//! so that a failing target affects no other.
//!
//! [`Target::run`] is the loop of one target. Read `dispatch.rs` first. The dispatcher takes deliveries
//! from [`store::outbox`](crate::store::outbox), makes each attempt in `attempt.rs`, and sends the
//! request in `client.rs`. An operator reaches it through its [`Control`].

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use url::Url;

use crate::domain::backoff::{Backoff, Jitter};
use crate::domain::delivery::{OnUncertain, Ordering, RetryPolicy};
use crate::domain::event::Environment;
use crate::domain::filter::TypeFilter;
use crate::domain::status::TargetStatus;
use crate::pepay::condition::Condition;
use crate::store::lease::Lease;
use crate::store::outbox::Outbox;

mod attempt;
mod body;
mod breaker;
mod client;
mod connections;
mod connector;
mod control;
mod dispatch;
mod evidence;
mod future_set;
mod order;
mod places;
mod rate_limiter;
mod refusals;
pub mod sign;
mod status_line;
pub mod tls;
pub use client::{MessageOutcome, TargetClient};
pub use connector::{BuildError, ConnectError, check_connection};
pub use control::{BY_OPERATOR, Control};

use attempt::Context;
use breaker::Breaker;
use control::Pause;
use dispatch::Dispatcher;
use places::Places;
use rate_limiter::RateLimiter;
use tls::{ClientIdentity, Roots};

/// The settings of a target.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// The URL to which events are posted; http or https.
    pub url: Url,
    /// The event types that the target receives.
    pub types: TypeFilter,
    /// The network environment of the events it receives; `None` receives events of any environment and
    /// of none.
    pub environment: Option<Environment>,
    /// The further condition on an event, if there is one.
    pub condition: Option<Condition>,
    /// The keys; each signs every request by Standard Webhooks.
    pub signing_keys: Vec<sign::SigningKey>,
    /// Sent with every request; marked sensitive.
    pub headers: HeaderMap,
    /// The time limit from the begin of the connection to the head of the answer.
    pub timeout: Duration,
    /// The time limit for the connection.
    pub connect_timeout: Duration,
    /// How long an unused connection is kept, at most; zero keeps none. With
    /// [`OnUncertain::Hold`] none is kept.
    pub idle_timeout: Duration,
    /// Root certificates beside the system's own.
    pub roots: Option<Roots>,
    /// Certificate and key for mutual TLS.
    pub client_identity: Option<ClientIdentity>,
    /// Attempts on the wire at the same time.
    pub concurrency: usize,
    /// Which deliveries wait for one another.
    pub ordering: Ordering,
    /// The largest number of requests per second; `None` is no limit.
    pub rate_limit: Option<f64>,
    /// The policy of retries.
    pub retry: RetryPolicy,
    /// The statuses after which a delivery is dead.
    pub dead_on: BTreeSet<StatusCode>,
    /// The number of refusals in a row, each of which ended its delivery, after which the target is
    /// paused; `None` never pauses it.
    pub pause_when_rejecting: Option<NonZeroU64>,
}

impl Settings {
    /// Returns a digest of the URL, which can be compared without its secrets: SHA-256, in hex.
    pub fn address_digest(&self) -> String {
        hex::encode(Sha256::digest(self.url.as_str()))
    }

    /// Returns the settings for messages that are no events: with the defaults of a target.
    pub fn of_messages(name: &str, url: Url, signing_keys: Vec<sign::SigningKey>) -> Self {
        Self {
            name: name.into(),
            url,
            types: TypeFilter::any(),
            environment: None,
            condition: None,
            signing_keys,
            headers: HeaderMap::new(),
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(3),
            idle_timeout: Duration::from_secs(4),
            roots: None,
            client_identity: None,
            concurrency: 1,
            ordering: Ordering::None,
            rate_limit: None,
            retry: RetryPolicy {
                backoff: Backoff::between(Duration::from_secs(1), Duration::from_hours(1)),
                give_up_after: Duration::ZERO,
                on_uncertain: OnUncertain::Retry,
            },
            dead_on: BTreeSet::new(),
            pause_when_rejecting: None,
        }
    }
}

/// A target, ready for deliveries.
#[derive(Debug)]
pub struct Target {
    dispatcher: Dispatcher,
    lease: Lease,
}

impl Target {
    /// Prepares the target of `outbox`. `paused` is the reason if it begins paused. `saver` is notified
    /// when the target pauses itself or sends a `Retry-After`, both of which have to be saved then. The
    /// receiver always has its present status.
    pub fn new(
        client: TargetClient,
        outbox: Outbox,
        paused: Option<String>,
        saver: Arc<Notify>,
        jitter: Jitter,
    ) -> (Self, Control, watch::Receiver<TargetStatus>) {
        let Outbox { lease, arrivals, requests, log, clock } = outbox;
        let is_paused = paused.is_some();
        let delivery = client.settings();
        let (concurrency, backoff) = (delivery.concurrency, delivery.retry.backoff);
        let repeats = delivery.retry.on_uncertain == OnUncertain::Retry;
        let pace = delivery.rate_limit.map(RateLimiter::new);
        let (status, shown) = watch::channel(TargetStatus {
            paused: is_paused,
            paused_reason: paused,
            ..TargetStatus::new(Arc::clone(&delivery.name))
        });
        let (client, pause) = (Arc::new(client), Arc::new(Pause::new(is_paused, saver)));
        let control = Control::new(Arc::clone(&pause), status.clone(), Arc::clone(&client));
        let dispatcher = Dispatcher {
            concurrency,
            places: Places::new(concurrency),
            breaker: Breaker::new(backoff),
            pace,
            context: Arc::new(Context::new(client, log, clock, jitter)),
            arrivals,
            requests,
            pause,
            status,
            repeats,
            work: dispatch::Work::new(repeats),
        };
        (Self { dispatcher, lease }, control, shown)
    }

    /// Goes on with the status of a predecessor of the same name, as far as it still applies. The
    /// `Retry-After` of the predecessor counts if the target has the `same_address`.
    pub fn follow(&self, before: &TargetStatus, same_address: bool) {
        self.dispatcher.status.send_modify(|status| {
            status.retry_after_until = before.retry_after_until.filter(|_| same_address);
            status.last_error.clone_from(&before.last_error);
            status.last_delivered_at = before.last_delivered_at;
        });
    }

    /// Delivers while this process holds the lease of the target, until `stop`. Then finishes the
    /// requests on the wire and writes their outcomes, unless `abandon` ends that too.
    pub async fn run(self, stop: CancellationToken, abandon: CancellationToken) {
        let Self { mut dispatcher, lease } = self;
        while !abandon.is_cancelled() {
            let tenure = tokio::select! {
                biased;
                tenure = stop.run_until_cancelled(lease.held()) => tenure,
                // Meanwhile requests of operators are for the process that holds the lease.
                never = dispatcher.requests.refuse() => match never {},
            };
            let Some(tenure) = tenure else { return };
            dispatcher.run(&Arc::new(tenure), &stop, &abandon).await;
        }
    }
}
