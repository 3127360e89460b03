//! Bulk calls: actions on many deliveries, once their count is confirmed.

pub(super) mod bodies;

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use self::bodies::{MoveBody, ReplayAllBody};
use super::Api;
use super::body::Body;
use super::params::{Segments, action};
use super::problem::Problem;
use super::schema::{ActionName, BulkBody, BulkName, Extent};
use crate::domain::operator::BulkWork;
use crate::store::error::BulkError;
use crate::store::view::BulkProgress;
use crate::web::audit::Audit;

/// The time limit of a count, which looks up every matching delivery.
const COUNT_LIMIT: Duration = Duration::from_mins(1);

/// The time limit of a bulk change. It is done in batches, and finished batches stay.
const BULK_LIMIT: Duration = Duration::from_mins(10);

/// The result of a bulk call.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkOutcome {
    #[schema(value_type = BulkName)]
    action: &'static str,
    /// The number of deliveries that match the filter and that the action applies to.
    matching: u64,
    /// The number of deliveries that were changed.
    changed: u64,
    /// For a move that is only counted: the number of deliveries that pass the filter and stay, since
    /// the other target does not take their events.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_taken: Option<u64>,
}

/// Retries, releases, closes or cancels every delivery that a filter matches
///
/// Call it first with `dry_run`, which returns the number of deliveries, and then with that number in
/// `confirm`. If another number matches by then, nothing is changed.
#[utoipa::path(post, path = "/api/v1/deliveries/{action}", tag = "deliveries", operation_id = "actOnDeliveries",
    params(("action" = ActionName, Path, description = "What to do")),
    request_body = BulkBody,
    responses((status = 200, description = "How many there are, and how many were changed", body = BulkOutcome),
              (status = 404, description = "No such action", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Another number matches now than was confirmed: `matching`", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    audit: Audit,
    Body(members): Body,
) -> Result<Json<BulkOutcome>, Problem> {
    let action = action(&name)?;
    let BulkBody { filter, written, extent } = BulkBody::read(members)?;
    audit.filter(&written);
    api.carry_out(&BulkWork::Act(action, filter), extent, audit).await
}

/// Sends every event that a filter matches to a target again
///
/// The events are those that the target takes now or has a delivery of; with `missing` only those that
/// it takes and has no delivery of. The oldest event is sent first, and events of one object in order.
/// The call is counted and confirmed like the other bulk calls.
#[utoipa::path(post, path = "/api/v1/deliveries/replay", tag = "deliveries", operation_id = "replayEvents",
    request_body = ReplayAllBody,
    responses((status = 200, description = "How many there are, and how many are on their way", body = BulkOutcome),
              (status = 404, description = "No such target", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Another number matches now than was confirmed: `matching`", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn replay(
    State(api): State<Arc<Api>>,
    audit: Audit,
    Body(members): Body,
) -> Result<Json<BulkOutcome>, Problem> {
    let ReplayAllBody { replay, written, extent } = ReplayAllBody::read(members)?;
    let narrowed = if replay.missing { format!("missing {written}") } else { written };
    audit.target(&replay.target).filter(&narrowed);
    api.carry_out(&BulkWork::Replay(replay), extent, audit).await
}

/// Moves the unfinished deliveries of a removed target to another one
///
/// Pending, retrying, held and dead deliveries that pass the filter keep their state, their attempts
/// and their order. If the other target has a delivery of an event already, the delivery is cancelled
/// instead of moved, and not counted as changed. Deliveries of events that it does not take by its
/// `types`, `environment` or `where` stay, and `not_taken` counts them.
#[utoipa::path(post, path = "/api/v1/deliveries/move", tag = "deliveries", operation_id = "moveDeliveries",
    request_body = MoveBody,
    responses((status = 200, description = "How many there are, and how many were moved", body = BulkOutcome),
              (status = 404, description = "No such target", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Another number matches now than was confirmed (`matching`), or the target that they are taken from is configured", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn move_all(
    State(api): State<Arc<Api>>,
    audit: Audit,
    Body(members): Body,
) -> Result<Json<BulkOutcome>, Problem> {
    let MoveBody { moved, written, extent } = MoveBody::read(members)?;
    let narrowed = format!("from {} {written}", moved.from);
    audit.target(&moved.to).filter(narrowed.trim_end());
    api.carry_out(&BulkWork::Move(moved), extent, audit).await
}

impl Api {
    /// Counts the deliveries of `work`, or does it.
    async fn carry_out(
        &self,
        work: &BulkWork,
        extent: Extent,
        audit: Audit,
    ) -> Result<Json<BulkOutcome>, Problem> {
        let action = work.as_str();
        let confirmed = match extent {
            Extent::Counted => {
                audit.changes_nothing();
                let count = async {
                    let counted = self.operator().count(work).await;
                    let matching = counted.map_err(|error| self.bulk_problem(error, 0, 0))?;
                    let BulkWork::Move(moved) = work else { return Ok::<_, Problem>((matching, None)) };
                    let not_taken = self.operator().not_taken(moved).await;
                    Ok((matching, Some(not_taken.map_err(|error| self.bulk_problem(error, 0, 0))?)))
                };
                let (matching, not_taken) = self.ask_within(COUNT_LIMIT, count).await?;
                return Ok(Json(BulkOutcome { action, matching, changed: 0, not_taken }));
            }
            Extent::Confirmed(confirmed) => confirmed,
        };
        let listed = self.under_way.enter(action, confirmed);
        let progress = |so_far: BulkProgress| {
            audit.note_changed(so_far.changed);
            listed.went(so_far);
        };
        let worked = self.operator().act_on_all(work, confirmed, progress);
        let worked = match tokio::time::timeout(BULK_LIMIT, worked).await {
            Ok(result) => result.map_err(|error| self.bulk_problem(error, confirmed, audit.changed())),
            Err(_) => Err(unfinished(audit.changed(), "it took too long")),
        };
        let changed = worked?;
        audit.note_changed(changed);
        Ok(Json(BulkOutcome { action, matching: confirmed, changed, not_taken: None }))
    }

    fn bulk_problem(&self, error: BulkError, confirmed: u64, changed: u64) -> Problem {
        match error {
            BulkError::Changed { matching } => Problem::count_changed(confirmed, matching),
            BulkError::NoSuchTarget(name) => self.no_target(&name),
            BulkError::InUse(_) if changed > 0 => {
                let detail = format!("{error}; {changed} were changed before it was configured");
                Problem::conflict("target_in_use", detail)
            }
            BulkError::InUse(_) => Problem::conflict("target_in_use", error.to_string()),
            BulkError::Store(error) => unfinished(changed, &error.to_string()),
        }
    }
}

fn unfinished(changed: u64, reason: &str) -> Problem {
    Problem::unavailable("store_unavailable", format!("{reason}; {changed} were changed before that"))
}
