//! `/status`: the state of every part, as JSON.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::readiness::Readiness;
use super::refused::RefusedWebhook;
use super::replicas::ReplicaStatus;
use super::{STORE_LIMIT, of_removed, oldest_age, warning_of_removed, within};
use crate::domain::clock::UnixMillis;
use crate::domain::status::{StreamStatus, TargetState, TargetStatus, WebhookStatus};
use crate::store::view::{Backlog, Summary};

/// The body of the response.
#[derive(Serialize)]
pub(super) struct Page {
    version: &'static str,
    uptime_seconds: u64,
    ready: bool,
    /// The reasons why the bridge is not ready; empty if it is ready.
    reasons: Vec<String>,
    /// Warnings for an operator, which do not affect readiness.
    warnings: Vec<String>,
    streams: Vec<StreamStatus>,
    webhooks: Vec<WebhookStatus>,
    /// The last signed request to the public listener that reached no webhook endpoint.
    last_refused_webhook: Option<RefusedWebhook>,
    store: Store,
    targets: Vec<Target>,
    /// The replicas that share the store; empty for a store of one process.
    replicas: Vec<ReplicaStatus>,
}

/// The store. `events`, `first_sequence`, `last_sequence` and `engine` are left out if the store does not
/// respond.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(super) struct Store {
    /// Whether the store commits.
    committing: bool,
    /// The reason why the store does not commit, or the error of another query; null if there is none.
    #[schema(required)]
    error: Option<String>,
    /// The number of stored events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    events: Option<i64>,
    /// The sequence of the oldest stored event; 0 if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    first_sequence: Option<i64>,
    /// The sequence of the newest stored event; 0 if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_sequence: Option<i64>,
    /// The engine and its version, such as `SQLite 3.51.3` or `PostgreSQL 17.6`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    engine: Option<String>,
}

/// A target: the state of its dispatcher, and the counts of its deliveries in the store.
#[derive(Serialize)]
struct Target {
    #[serde(flatten)]
    status: TargetStatus,
    configured: bool,
    state: TargetState,
    #[serde(flatten)]
    backlog: Option<Waiting>,
}

#[derive(Serialize)]
struct Waiting {
    backlog: u64,
    backlog_oldest_seconds: f64,
    backlog_oldest_at: Option<UnixMillis>,
    held: u64,
    dead: u64,
}

/// Returns the state of every part. Data that the store does not return is left out, and `store.error`
/// has the reason.
pub(super) async fn show(State(readiness): State<Arc<Readiness>>) -> Json<Page> {
    let view = &readiness.view;
    let (verdict, summary, backlogs) =
        tokio::join!(readiness.look(), within(STORE_LIMIT, view.operator.summary()), view.backlogs());
    let unread = backlogs.as_ref().err().cloned();
    let (now, parts) = (view.clock.now(), view.parts());
    let backlogs = backlogs.unwrap_or_default();
    let targets = parts.targets();
    let removed = of_removed(&backlogs, |name| targets.iter().any(|target| *target.name == *name));
    let warnings = verdict.warnings.into_iter().chain(removed.iter().copied().map(warning_of_removed));
    let warnings = warnings.chain(view.warning_of_replicas()).collect();
    let configured = targets.into_iter().map(|status| (status, TargetState::Configured));
    let removed =
        removed.iter().map(|backlog| (TargetStatus::new(Arc::clone(&backlog.target)), TargetState::Removed));
    Json(Page {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: view.uptime().as_secs(),
        ready: verdict.reasons.is_empty(),
        reasons: verdict.reasons,
        warnings,
        streams: view.streams(),
        webhooks: parts.webhooks(),
        last_refused_webhook: view.refusals.last(),
        store: Store::new(verdict.store_failure, summary, unread),
        targets: configured.chain(removed).map(|target| Target::new(target, &backlogs, now)).collect(),
        replicas: view.replicas(),
    })
}

impl Store {
    /// Creates the section. `failure` is the reason why the store does not commit, and `unread` is the
    /// error of another query.
    pub(super) fn new(
        failure: Option<String>,
        summary: Result<Summary, String>,
        unread: Option<String>,
    ) -> Self {
        let committing = failure.is_none();
        let error = failure.or_else(|| summary.as_ref().err().cloned()).or(unread);
        let store = Self { committing, error, ..Self::default() };
        let Ok(Summary { first_sequence, last_sequence, engine }) = summary else { return store };
        // Sequences have no gaps, and an empty store has 0 for both.
        let events = if last_sequence == 0 { 0 } else { last_sequence - first_sequence + 1 };
        Self {
            events: Some(events),
            first_sequence: Some(first_sequence),
            last_sequence: Some(last_sequence),
            engine: Some(engine),
            ..store
        }
    }
}

impl Target {
    fn new((status, state): (TargetStatus, TargetState), backlogs: &[Backlog], now: UnixMillis) -> Self {
        let backlog = backlogs.iter().find(|backlog| backlog.target == status.name);
        let backlog = backlog.map(|backlog| Waiting {
            backlog: backlog.open,
            backlog_oldest_seconds: oldest_age(backlog, now),
            backlog_oldest_at: backlog.oldest,
            held: backlog.held,
            dead: backlog.dead,
        });
        Self { status, configured: state == TargetState::Configured, state, backlog }
    }
}
