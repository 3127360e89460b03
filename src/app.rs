//! The composition root: turns settings into handles, handles into tasks, and
//! runs them until it is told to stop. The only file that sees every room.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::Settings;
use crate::delivery::{self, Target};
use crate::domain::backoff::Jitter;
use crate::domain::clock::Clock;
use crate::lifecycle::{Ended, Signals, Stop, Tasks};
use crate::pepay::rest;
use crate::source::stream::Stream;
use crate::source::webhook;
use crate::store::{self, Route, Store};
use crate::telemetry::{Metrics, MetricsError};
use crate::web::{self, Limits, View};

/// How often recorded durations are moved into their buckets.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);

/// How long the store may take to write what it was handed and close.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Why the bridge did not start, or ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An address cannot be listened on.
    #[error("{key} = \"{address}\" cannot be listened on: {source}")]
    Listen {
        /// The configuration key.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// A target cannot be set up.
    #[error(transparent)]
    Target(#[from] delivery::BuildError),
    /// Pepay's client cannot be set up.
    #[error(transparent)]
    Pepay(#[from] rest::BuildError),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// The system refuses a thread or a signal handler.
    #[error("the system refuses what the bridge needs: {0}")]
    System(#[from] io::Error),
    /// A part has ended that must not.
    #[error("the bridge has stopped because a part of it failed: {0}")]
    Crashed(#[from] Ended),
    /// The store did not close in time; what it acknowledged is safe.
    #[error("the store could not be closed within {} s", CLOSE_LIMIT.as_secs())]
    Close,
}

/// Runs the bridge until a signal stops it.
///
/// # Errors
/// [`Error`] if it cannot start, or ends without being asked to.
pub async fn run(settings: Settings) -> Result<(), Error> {
    let (signals, stop) = (Signals::listen()?, Stop::default());
    let run = async { App::start(settings, Clock::system(), random(), stop.clone()).await?.run().await };
    tokio::select! {
        ended = run => ended,
        never = signals.obey(stop.clone()) => match never {},
    }
}

/// Jitter from the system's own randomness.
pub fn random() -> Jitter {
    Jitter::from_fn(|| rand::Rng::random(&mut rand::rng()))
}

/// A bridge that is up: its listeners are bound and its tasks run.
#[derive(Debug)]
pub struct App {
    /// Where webhooks are taken.
    pub public_address: SocketAddr,
    /// Where metrics and status are shown.
    pub admin_address: SocketAddr,
    store: Store,
    /// What brings events in and sends them on: told to stop first.
    work: Tasks,
    /// What that stands on: told to stop once the work is done.
    base: Tasks,
    base_stop: CancellationToken,
    stop: Stop,
    grace: Duration,
    /// The first task that ended and must not have.
    crashed: Option<Ended>,
}

impl App {
    /// Opens the store, binds both listeners and starts every task.
    ///
    /// # Errors
    /// [`Error`] says what could not be opened, bound or started.
    pub async fn start(settings: Settings, clock: Clock, jitter: Jitter, stop: Stop) -> Result<Self, Error> {
        // An error says that one is installed already, as in a second bridge of one process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let metrics = Metrics::install()?;
        let started = clock.now();
        let Settings { shutdown_grace, web: listeners, log: _, store, pepay, streams, webhooks, targets } =
            settings;

        let public = bind("server.listen", listeners.listen).await?;
        let admin = bind("server.admin_listen", listeners.admin_listen).await?;
        let (public_address, admin_address) = (public.local_addr()?, admin.local_addr()?);

        let routes = targets.iter().map(|target| Route {
            target: Arc::clone(&target.name),
            types: target.types.clone(),
            ordering: target.ordering,
        });
        let (mut store, writer) = Store::open(&store, routes.collect(), clock.clone()).await?;
        let (mut work, mut base, base_stop) = (Tasks::default(), Tasks::default(), CancellationToken::new());
        base.spawn_thread("store-writer", || writer.run())?;

        let names: Vec<_> = targets.iter().map(|target| Arc::clone(&target.name)).collect();
        // Everything that can fail comes before the first request goes out.
        let (mut dispatchers, mut shown_targets) = (Vec::new(), Vec::new());
        for (target, outbox) in targets.iter().zip(std::mem::take(&mut store.outboxes)) {
            let (task, _, shown) = Target::new(target, outbox, false, clock.clone(), jitter.clone())?;
            shown_targets.push(shown);
            dispatchers.push((format!("target {}", target.name), task));
        }

        let (endpoints, shown_webhooks) = webhook::router(webhooks, store.inbox.clone(), clock.clone());
        let (mut readers, mut shown_streams) = (Vec::new(), Vec::new());
        for stream in streams {
            let name = format!("stream {}", stream.name);
            let (task, _, shown) =
                Stream::new(stream, &pepay, store.inbox.clone(), clock.clone(), jitter.clone())?;
            shown_streams.push(shown);
            readers.push((name, task));
        }
        let both_sources = !shown_streams.is_empty() && !shown_webhooks.is_empty();
        for (name, target) in dispatchers {
            work.spawn(name, target.run(stop.soft.clone(), stop.hard.clone()));
        }
        for (name, stream) in readers {
            work.spawn(name, stream.run(stop.soft.clone()));
        }

        let view = View {
            archive: store.archive.clone(),
            streams: shown_streams,
            webhooks: shown_webhooks,
            targets: shown_targets,
            clock,
            started,
            stopping: stop.soft.clone(),
        };
        let render = {
            let metrics = metrics.clone();
            Arc::new(move || metrics.render())
        };
        let admin_pages = web::admin(view.clone(), render, listeners.admin_token.as_ref());
        let public_pages = web::public(view).merge(endpoints);
        let serving = web::serve(public, public_pages, Limits::PUBLIC, stop.soft.clone(), stop.hard.clone());
        work.spawn("public listener", serving);
        let serving = web::serve(admin, admin_pages, Limits::ADMIN, base_stop.clone(), base_stop.clone());
        base.spawn("admin listener", serving);
        base.spawn("metrics", keep_metrics(metrics, base_stop.clone()));
        base.spawn("retention", store.janitor().run(base_stop.clone()));
        if both_sources {
            base.spawn("comparison of sources", store.comparison().run(base_stop.clone()));
        }

        let app = Self {
            public_address,
            admin_address,
            store,
            work,
            base,
            base_stop,
            stop,
            grace: shutdown_grace,
            crashed: None,
        };
        app.announce(&names).await;
        Ok(app)
    }

    async fn announce(&self, targets: &[Arc<str>]) {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = %self.public_address,
            admin_listen = %self.admin_address,
            "pepay-bridge is up"
        );
        // Without an answer there is nothing to tell; readiness will say so.
        for backlog in self.store.archive.backlogs().await.unwrap_or_default() {
            let (target, open) = (&*backlog.target, backlog.open);
            if open > 0 && targets.contains(&backlog.target) {
                tracing::info!(target, open, "deliveries left to make");
            } else if open > 0 {
                tracing::warn!(target, open, "deliveries wait for a target that is not configured any more");
            }
        }
    }

    /// Runs until it is told to stop, then stops in order: intake and delivery
    /// first, within the grace period, then the store, then what shows it.
    ///
    /// # Errors
    /// [`Error::Crashed`] names the part that ended on its own.
    pub async fn run(mut self) -> Result<(), Error> {
        self.work_until_stopped().await;
        self.finish_work().await;
        let closed = tokio::time::timeout(CLOSE_LIMIT, self.store.close()).await;
        self.base_stop.cancel();
        if closed.is_ok() {
            while let Some(ended) = self.base.next().await {
                self.judge(ended);
            }
        }
        if let Some(crashed) = self.crashed {
            return Err(crashed.into());
        }
        closed.map_err(|_| Error::Close)?;
        tracing::info!("stopped");
        Ok(())
    }

    /// Resolves once a stop was asked for, or a task has ended, which also asks for one.
    async fn work_until_stopped(&mut self) {
        let ended = tokio::select! {
            () = self.stop.soft.cancelled() => return,
            Some(ended) = self.work.next() => ended,
            Some(ended) = self.base.next() => ended,
        };
        self.judge(ended);
        self.stop.soft.cancel();
    }

    async fn finish_work(&mut self) {
        let deadline = Instant::now() + self.grace;
        while !self.work.is_empty() {
            tokio::select! {
                Some(ended) = self.work.next() => self.judge(ended),
                () = tokio::time::sleep_until(deadline), if !self.stop.hard.is_cancelled() => {
                    tracing::warn!("the grace period is over: what is still in hand is abandoned");
                    self.stop.hard.cancel();
                }
            }
        }
    }

    /// A task may end because it was told to stop, a moment ago or long since.
    /// Any other end is a crash, and the first one is the one to tell of.
    fn judge(&mut self, ended: Ended) {
        if ended.panicked || !self.stop.soft.is_cancelled() {
            tracing::error!(part = ended.name, panicked = ended.panicked, "a part has ended that must not");
            self.crashed.get_or_insert(ended);
        }
    }
}

async fn bind(key: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { key, address, source })
}

async fn keep_metrics(metrics: Metrics, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(METRICS_UPKEEP)).await.is_some() {
        metrics.upkeep();
    }
}
