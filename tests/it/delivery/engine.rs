//! A delivery engine without the rest of the bridge: a real store and one dispatcher.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use pepay_bridge::delivery::{BY_OPERATOR, Control, Settings, Target, TargetClient};
use pepay_bridge::domain::backoff::{Backoff, Jitter};
use pepay_bridge::domain::clock::{Clock, UnixMillis};
use pepay_bridge::domain::delivery::{OnUncertain, Ordering, RetryPolicy};
use pepay_bridge::domain::event::{Received, Source};
use pepay_bridge::domain::filter::TypeFilter;
use pepay_bridge::domain::status::TargetStatus;
use pepay_bridge::pepay::envelope;
use pepay_bridge::store::outbox::Outbox;
use pepay_bridge::store::types::Batch;
use pepay_bridge::store::{self, Durability, OpenError, Route, Store};
use tempfile::TempDir;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::support::{eventually, soon};

const DAY: Duration = Duration::from_hours(24);

/// A store, and the dispatcher of one target.
pub struct Engine {
    pub store: Store,
    pub control: Control,
    pub status: watch::Receiver<TargetStatus>,
    writer: JoinHandle<()>,
    dispatcher: JoinSet<()>,
    stop: CancellationToken,
}

impl Engine {
    /// Starts it on the database in `folder`.
    pub async fn start(folder: &TempDir, settings: &Settings) -> Self {
        Self::start_as(folder, settings, false).await
    }

    /// Starts it on the database in `folder`. The target is paused if `paused` is set.
    pub async fn start_as(folder: &TempDir, settings: &Settings, paused: bool) -> Self {
        // An error says that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let clock = Clock::system();
        let route = route(settings);
        let file = store::Settings {
            place: store::Place::File(folder.path().join("model.db")),
            durability: Durability::Normal,
            retention: store::Retention { payloads: DAY, ids: DAY, dead: DAY, audit: DAY },
        };
        // Other tests of this process start programs. Between fork and exec a child holds the open
        // files of this process, and with them the lock of a store that is closed here.
        let (mut store, writer) = eventually("the release of the lock", async || {
            match Store::open(&file, vec![route.clone()], clock.clone()).await {
                Err(OpenError::InUse(_)) => None,
                opened => Some(opened.unwrap()),
            }
        })
        .await;
        let writer = std::thread::spawn(|| writer.run());
        let paused = paused.then(|| BY_OPERATOR.to_owned());
        let (target, control, status) = target(settings, store.outboxes.remove(0), paused);
        let (mut dispatcher, stop) = (JoinSet::new(), CancellationToken::new());
        dispatcher.spawn(target.run(stop.clone(), CancellationToken::new()));
        Self { store, control, status, writer, dispatcher, stop }
    }

    /// Replaces the dispatcher, as a reload of the configuration does. The new one starts once the
    /// old one has ended; this does not wait for that.
    pub async fn replace(&mut self, settings: &Settings) {
        let mut outboxes = self.store.reroute(Vec::new(), vec![route(settings)]).await.unwrap();
        let paused = self.status.borrow().paused_reason.clone();
        let (target, control, status) = target(settings, outboxes.remove(0), paused);
        (self.control, self.status) = (control, status);
        let stop = CancellationToken::new();
        std::mem::replace(&mut self.stop, stop.clone()).cancel();
        let before = std::mem::take(&mut self.dispatcher);
        self.dispatcher.spawn(async move {
            before.join_all().await;
            target.run(stop, CancellationToken::new()).await;
        });
    }

    /// Stores `events` in one batch.
    pub async fn record(&self, events: Vec<Received>) {
        self.store.inbox.record(Batch { events, cursor: None }).await.unwrap();
    }

    /// Waits until the status of the target is as `wanted`.
    pub async fn until(&self, what: &str, wanted: impl FnMut(&TargetStatus) -> bool) {
        soon(what, self.status.clone().wait_for(wanted)).await.unwrap();
    }

    /// Stops it as a bridge is stopped.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.dispatcher.join_all().await;
        self.store.close().await;
        self.writer.join().unwrap();
    }
}

fn route(settings: &Settings) -> Route {
    let (types, ordering) = (settings.types.clone(), settings.ordering);
    Route { target: Arc::clone(&settings.name), types, environment: None, condition: None, ordering }
}

fn target(
    settings: &Settings,
    outbox: Outbox,
    paused: Option<String>,
) -> (Target, Control, watch::Receiver<TargetStatus>) {
    let client = TargetClient::new(settings.clone(), Clock::system()).unwrap();
    let saver = Arc::new(Notify::new());
    Target::new(client, outbox, paused, saver, Jitter::from_fn(|| rand::Rng::random(&mut rand::rng())))
}

/// Returns the settings of a target at `url`, with short retries that do not end.
pub fn settings(url: &str, ordering: Ordering, concurrency: usize) -> Settings {
    Settings {
        name: "target".into(),
        url: url.parse().unwrap(),
        types: TypeFilter::new(vec!["*".parse().unwrap()]),
        signing_keys: Vec::new(),
        condition: None,
        headers: http::HeaderMap::new(),
        timeout: Duration::from_secs(10),
        connect_timeout: Duration::from_secs(3),
        idle_timeout: Duration::from_secs(4),
        roots: None,
        client_identity: None,
        concurrency,
        ordering,
        rate_limit: None,
        retry: RetryPolicy {
            backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(20)).unwrap(),
            give_up_after: Duration::from_hours(1),
            on_uncertain: OnUncertain::Retry,
        },
        dead_on: BTreeSet::new(),
        pause_when_rejecting: None,
        environment: None,
    }
}

/// Returns the `n`th event, about `object`. Events with a higher `n` were created later.
pub fn event(n: usize, object: usize) -> Received {
    let body = format!(
        r#"{{"id":"evt_{}-{n}","object":"event","type":"commerce.order.updated","created":1734780000,
           "data":{{"object":{{"object":"commerce_order","id":"{object}"}}}}}}"#,
        1_734_780_000_000 + n
    );
    Received {
        event: envelope::parse(body.into(), UnixMillis(0)).unwrap(),
        source: Source::Stream,
        origin: "commerce".into(),
        environment: None,
        received_at: Clock::system().now(),
    }
}
