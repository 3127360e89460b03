//! Targets: the list, pause, resume, and test event.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::NoBody;
use super::params::{NoQuery, Segments};
use super::problem::Problem;
use super::schema::Nothing;
use crate::domain::clock::UnixMillis;
use crate::domain::operator::{OperationError, TargetInfo, TestOutcome};
use crate::domain::status::{Circuit, NextProbe, Rejecting, TargetError, TargetState, TargetStatus};
use crate::store::view::{Backlog, Latency};
use crate::web::audit::Audit;
use crate::web::{oldest_age, warning_of_removed};

/// A target: its configuration, its state and its waiting deliveries. Values that the store cannot give
/// are null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Target)]
pub(super) struct TargetView {
    #[serde(flatten)]
    info: TargetInfo,
    /// Whether it is part of the configuration. If not, the configured values are empty, `none` or 0.
    configured: bool,
    state: TargetState,
    /// Attempts on the wire now.
    in_flight: usize,
    /// Since when as many attempts are on the wire as `concurrency` allows, while more
    /// deliveries could be sent.
    #[schema(required)]
    limited_since: Option<UnixMillis>,
    circuit: Circuit,
    /// While the circuit is open, when the next probes go out.
    #[schema(required)]
    next_probe: Option<NextProbe>,
    /// The end of the target's `Retry-After`, until which no attempt starts.
    #[schema(required)]
    retry_after_until: Option<UnixMillis>,
    /// Set while the target refuses everything.
    #[schema(required)]
    rejecting: Option<Rejecting>,
    /// Whether it is paused: by an operator, or by `pause_when_rejecting`.
    paused: bool,
    /// Why it is paused; null while it is not.
    #[schema(required)]
    paused_reason: Option<String>,
    #[schema(required)]
    last_error: Option<TargetError>,
    #[schema(required)]
    last_delivered_at: Option<UnixMillis>,
    /// The number of open deliveries, which the bridge attempts by itself.
    #[schema(required)]
    backlog: Option<u64>,
    /// How long the oldest open delivery has waited, in seconds; 0 if there is none.
    #[schema(required)]
    backlog_oldest_seconds: Option<f64>,
    /// When the event of the oldest open delivery arrived.
    #[schema(required)]
    backlog_oldest_at: Option<UnixMillis>,
    /// The number of held deliveries: the outcome of an attempt is unknown, and an operator decides.
    #[schema(required)]
    held: Option<u64>,
    /// The number of dead deliveries.
    #[schema(required)]
    dead: Option<u64>,
    #[schema(required)]
    latency: Option<Latency>,
}

impl TargetView {
    pub(super) fn new(
        info: TargetInfo,
        status: TargetStatus,
        backlog: Option<&Backlog>,
        latency: Option<&Latency>,
        now: UnixMillis,
    ) -> Self {
        Self {
            info,
            configured: true,
            state: TargetState::Configured,
            in_flight: status.in_flight,
            limited_since: status.limited_since,
            circuit: status.circuit,
            next_probe: status.next_probe,
            retry_after_until: status.retry_after_until,
            rejecting: status.rejecting,
            paused: status.paused,
            paused_reason: status.paused_reason,
            last_error: status.last_error,
            last_delivered_at: status.last_delivered_at,
            backlog: backlog.map(|backlog| backlog.open),
            backlog_oldest_seconds: backlog.map(|backlog| oldest_age(backlog, now)),
            backlog_oldest_at: backlog.and_then(|backlog| backlog.oldest),
            held: backlog.map(|backlog| backlog.held),
            dead: backlog.map(|backlog| backlog.dead),
            latency: latency.cloned(),
        }
    }

    /// Returns the entry of a target that was removed from the configuration.
    pub(super) fn removed(backlog: &Backlog, latency: Option<&Latency>, now: UnixMillis) -> Self {
        let info = TargetInfo::removed(&backlog.target);
        let status = TargetStatus::new(Arc::clone(&backlog.target));
        let view = Self::new(info, status, Some(backlog), latency, now);
        Self { configured: false, state: TargetState::Removed, ..view }
    }

    /// Returns the warning for an operator, if the target was removed.
    pub(super) fn warning(&self) -> Option<String> {
        let backlog = Backlog {
            target: self.info.name.as_str().into(),
            open: self.backlog?,
            oldest: self.backlog_oldest_at,
            held: self.held?,
            dead: self.dead?,
        };
        (!self.configured).then(|| warning_of_removed(&backlog))
    }

    fn is(&self, name: &str) -> bool {
        self.info.name == name
    }
}

/// Every configured target, and removed ones with waiting deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Targets {
    targets: Vec<TargetView>,
}

/// Every configured target, with its state
#[utoipa::path(get, path = "/api/v1/targets", tag = "targets", operation_id = "listTargets",
    responses((status = 200, description = "The targets", body = Targets)))]
pub(super) async fn list(State(api): State<Arc<Api>>, _: NoQuery) -> Json<Targets> {
    Json(Targets { targets: api.targets().await.0 })
}

/// Pauses a target: no attempt starts, even after a restart
#[utoipa::path(post, path = "/api/v1/targets/{name}/pause", tag = "targets", operation_id = "pauseTarget",
    params(("name" = String, Path, description = "The target's name")),
    request_body = Nothing,
    responses((status = 200, description = "The target as it is now", body = TargetView),
              (status = 404, description = "No such target", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn pause(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<TargetView>, Problem> {
    set_paused(&api, &audit, &name, true).await
}

/// Resumes a paused target
#[utoipa::path(post, path = "/api/v1/targets/{name}/resume", tag = "targets", operation_id = "resumeTarget",
    params(("name" = String, Path, description = "The target's name")),
    request_body = Nothing,
    responses((status = 200, description = "The target as it is now", body = TargetView),
              (status = 404, description = "No such target", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn resume(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<TargetView>, Problem> {
    set_paused(&api, &audit, &name, false).await
}

async fn set_paused(api: &Api, audit: &Audit, name: &str, paused: bool) -> Result<Json<TargetView>, Problem> {
    audit.target(name);
    api.have(async { api.of_target(name, api.operations.pause(name, paused).await) }).await?;
    audit.note_changed(1);
    let (targets, _) = api.targets().await;
    let found = targets.into_iter().find(|target| target.is(name));
    let mut target = found.ok_or_else(|| api.no_target(name))?;
    // The answer has the state that this call has set, even if another call has changed it since.
    if target.paused != paused {
        (target.paused, target.paused_reason) = (paused, None);
    }
    Ok(Json(target))
}

/// Sends a test event to a target and returns the result
///
/// Its type is `pepay_bridge.test` and it has the header `pepay-bridge-test: 1`. It is signed like any
/// other event, is not stored, and is sent to a paused target as well.
#[utoipa::path(post, path = "/api/v1/targets/{name}/test", tag = "targets", operation_id = "testTarget",
    params(("name" = String, Path, description = "The target's name")),
    request_body = Nothing,
    responses((status = 200, description = "What the target said", body = TestOutcome),
              (status = 404, description = "No such target", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Another test is out to the target", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn test(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<TestOutcome>, Problem> {
    audit.target(&name);
    // The call has the target's own time limit.
    let tested = api.of_target(&name, api.operations.test(&name).await);
    audit.note_changed(u64::from(tested.is_ok()));
    tested.map(Json)
}

impl Api {
    /// Returns the outcome of an operation on the target `name`. The problem of an unknown one lists
    /// the known targets.
    fn of_target<T>(&self, name: &str, outcome: Result<T, OperationError>) -> Result<T, Problem> {
        outcome.map_err(|error| match error {
            OperationError::Unknown => self.no_target(name),
            error => error.into(),
        })
    }

    /// Returns the problem that there is no target `name`.
    pub(super) fn no_target(&self, name: &str) -> Problem {
        let known: Vec<_> = self.operations.targets().into_iter().map(|target| target.name).collect();
        Problem::no_such("target", name, &known)
    }
}
