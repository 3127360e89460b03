//! The composition root: turns settings into handles and handles into tasks, and runs
//! the tasks until a stop signal. The only file that sees every module.

mod error;
mod listeners;
mod operations;
mod parts;
mod pauses;
mod reload;
mod replicas;
mod storage;
mod supervisor;
mod tasks;
mod verify;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

pub use self::error::Error;
pub use self::parts::identities;
pub use self::reload::{Load, Reload};

use self::listeners::Listeners;
use self::operations::Operations;
use self::parts::Parts;
use self::reload::Fixed;
use self::replicas::Replicas;
use self::tasks::TaskGroups;
use crate::alerts::{self, Alerts};
use crate::config::{NamedFile, Settings};
use crate::domain::backoff::Jitter;
use crate::domain::clock::Clock;
use crate::lifecycle::{Ended, HangUps, Signals, Stop};
use crate::store::Store;
use crate::store::inbox::ClaimError;
use crate::store::view::Backlog;
use crate::telemetry::{Metrics, traces};
use crate::web::{self, Ages, Finder, Tokens, Trail, View};

/// How long the store may take to write what it was handed and close.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Runs the bridge until a signal stops it. Each of `hang_ups` makes it read its configuration
/// again, by `load`. With `adopt`, the store goes on with the configured accounts, even if
/// its events belong to others.
///
/// # Errors
/// [`Error`] if it cannot start, or ends without a stop signal.
pub async fn run(settings: Settings, load: Load, mut hang_ups: HangUps, adopt: bool) -> Result<(), Error> {
    let (signals, stop) = (Signals::listen()?, Stop::default());
    let run = async {
        let (clock, jitter) = (Clock::system(), random());
        let app = match App::start(settings, load, clock, jitter, stop.clone(), adopt).await {
            Err(Error::Stopped) => return Ok(()),
            started => started?,
        };
        let (reload, trail) = (app.reload_handle(), app.trail.clone());
        let obey = async {
            loop {
                hang_ups.next().await;
                let (count, outcome) = reload::outcome(&reload.reload().await);
                trail.signalled("SIGHUP", "reload", count, outcome).await;
            }
        };
        tokio::select! {
            ended = app.run() => ended,
            never = obey => never,
        }
    };
    tokio::select! {
        ended = run => ended,
        never = signals.obey(stop.clone()) => match never {},
    }
}

/// Returns a jitter from the random numbers of the system.
pub fn random() -> Jitter {
    Jitter::from_fn(|| rand::Rng::random(&mut rand::rng()))
}

/// A running bridge: its listeners are bound and its tasks run.
pub struct App {
    /// The address of the listener for webhooks.
    pub public_address: SocketAddr,
    /// The address of the listener for metrics and status.
    pub admin_address: SocketAddr,
    store: Store,
    parts: Parts,
    tokens: Tokens,
    trail: Trail,
    alerts: Alerts,
    tasks: TaskGroups,
    grace: Duration,
    /// Reads the configuration again.
    load: Load,
    reload: Reload,
    reloads: mpsc::Receiver<reload::Request>,
    log_filter: String,
    /// The files of the configuration, as they were last read.
    files: Vec<NamedFile>,
    /// The settings that a reload cannot change.
    fixed: Fixed,
    clock: Clock,
    /// The first task that ended although it must not end.
    crashed: Option<Ended>,
    /// A source whose account is not that of the store.
    refused: Option<ClaimError>,
}

impl App {
    /// Opens the store, binds both listeners and starts every task. `load` reads the configuration
    /// again, for a [reload](Self::reload_handle). With `adopt`, the store goes on with the
    /// configured accounts, even if its events belong to others.
    ///
    /// # Errors
    /// [`Error`] says what could not be opened, bound or started.
    pub async fn start(
        settings: Settings,
        load: Load,
        clock: Clock,
        jitter: Jitter,
        stop: Stop,
        adopt: bool,
    ) -> Result<Self, Error> {
        // Fails if a provider is installed already, as for a second bridge in one process.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let metrics = Metrics::install()?;
        let traced = {
            let clock = clock.clone();
            traces::start(move || clock.now().into())
        };
        let started = clock.now();
        reload::loaded_at(started);
        // The replicas of a store use the same clock for the times in it.
        let (now, stored) = (clock.clone(), clock.adjustable());

        let mut tasks = TaskGroups::new(stop.clone());
        let listeners = Listeners::open(&settings.web, &mut tasks, &clock, started).await?;

        let routes = settings.targets.iter().map(parts::route).collect();
        let away = || listeners.wait_for_database(&clock, started);
        let opening = storage::open(&settings.store, routes, stored.clone(), jitter.clone(), away);
        let (mut store, writer) = stop.soft.run_until_cancelled(opening).await.ok_or(Error::Stopped)??;
        tasks.base.spawn_thread("store-writer", stop.soft.clone(), || writer.run())?;
        // The claim comes before anything is delivered or taken in.
        store.claim(identities(&settings), adopt || store.is_untouched().await).await?;

        let verifier = verify::Verifier::new(clock.clone());
        let housekeeping = store.housekeeping();
        let (alerts, watcher) =
            alerts::watcher(settings.alerts.clone(), clock.clone(), jitter.clone(), housekeeping.here())?;
        let saver = Arc::new(Notify::new());
        let (mut parts, shown, controls) = Parts::new(
            &store,
            clock.clone(),
            jitter.clone(),
            stop.clone(),
            Arc::clone(&saver),
            &listeners.public,
        );
        // Everything that can fail comes before the first request goes out.
        let prepared = parts.prepare(&settings)?;
        let pauses = store.operator.pauses().await?;
        parts.replace(prepared, std::mem::take(&mut store.outboxes), &pauses, &mut tasks.work);

        let view = View {
            operator: store.operator.clone(),
            parts: shown.clone(),
            clock: stored,
            started,
            refusals: listeners.refusals.clone(),
            ages: Ages::by(Instant::now),
            cluster: store.peers().map(|peers| peers.cluster()),
            stopping: stop.soft.clone(),
        };
        let render = {
            let metrics = metrics.clone();
            Arc::new(move || metrics.render())
        };
        let tokens = Tokens::new(&settings.web.all_tokens());
        let (reload, reloads) = reload::channel();
        let (pauses, worker) = pauses::channel(store.operator.clone(), controls.clone(), saver);
        let look = Finder::new(view.clone()).looking();
        let operations = Arc::new(Operations {
            controls: controls.clone(),
            pauses,
            reload: reload.clone(),
            verifier,
            alerts: alerts.clone(),
            peers: store.peers(),
        });
        let trail = Trail::new(store.operator.clone(), now.clone(), jitter);
        let (admin_pages, sampler) = web::admin(view.clone(), render, &tokens, operations, trail.clone());
        listeners.admin.set_fixed(admin_pages);
        web::public(view, &listeners.public);
        listeners.accept();
        tasks.spawn_base("pauses", |stop| worker.run(stop));
        tasks.spawn_base("overview", |stop| sampler.run(stop));
        if let Some(export) = traced {
            tasks.spawn_base("traces", |stop| export.run(stop));
        }
        tasks.spawn_base("alerts", |stop| watcher.run(look, stop));
        let replicas = Replicas::of(&mut store, controls, &settings);
        tasks.spawn_upkeep(&mut store, housekeeping, replicas, shown);
        tasks.spawn_base("metrics", |stop| metrics.keep_up(stop));

        let app = Self {
            public_address: listeners.public_address,
            admin_address: listeners.admin_address,
            store,
            parts,
            tokens,
            trail,
            alerts,
            tasks,
            grace: settings.shutdown_grace,
            load,
            reload,
            reloads,
            log_filter: settings.log.filter.clone(),
            files: settings.files.clone(),
            fixed: Fixed::new(&settings),
            clock: now,
            crashed: None,
            refused: None,
        };
        app.announce().await;
        Ok(app)
    }

    /// Returns a handle that makes this bridge read its configuration again, while it
    /// [runs](Self::run).
    pub fn reload_handle(&self) -> Reload {
        self.reload.clone()
    }

    async fn announce(&self) {
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            listen = %self.public_address,
            admin_listen = %self.admin_address,
            "pepay-bridge is up"
        );
        self.announce_backlogs(|_| true).await;
    }

    /// Logs the backlog of each target that is `concerned`.
    async fn announce_backlogs(&self, concerned: impl Fn(&str) -> bool) {
        // If the store does not answer, readiness reports it.
        for backlog in self.store.operator.backlogs().await.unwrap_or_default() {
            let Backlog { open, held, dead, .. } = backlog;
            let target = &*backlog.target;
            if !backlog.is_waiting() || !concerned(target) {
                continue;
            }
            if !self.parts.has_target(target) {
                tracing::warn!(
                    target,
                    open,
                    held,
                    dead,
                    "deliveries wait for a target that is not configured any more"
                );
            } else if open > 0 {
                tracing::info!(target, open, "deliveries left to make");
            }
        }
    }

    /// Runs until a stop is requested, then stops in order: intake and delivery first, within the
    /// grace period, then the store, then the admin listener.
    ///
    /// # Errors
    /// [`Error`] names the part that ended by itself, the source that was refused, or the store
    /// that could not be closed.
    pub async fn run(mut self) -> Result<(), Error> {
        self.work_until_stopped().await;
        self.finish_work().await;
        let closed = tokio::time::timeout(CLOSE_LIMIT, self.store.close()).await;
        self.tasks.base_stop.cancel();
        if closed.is_ok() {
            while let Some(ended) = self.tasks.base.next().await {
                self.judge(ended);
            }
        }
        if let Some(crashed) = self.crashed {
            return Err(crashed.into());
        }
        if let Some(refused) = self.refused {
            return Err(refused.into());
        }
        closed.map_err(|_| Error::Close(CLOSE_LIMIT))?;
        tracing::info!("stopped");
        Ok(())
    }

    /// Resolves once a stop is requested. A task that ends although it must not requests a stop too.
    async fn work_until_stopped(&mut self) {
        while !self.tasks.stop.soft.is_cancelled() {
            tokio::select! {
                () = self.tasks.stop.soft.cancelled() => {}
                Some(ended) = self.tasks.work.next() => self.judge(ended),
                Some(ended) = self.tasks.base.next() => self.judge(ended),
                Some(request) = self.reloads.recv() => self.serve_reload(request).await,
                refused = self.store.refusal(), if self.fixed.reloads == 0 => {
                    self.refused = Some(ClaimError::Other(refused));
                    self.tasks.stop.soft.cancel();
                }
            }
        }
        self.reloads.close();
        // A waiting caller is told now, and not at the end of the stop.
        while self.reloads.try_recv().is_ok() {}
    }

    async fn finish_work(&mut self) {
        let deadline = Instant::now() + self.grace;
        while !self.tasks.work.is_empty() {
            tokio::select! {
                Some(ended) = self.tasks.work.next() => self.judge(ended),
                () = tokio::time::sleep_until(deadline), if !self.tasks.stop.hard.is_cancelled() => {
                    tracing::warn!("the grace period is over: what is still in hand is abandoned");
                    self.tasks.stop.hard.cancel();
                }
            }
        }
    }

    /// A task may end once its stop was requested. Any other end is a crash, which stops the
    /// bridge. The first crash is reported.
    fn judge(&mut self, ended: Ended) {
        if ended.is_crash() {
            tracing::error!(part = ended.name, panicked = ended.panicked, "a part has ended that must not");
            self.crashed.get_or_insert(ended);
            self.tasks.stop.soft.cancel();
        }
    }
}

#[cfg(test)]
mod tests;
