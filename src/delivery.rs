//! Forwarding: per target, its own dispatcher, client, breaker and retry schedule,
//! so that one target's trouble stays its own.
//!
//! [`Target::run`] is the loop of one target. Read `dispatch.rs` first: what it
//! takes comes from [`store::outbox`](crate::store::outbox), what it does with one
//! delivery is in `attempt.rs`, and what goes over the wire in `client.rs`. An operator
//! reaches it through its [`Control`].

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
use crate::domain::clock::UnixMillis;
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
mod check_connection;
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
pub use check_connection::{ConnectError, check_connection};
pub use client::{BuildError, MessageOutcome, TargetClient};
pub use control::{BY_OPERATOR, Control};

use attempt::Context;
use breaker::Breaker;
use control::Pause;
use dispatch::Dispatcher;
use places::Places;
use rate_limiter::RateLimiter;
use tls::{ClientIdentity, Roots};

/// One configured target.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name in the configuration.
    pub name: Arc<str>,
    /// Where events are posted; http or https.
    pub url: Url,
    /// Which event types it receives.
    pub types: TypeFilter,
    /// Which network environment it receives events of; `None` is any, and none known.
    pub environment: Option<Environment>,
    /// What it asks of an event beside that.
    pub condition: Option<Condition>,
    /// Each signs what is sent, as Standard Webhooks.
    pub signing_keys: Vec<sign::SigningKey>,
    /// Sent with every request; marked sensitive.
    pub headers: HeaderMap,
    /// From the wish to connect to the head of the answer.
    pub timeout: Duration,
    /// For the connection alone.
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
    /// Whether deliveries wait for one another.
    pub ordering: Ordering,
    /// Requests per second; `None` is no limit.
    pub rate_limit: Option<f64>,
    /// What follows an attempt.
    pub retry: RetryPolicy,
    /// Answers that are not worth retrying.
    pub dead_on: BTreeSet<StatusCode>,
    /// After how many refusals in a row that each ended its delivery the target is paused;
    /// `None` is never.
    pub pause_when_rejecting: Option<NonZeroU64>,
}

impl Settings {
    /// What tells the address from another, without its secrets: SHA-256, in hex.
    pub fn address_digest(&self) -> String {
        hex::encode(Sha256::digest(self.url.as_str()))
    }

    /// How messages that are no events are sent to `url`: with the defaults of a target.
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

/// One target, ready to be delivered to.
#[derive(Debug)]
pub struct Target {
    dispatcher: Dispatcher,
    lease: Lease,
}

impl Target {
    /// Prepares a target, whose own `outbox` is; `paused` says why it begins paused, if it
    /// does. `saver` is told when it pauses itself or asks to be left alone, which is to be
    /// saved then. The
    /// receiver always holds its present status.
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
            context: Arc::new(Context::new(client, log, (clock, jitter))),
            arrivals,
            requests,
            pause,
            status,
            repeats,
            work: dispatch::Work::new(repeats),
        };
        (Self { dispatcher, lease }, control, shown)
    }

    /// Goes on with what a predecessor of the same name has shown, as far as it is still true.
    /// A target at the `same_address` wants to be left alone for as long as it has said.
    pub fn follow(&self, before: &TargetStatus, same_address: bool) {
        self.dispatcher.status.send_modify(|status| {
            status.retry_after_until = before.retry_after_until.filter(|_| same_address);
            status.last_error.clone_from(&before.last_error);
            status.last_delivered_at = before.last_delivered_at;
        });
    }

    /// Goes on with what its address has asked for before the process started: nothing is
    /// started before `until`.
    pub fn leave_alone(&self, until: UnixMillis) {
        self.dispatcher.status.send_modify(|status| status.retry_after_until = Some(until));
    }

    /// Delivers while this process has the lease of the target, until `stop`; then finishes
    /// what is on the wire and writes its outcomes. `abandon` ends that too.
    pub async fn run(self, stop: CancellationToken, abandon: CancellationToken) {
        let Self { mut dispatcher, lease } = self;
        while !abandon.is_cancelled() {
            let tenure = tokio::select! {
                biased;
                tenure = stop.run_until_cancelled(lease.held()) => tenure,
                // What is asked for meanwhile is for the process that has the target.
                never = dispatcher.requests.refuse() => match never {},
            };
            let Some(tenure) = tenure else { return };
            dispatcher.run(&Arc::new(tenure), &stop, &abandon).await;
        }
    }
}
