//! The overview: the state of all parts in one response.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::Api;
use super::history::Point;
use super::params::NoQuery;
use super::targets::TargetView;
use crate::domain::clock::UnixMillis;
use crate::domain::status::{StreamStatus, WebhookStatus};
use crate::store::view::{Latency, Races, SourceTally, Usage};
use crate::web::refused::RefusedWebhook;
use crate::web::replicas::ReplicaStatus;
use crate::web::status::Store;
use crate::web::{STORE_LIMIT, of_removed, within};

/// How long an assessment is used: each reads a thousand rows, and changes slowly.
const ASSESSMENT_STANDS: Duration = Duration::from_secs(5);

/// The bridge at a glance.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Overview {
    version: &'static str,
    /// The commit that it was built from.
    commit: &'static str,
    now: UnixMillis,
    uptime_seconds: u64,
    /// Whether `/readyz` says ready.
    ready: bool,
    /// Why the bridge is not ready; empty if it is.
    reasons: Vec<String>,
    /// Warnings for an operator that do not make the bridge unready.
    warnings: Vec<String>,
    streams: Vec<StreamStatus>,
    webhooks: Vec<WebhookStatus>,
    /// The last signed request to the public listener that reached no webhook endpoint.
    #[schema(required)]
    last_refused_webhook: Option<RefusedWebhook>,
    targets: Vec<TargetView>,
    /// The replicas that share the store; empty for a store of one process.
    replicas: Vec<ReplicaStatus>,
    store: Store,
    /// Null if the store cannot be read.
    #[schema(required)]
    usage: Option<Usage>,
    /// The counts of each source since the start.
    sources: Vec<SourceTally>,
    /// Null if the store cannot be read.
    #[schema(required)]
    races: Option<Races>,
    /// The history: a point every 5 seconds, for an hour, oldest first.
    history: Vec<Point>,
}

/// The values that are computed from many rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Assessment {
    races: Option<Races>,
    usage: Option<Usage>,
    pub(super) latencies: Vec<Latency>,
}

/// The last assessment, and when it was made.
#[derive(Debug, Default)]
pub(super) struct Assessments(Mutex<Option<(Instant, Assessment)>>);

/// The bridge at a glance
#[utoipa::path(get, path = "/api/v1/overview", tag = "bridge", operation_id = "showOverview",
    responses((status = 200, description = "The bridge at a glance", body = Overview)))]
pub(super) async fn show(State(api): State<Arc<Api>>, _: NoQuery) -> Json<Overview> {
    Json(api.overview(api.history.all()).await)
}

impl Api {
    /// Returns the present overview, with these points of the history.
    pub(super) async fn overview(&self, history: Vec<Point>) -> Overview {
        let view = self.view();
        let (verdict, summary, targets, assessment) = tokio::join!(
            self.readiness.look(),
            within(STORE_LIMIT, view.operator.summary()),
            self.targets(),
            self.assessment(),
        );
        let ((targets, unread), parts) = (targets, view.parts());
        let removed = targets.iter().filter_map(TargetView::warning);
        let warnings = verdict.warnings.into_iter().chain(removed);
        let warnings = warnings.chain(view.warning_of_replicas()).collect();
        Overview {
            version: env!("CARGO_PKG_VERSION"),
            commit: env!("PEPAY_BRIDGE_COMMIT"),
            now: view.clock.now(),
            uptime_seconds: view.uptime().as_secs(),
            ready: verdict.reasons.is_empty(),
            reasons: verdict.reasons,
            warnings,
            streams: view.streams(),
            webhooks: parts.webhooks(),
            last_refused_webhook: view.refusals.last(),
            targets,
            replicas: view.replicas(),
            store: Store::new(verdict.store_failure, summary, unread),
            usage: assessment.usage,
            sources: view.operator.tally().sources,
            races: assessment.races,
            history,
        }
    }

    /// Returns every target, and the error if the store cannot be read.
    pub(super) async fn targets(&self) -> (Vec<TargetView>, Option<String>) {
        let view = self.view();
        let (backlogs, assessment) = tokio::join!(view.backlogs(), self.assessment());
        let (backlogs, unread) = match backlogs {
            Ok(backlogs) => (backlogs, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let (now, statuses) = (view.clock.now(), view.parts().targets());
        let shown = self.operations.targets().into_iter().filter_map(|info| {
            let status = statuses.iter().find(|status| *status.name == *info.name)?.clone();
            let backlog = backlogs.iter().find(|backlog| *backlog.target == *info.name);
            let latency = assessment.latencies.iter().find(|latency| *latency.target == *info.name);
            Some(TargetView::new(info, status, backlog, latency, now))
        });
        let mut shown: Vec<_> = shown.collect();
        let removed = of_removed(&backlogs, |name| statuses.iter().any(|status| *status.name == *name));
        shown.extend(removed.into_iter().map(|backlog| {
            let latency = assessment.latencies.iter().find(|latency| latency.target == backlog.target);
            TargetView::removed(backlog, latency, now)
        }));
        (shown, unread)
    }

    /// Returns the assessment. The lock is held during the queries, so that later requests share the
    /// result.
    async fn assessment(&self) -> Assessment {
        let mut last = self.assessments.0.lock().await;
        if let Some((at, assessment)) = &*last
            && at.elapsed() < ASSESSMENT_STANDS
        {
            return assessment.clone();
        }
        let operator = self.operator();
        let (races, usage, latencies) = tokio::join!(
            within(STORE_LIMIT, operator.races()),
            within(STORE_LIMIT, operator.usage()),
            within(STORE_LIMIT, operator.latencies()),
        );
        for error in
            [races.as_ref().err(), usage.as_ref().err(), latencies.as_ref().err()].into_iter().flatten()
        {
            tracing::warn!(error, "the overview is not complete");
        }
        let latencies = latencies.unwrap_or_default();
        let assessment = Assessment { races: races.ok(), usage: usage.ok(), latencies };
        *last = Some((Instant::now(), assessment.clone()));
        assessment
    }
}
