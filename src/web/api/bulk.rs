//! One action for everything that a filter matches, once its count is confirmed.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::Body;
use super::path::{Segments, action};
use super::problem::Problem;
use super::schema::{ActionName, BulkBody, Extent};
use crate::store::error::BulkError;
use crate::store::view::BulkProgress;
use crate::web::audit::Audit;

/// How long counting may take: every delivery that matches is looked up.
const COUNT_LIMIT: Duration = Duration::from_mins(1);

/// How long a bulk change may take: it goes in batches, and each of them stands.
const BULK_LIMIT: Duration = Duration::from_mins(10);

/// What a bulk call came to.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct BulkOutcome {
    #[schema(value_type = ActionName)]
    action: &'static str,
    /// Deliveries that matched the filter and that the action applies to.
    matching: u64,
    /// Deliveries that were changed.
    changed: u64,
}

/// Retries, releases, closes or cancels every delivery that a filter matches
///
/// First with `dry_run`, which answers how many there are; then with that number
/// in `confirm`. If another number matches by then, nothing is changed.
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
    let confirmed = match extent {
        Extent::Counted => {
            audit.changes_nothing();
            let count = api.operator().count(action, &filter);
            let matching = api.ask_within(COUNT_LIMIT, count).await?;
            return Ok(Json(BulkOutcome { action: action.as_str(), matching, changed: 0 }));
        }
        Extent::Confirmed(confirmed) => confirmed,
    };
    audit.filter(&written);
    let listed = api.under_way.enter(action, confirmed);
    let progress = |so_far: BulkProgress| {
        audit.note_changed(so_far.changed);
        listed.went(so_far);
    };
    let work = api.operator().act_on_all(action, &filter, confirmed, progress);
    let worked = match tokio::time::timeout(BULK_LIMIT, work).await {
        Ok(result) => result.map_err(|error| match error {
            BulkError::Changed { matching } => Problem::count_changed(confirmed, matching),
            BulkError::Store(error) => unfinished(audit.changed(), &error.to_string()),
        }),
        Err(_) => Err(unfinished(audit.changed(), "it took too long")),
    };
    let changed = worked?;
    audit.note_changed(changed);
    Ok(Json(BulkOutcome { action: action.as_str(), matching: confirmed, changed }))
}

fn unfinished(changed: u64, reason: &str) -> Problem {
    Problem::unavailable("store_unavailable", format!("{reason}; {changed} were changed before that"))
}
