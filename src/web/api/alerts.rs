//! Alerts: sending one that says nothing is wrong.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::body::NoBody;
use super::problem::Problem;
use super::schema::Nothing;
use crate::domain::alert::AlertOutcome;
use crate::web::audit::Audit;

/// Sends a test to where alerts go, once, and answers what came of it
///
/// Nothing is wrong, says the message. In JSON its type is `pepay_bridge.alert.test`.
#[utoipa::path(post, path = "/api/v1/alerts/test", tag = "bridge", operation_id = "testAlerts",
    request_body = Nothing,
    responses((status = 200, description = "What the other side said", body = AlertOutcome),
              (status = 409, description = "No alerts are configured, or another test is out", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn test(
    State(api): State<Arc<Api>>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<AlertOutcome>, Problem> {
    // Has a time limit of its own.
    let outcome = api.operations.test_alerts().await?;
    audit.note_changed(1);
    Ok(Json(outcome))
}
