//! The stand-in for Pepay. It speaks the whole documented wire protocol on a socket, and injects faults
//! on request. Each point that the documentation leaves open is a switch with every possible value
//! ([`switches`]). `demo`, the `simulator` command, tests and benchmarks all use it.
//!
//! Events enter by [`Simulator::publish`] into one journal. The streams and the webhook sender each
//! follow the journal with a cursor of their own, and the REST list reads it. So the bytes are the same
//! by every channel, no event is queued twice, and the journal alone bounds the memory.
//!
//! A [`Simulator`] is a handle. [`Simulator::serve`] serves it on a listener. The state outlives that,
//! so a "restarted Pepay" is the same handle served again.

pub mod factory;
pub mod fault;
pub mod options;
pub mod statistics;
pub mod switches;
pub mod target;

mod auth;
mod control;
mod devnet;
mod injection;
mod journal;
mod refusal;
mod rest;
mod selection;
mod server;
mod stream;
mod token;
mod webhook;

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::FromRef;
use axum::{Router, middleware};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::backoff::Jitter;
use crate::domain::clock::Clock;
use crate::domain::event::{Event, EventId};
use auth::Rates;
use factory::Factory;
use fault::{Fault, FaultError, Faults};
use journal::{Entry, Journal};
pub use journal::{LedgerRow, PublishError};
use options::{ApiKey, Copies, Options, WebhookEndpoint};
use selection::{Facts, Links};
use statistics::Statistics;
use switches::Switches;

/// How long open streams may take to close once the simulator stops.
const STREAM_GRACE: Duration = Duration::from_secs(2);

/// A simulated Pepay. Cheap to clone; all clones are the same account.
#[derive(Clone, Debug)]
pub struct Simulator(Arc<Account>);

/// The state of the simulated Pepay.
#[derive(Debug)]
struct Account {
    options: Options,
    clock: Clock,
    jitter: Jitter,
    /// Replaced as a whole.
    switches: Mutex<Switches>,
    /// Replaced as a whole, as in a key rotation.
    keys: Mutex<Arc<[ApiKey]>>,
    /// Replaced as a whole, so that a receiver may move to another address.
    endpoints: Mutex<Arc<[WebhookEndpoint]>>,
    journal: Journal,
    /// The position up to which the webhook sender has read the journal.
    webhook_cursor: Mutex<u64>,
    tokens: Mutex<token::Tokens>,
    rates: Mutex<Rates>,
    links: Mutex<Links>,
    faults: Mutex<Faults>,
    orders: Mutex<devnet::Orders>,
    factory: Mutex<Factory>,
    statistics: watch::Sender<Statistics>,
    /// The number of answers so far, for `x-request-id`.
    answers: AtomicU64,
}

/// Why the simulator cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The HTTP client of the webhook sender cannot be built.
    #[error("the webhook sender's HTTP client cannot be built: {0}")]
    Client(#[from] reqwest::Error),
}

/// The state for a handler: the account, and the tasks of the server it runs in.
#[derive(Clone)]
struct Served {
    simulator: Simulator,
    stop: CancellationToken,
    /// Open streams: axum runs them in tasks of its own, so they are tracked here.
    streams: TaskTracker,
}

impl FromRef<Served> for Simulator {
    fn from_ref(served: &Served) -> Self {
        served.simulator.clone()
    }
}

impl Simulator {
    /// Creates an account without events. `clock` dates events, tokens and signatures; `jitter` spreads
    /// the webhook retries.
    pub fn new(options: Options, clock: Clock, jitter: Jitter) -> Self {
        let account = Account {
            switches: Mutex::new(options.switches),
            keys: Mutex::new(options.keys.clone().into()),
            endpoints: Mutex::new(options.webhooks.endpoints.clone().into()),
            journal: Journal::new(options.replay_retention.max(options.rest_retention)),
            webhook_cursor: Mutex::new(0),
            tokens: Mutex::default(),
            rates: Mutex::default(),
            links: Mutex::default(),
            faults: Mutex::default(),
            orders: Mutex::default(),
            factory: Mutex::new(Factory::new(options.seed).switched(options.switches)),
            statistics: watch::Sender::default(),
            answers: AtomicU64::new(0),
            options,
            clock,
            jitter,
        };
        Self(Arc::new(account))
    }

    /// Serves the protocol and the control surface on `listener` and sends webhooks, until `stop`.
    /// Every task it starts has ended when it returns, except a stream whose peer does not accept the
    /// close frame within two seconds.
    ///
    /// # Errors
    /// [`ServeError`], before any request is served.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> Result<(), ServeError> {
        let client = webhook::client(self.options().webhooks.timeout)?;
        let served = Served { simulator: self.clone(), stop: stop.clone(), streams: TaskTracker::new() };
        let streams = served.streams.clone();
        let router = Router::new()
            .merge(token::routes(&served))
            .merge(stream::routes(&served))
            .merge(rest::routes(&served))
            .merge(devnet::routes(&served))
            .merge(control::routes())
            .fallback(refusal::unknown_path)
            .layer(middleware::map_response_with_state(self.clone(), refusal::finish))
            .with_state(served);
        tokio::join!(server::serve(listener, router, &stop), webhook::run(self, &client, &stop));
        streams.close();
        if tokio::time::timeout(STREAM_GRACE, streams.wait()).await.is_err() {
            tracing::debug!(streams = streams.len(), "streams did not take the goodbye in time");
        }
        Ok(())
    }

    /// Publishes `event` by every channel, as often as [`Options::copies`] says.
    ///
    /// # Errors
    /// [`PublishError`] if the account has had an event of this id.
    pub fn publish(&self, event: Event) -> Result<(), PublishError> {
        self.publish_with(event, self.options().copies)
    }

    /// Publishes `event` by each channel as many times as `copies` says. The REST list always has it.
    ///
    /// # Errors
    /// [`PublishError`] if the account has had an event of this id.
    pub fn publish_with(&self, event: Event, copies: Copies) -> Result<(), PublishError> {
        let copies = lock(&self.0.faults).applied_to(copies);
        tracing::debug!(event_id = %event.id, kind = %event.kind, "published");
        let mut facts = Facts::of(&event);
        lock(&self.0.links).complete(&mut facts);
        let entry = Entry::new(event, facts, copies, self.0.clock.now());
        let position = self.0.journal.push(entry)?;
        self.count(|statistics| {
            statistics.published += 1;
            statistics.position = statistics.position.max(position);
        });
        Ok(())
    }

    /// Publishes the next `count` events of the built-in [`Factory`] and
    /// returns their ids, oldest first.
    pub fn play(&self, count: usize) -> Vec<EventId> {
        // The factory stays locked until the event is in the journal, so that
        // ids enter it in their order.
        let mut factory = lock(&self.0.factory);
        let mut ids = Vec::with_capacity(count);
        for _ in 0..count {
            let event = factory.next(self.0.clock.now());
            let id = event.id.clone();
            match self.publish(event) {
                Ok(()) => ids.push(id),
                Err(error) => tracing::warn!(event_id = %id, %error, "a made-up event was left out"),
            }
        }
        ids
    }

    /// Injects a fault; [`Fault`] says what it does, and when it begins.
    ///
    /// # Errors
    /// [`FaultError`] if too many faults of that kind wait already.
    pub fn inject(&self, fault: Fault) -> Result<(), FaultError> {
        if let Some(act) = lock(&self.0.faults).add(fault)? {
            let position = self.0.journal.push_act(act);
            self.count(|statistics| statistics.position = statistics.position.max(position));
        }
        Ok(())
    }

    /// Discards every fault that still waits for its request or event.
    pub fn clear_faults(&self) {
        *lock(&self.0.faults) = Faults::default();
    }

    /// Returns the switches.
    pub fn switches(&self) -> Switches {
        *lock(&self.0.switches)
    }

    /// Replaces the switches for later events and requests. Orders that have begun keep their shape.
    pub fn set_switches(&self, switches: Switches) {
        *lock(&self.0.switches) = switches;
        lock(&self.0.factory).switch(switches);
    }

    /// Replaces the API keys, as a rotation does. Open streams stay open.
    pub fn set_keys(&self, keys: Vec<ApiKey>) {
        *lock(&self.0.keys) = keys.into();
    }

    /// Replaces the webhook endpoints; retries under way go to the new ones.
    pub fn set_webhook_endpoints(&self, endpoints: Vec<WebhookEndpoint>) {
        *lock(&self.0.endpoints) = endpoints.into();
    }

    /// Returns the counts so far.
    pub fn statistics(&self) -> Statistics {
        self.0.statistics.borrow().clone()
    }

    /// Waits until `reached` holds. Waits for ever if it never does: the caller
    /// sets the limit.
    pub async fn until(&self, mut reached: impl FnMut(&Statistics) -> bool) -> Statistics {
        let mut changes = self.0.statistics.subscribe();
        match changes.wait_for(|statistics| reached(statistics)).await {
            Ok(statistics) => statistics.clone(),
            // The sender lives in `self`.
            Err(_) => self.statistics(),
        }
    }

    /// Waits until no webhook is due or under way: each was acknowledged, or given up.
    pub async fn webhooks_settled(&self) -> Statistics {
        self.until(Statistics::webhooks_settled).await
    }

    /// Returns what was sent of each event, oldest first: at most `limit` rows, of the events after
    /// `after`, or from the oldest kept one.
    pub fn ledger(&self, after: Option<&str>, limit: usize) -> Vec<LedgerRow> {
        self.0.journal.ledger(after, limit)
    }

    fn options(&self) -> &Options {
        &self.0.options
    }

    fn count(&self, change: impl FnOnce(&mut Statistics)) {
        self.0.statistics.send_modify(change);
    }
}

/// Returns the value behind `mutex`. No code of this module leaves a value half-changed, so a panic
/// elsewhere is no reason to stop.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
