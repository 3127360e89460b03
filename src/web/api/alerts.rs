//! Alerts: sends a test message.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::body::NoBody;
use super::problem::Problem;
use super::schema::Nothing;
use crate::domain::alert::AlertOutcome;
use crate::web::audit::Audit;

/// Sends a test message to the receiver of alerts, once, and returns the result
///
/// The message says that nothing is wrong. In JSON its type is `pepay_bridge.alert.test`.
#[utoipa::path(post, path = "/api/v1/alerts/test", tag = "bridge", operation_id = "testAlerts",
    request_body = Nothing,
    responses((status = 200, description = "What the other side said", body = AlertOutcome),
              (status = 409, description = "No alerts are configured, or another test is out", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn test(
    State(api): State<Arc<Api>>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<AlertOutcome>, Problem> {
    // The call has a time limit of its own.
    let outcome = api.operations.test_alerts().await?;
    audit.note_changed(1);
    Ok(Json(outcome))
}
