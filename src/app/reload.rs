//! Reads the configuration again while the bridge runs, and applies the changes.

use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use secrecy::ExposeSecret as _;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::App;
use super::parts::{self, Prepared};
use super::replicas;
use crate::alerts::Channel;
use crate::config::Settings;
use crate::domain::clock::UnixMillis;
use crate::domain::reload::{Changes, FileRead, ReloadError, RemovedTarget};
use crate::store::inbox::ClaimError;
use crate::store::outbox::Outbox;
use crate::store::view::{Backlog, StoredPause};
use crate::store::{Place, Server};
use crate::telemetry::names;
use crate::{store, telemetry};

/// Reads the configuration from the same places as at the start. Returns the settings, or all
/// faults, a line each.
pub type Load = Arc<dyn Fn() -> Result<Settings, Vec<String>> + Send + Sync>;

/// The time limit for reading the configuration and the files that it names. A file may be on a
/// server that does not respond.
const LOAD_LIMIT: Duration = Duration::from_secs(10);

/// A handle that makes a running bridge read its configuration again. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reload(mpsc::Sender<Request>);

/// A request for a reload, with the channel for its outcome.
#[derive(Debug)]
pub(super) struct Request(oneshot::Sender<Result<Changes, ReloadError>>);

/// A configuration that is ready to be put into effect.
struct Ready {
    settings: Settings,
    prepared: Prepared,
    outboxes: Vec<Outbox>,
    pauses: Vec<StoredPause>,
    alerts: Option<Channel>,
}

/// The settings of the resources that were opened at the start. A reload compares them and does not
/// change them.
#[derive(Debug)]
pub(super) struct Fixed {
    /// How many configurations have been put into effect since the start.
    pub(super) reloads: u64,
    pub(super) listen: std::net::SocketAddr,
    pub(super) admin_listen: std::net::SocketAddr,
    pub(super) keep_alive: Duration,
    pub(super) log_format: telemetry::Format,
    pub(super) store: store::Settings,
}

/// Returns the handle, and the receiver of its requests.
pub(super) fn channel() -> (Reload, mpsc::Receiver<Request>) {
    failed_gauge().set(0.0);
    let (requests, arriving) = mpsc::channel(1);
    (Reload(requests), arriving)
}

impl Reload {
    /// Reads the configuration and applies the changes, one reload at a time. Resolves once newly
    /// accepted events go by the new configuration; a replaced target or stream may still be
    /// finishing.
    ///
    /// # Errors
    /// [`ReloadError`]; then nothing has changed.
    pub async fn reload(&self) -> Result<Changes, ReloadError> {
        let (reply, answer) = oneshot::channel();
        self.0.send(Request(reply)).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }
}

/// Returns the number of applied changes, and the outcome by its code in the API.
pub(super) fn outcome(reloaded: &Result<Changes, ReloadError>) -> (u64, &'static str) {
    match reloaded {
        Ok(changes) => (changes.applied.len() as u64, "done"),
        Err(ReloadError::Invalid(_)) => (0, "invalid_configuration"),
        Err(ReloadError::Unavailable(_)) => (0, "reload_unavailable"),
    }
}

impl App {
    /// Reloads, logs the outcome, and sends it to the caller.
    pub(super) async fn serve_reload(&mut self, request: Request) {
        let outcome = self.reload().await;
        failed_gauge().set(f64::from(u8::from(outcome.is_err())));
        if outcome.is_ok() {
            loaded_at(self.clock.now());
        }
        match &outcome {
            Ok(Changes { applied, restart_needed, files, removed_targets: _ }) => {
                let changed: Vec<_> =
                    files.iter().filter(|file| file.changed).map(|file| &*file.key).collect();
                let files = (files.len(), changed.join(", "));
                if applied.is_empty() {
                    tracing::info!(
                        files = files.0,
                        changed_files = files.1,
                        "configuration read again: nothing has changed that could be applied"
                    );
                } else {
                    tracing::info!(
                        changes = applied.join(", "),
                        files = files.0,
                        changed_files = files.1,
                        "configuration reloaded"
                    );
                }
                if !restart_needed.is_empty() {
                    tracing::warn!(keys = restart_needed.join(", "), "changed keys wait for a restart");
                }
            }
            Err(error) => {
                let problems = match error {
                    ReloadError::Invalid(problems) => problems,
                    ReloadError::Unavailable(reason) => std::slice::from_ref(reason),
                };
                for problem in problems {
                    tracing::error!(problem, "configuration not reloaded, nothing has changed");
                }
            }
        }
        // The caller may have gone.
        let _ = request.0.send(outcome);
    }

    async fn reload(&mut self) -> Result<Changes, ReloadError> {
        // Files and store may be on a disk that does not respond; a stop does not wait for it.
        let stop = self.tasks.stop.soft.clone();
        let ready = stop.run_until_cancelled(self.make_ready()).await;
        let Ready { settings, prepared, outboxes, pauses, alerts } = ready.ok_or_else(stopping)??;
        // Nothing can fail from here on.
        self.fixed.reloads += 1;
        let mut changes = Changes { applied: prepared.changes.clone(), ..Changes::default() };
        let concerned = prepared.added_or_removed_targets.clone();
        self.parts.replace(prepared, outboxes, &pauses, &mut self.tasks.work);
        self.apply_rest(&settings, &mut changes);
        if !self.alerts.are(settings.alerts.as_ref()) {
            self.alerts.replace(alerts);
            changes.applied.push("alerts changed".to_owned());
        }
        changes.restart_needed.extend(self.fixed.differing(&settings));
        if let Some(peers) = self.store.peers() {
            peers.configured(replicas::configuration(&settings));
        }
        let announced = self.announce_backlogs(|target| concerned.iter().any(|name| **name == *target));
        // The result is only logged.
        let _ = stop.run_until_cancelled(announced).await;
        let removed = stop.run_until_cancelled(self.removed_targets()).await;
        changes.removed_targets = removed.unwrap_or_default();
        Ok(changes)
    }

    /// Does all steps of a reload that wait for a file or the store, and all that can fail. The end
    /// of a part is not noticed meanwhile. If the future is dropped, the store may have routes
    /// without a dispatcher; only a stop drops it.
    async fn make_ready(&self) -> Result<Ready, ReloadError> {
        let load = Arc::clone(&self.load);
        let loaded = timeout(LOAD_LIMIT, tokio::task::spawn_blocking(move || load())).await;
        let loaded = loaded.map_err(|_| unread())?.map_err(unavailable)?;
        let settings = loaded.map_err(ReloadError::Invalid)?;
        let prepared = self.parts.prepare(&settings);
        let prepared = prepared.map_err(|error| ReloadError::Invalid(vec![error.to_string()]))?;
        let alerts = self
            .alerts
            .prepare(settings.alerts.as_ref())
            .map_err(|error| ReloadError::Invalid(vec![error.to_string()]))?;
        let pauses = self.store.operator.pauses().await.map_err(unavailable)?;
        // The store keeps the claim. So what can fail without it comes first.
        self.store.claim(parts::identities(&settings), false).await.map_err(|error| match error {
            ClaimError::Other(other) => ReloadError::Invalid(vec![other.to_string()]),
            ClaimError::Store(error) => unavailable(error),
        })?;
        let outboxes = self.store.reroute(prepared.kept_targets.clone(), prepared.routes()).await;
        Ok(Ready { settings, prepared, outboxes: outboxes.map_err(unavailable)?, pauses, alerts })
    }

    /// Returns the unfinished deliveries of removed targets; empty if the store cannot be read.
    async fn removed_targets(&self) -> Vec<RemovedTarget> {
        let backlogs = self.store.operator.backlogs().await.unwrap_or_default();
        let removed = backlogs.into_iter().filter(Backlog::is_waiting);
        let removed = removed.filter(|backlog| !self.parts.has_target(&backlog.target));
        let told = removed.map(|Backlog { target, open, held, dead, .. }| RemovedTarget {
            target: target.to_string(),
            backlog: open,
            held,
            dead,
        });
        told.collect()
    }

    /// Applies the other changes, after the parts were replaced.
    fn apply_rest(&mut self, settings: &Settings, changes: &mut Changes) {
        let Changes { applied, restart_needed, files, .. } = changes;
        files.extend(settings.files.iter().map(|file| FileRead {
            key: file.key.clone(),
            changed: file.has_changed_since(&self.files),
            own_mount: file.own_mount,
        }));
        self.files.clone_from(&settings.files);
        if self.grace != settings.shutdown_grace {
            self.grace = settings.shutdown_grace;
            applied.push("server.shutdown_grace changed".to_owned());
        }
        let tokens = settings.web.all_tokens();
        // The listener stays bound, and without a token it may be bound to loopback only.
        if tokens.is_empty() && !self.admin_address.ip().to_canonical().is_loopback() {
            restart_needed.push("server.admin_token".to_owned());
        } else {
            applied.extend(self.tokens.replace(&tokens));
        }
        let theirs = settings.store.retention;
        let ours = std::mem::replace(&mut self.fixed.store.retention, theirs);
        let retentions = [
            ("store.payload_retention", ours.payloads != theirs.payloads),
            ("store.dedupe_retention", ours.ids != theirs.ids),
            ("store.dead_retention", ours.dead != theirs.dead),
            ("store.audit_retention", ours.audit != theirs.audit),
        ];
        let differing = retentions.into_iter().filter(|(_, differs)| *differs);
        applied.extend(differing.map(|(key, _)| format!("{key} changed")));
        self.store.retain(theirs);
        if self.log_filter != settings.log.filter {
            if telemetry::refilter(&settings.log.filter) {
                self.log_filter.clone_from(&settings.log.filter);
                applied.push("log.filter changed".to_owned());
            } else {
                restart_needed.push("log.filter".to_owned());
            }
        }
    }
}

impl Fixed {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            reloads: 0,
            listen: settings.web.listen,
            admin_listen: settings.web.admin_listen,
            keep_alive: settings.web.keep_alive,
            log_format: settings.log.format,
            store: settings.store.clone(),
        }
    }

    /// Returns the keys that a reload cannot change and that differ in `settings`.
    fn differing(&self, settings: &Settings) -> Vec<String> {
        let keys = [
            ("server.listen", self.listen != settings.web.listen),
            ("server.admin_listen", self.admin_listen != settings.web.admin_listen),
            ("server.keep_alive", self.keep_alive != settings.web.keep_alive),
            ("log.format", self.log_format != settings.log.format),
            ("store.durability", self.store.durability != settings.store.durability),
        ];
        let keys = keys.into_iter().chain(of_place(&self.store.place, &settings.store.place));
        keys.filter(|(_, differs)| *differs).map(|(key, _)| key.to_owned()).collect()
    }
}

/// Returns the keys of the store's place, and whether each differs.
pub(super) fn of_place(ours: &Place, theirs: &Place) -> Vec<(&'static str, bool)> {
    let (Place::Server(ours), Place::Server(theirs)) = (ours, theirs) else {
        return vec![("store.url", ours != theirs)];
    };
    let listen_url = |server: &Server| server.listen_url.as_ref().map(|url| url.expose_secret().to_owned());
    let identity = |server: &Server| server.client_identity.clone().unzip();
    let (our_identity, their_identity) = (identity(ours), identity(theirs));
    vec![
        ("store.url", ours.url.expose_secret() != theirs.url.expose_secret()),
        ("store.listen_url", listen_url(ours) != listen_url(theirs)),
        ("store.schema", ours.schema != theirs.schema),
        ("store.connections", ours.connections != theirs.connections),
        ("store.pooler", ours.pooled != theirs.pooled),
        ("store.ca_file", ours.ca_file != theirs.ca_file),
        ("store.client_cert_file", our_identity.0 != their_identity.0),
        ("store.client_key_file", our_identity.1 != their_identity.1),
    ]
}

/// Sets the metric of the time at which the present configuration was read.
#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 milliseconds")]
pub(super) fn loaded_at(now: UnixMillis) {
    metrics::gauge!(names::LAST_RELOAD).set(now.0 as f64 / 1000.0);
}

/// Returns the gauge that says whether the last reload has failed.
fn failed_gauge() -> Gauge {
    metrics::gauge!(names::RELOAD_FAILED)
}

fn unread() -> ReloadError {
    let seconds = LOAD_LIMIT.as_secs();
    ReloadError::Unavailable(format!("its files could not be read within {seconds} s"))
}

fn stopping() -> ReloadError {
    ReloadError::Unavailable("the bridge is stopping".to_owned())
}

#[expect(clippy::needless_pass_by_value, reason = "made for `map_err`")]
fn unavailable(error: impl ToString) -> ReloadError {
    ReloadError::Unavailable(error.to_string())
}
