//! The operations on the bridge as a whole: reads the configuration anew, and tests the alerts.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::body::NoBody;
use super::problem::Problem;
use super::schema::Nothing;
use crate::domain::alert::AlertOutcome;
use crate::domain::reload::Changes;
use crate::web::audit::Audit;

/// How long a reload may take before the response says that it is still running: its files may be on a
/// slow disk.
const RELOAD_LIMIT: Duration = Duration::from_secs(30);

/// Reads the configuration and every secret file anew
#[utoipa::path(post, path = "/api/v1/reload", tag = "bridge", operation_id = "reload",
    request_body = Nothing,
    responses((status = 200, description = "What has changed, and what takes a restart", body = Changes),
              (status = 422, description = "The configuration is not valid, and nothing was changed; `errors` says why", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reload(
    State(api): State<Arc<Api>>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<Changes>, Problem> {
    let reloaded = match tokio::time::timeout(RELOAD_LIMIT, api.operations.reload()).await {
        Ok(outcome) => outcome.map_err(Problem::from),
        Err(_) => {
            Err(Problem::unavailable("not_done_yet", "the reload goes on; the log will say what came of it"))
        }
    };
    let changes = reloaded?;
    audit.note_changed(changes.applied.len() as u64);
    Ok(Json(changes))
}

/// Sends a test message to the receiver of alerts, once, and returns the result
///
/// The message says that nothing is wrong. In JSON its type is `pepay_bridge.alert.test`.
#[utoipa::path(post, path = "/api/v1/alerts/test", tag = "bridge", operation_id = "testAlerts",
    request_body = Nothing,
    responses((status = 200, description = "What the other side said", body = AlertOutcome),
              (status = 409, description = "No alerts are configured, or another test is out", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn test_alerts(
    State(api): State<Arc<Api>>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<AlertOutcome>, Problem> {
    // The call has a time limit of its own.
    let outcome = api.operations.test_alerts().await?;
    audit.note_changed(1);
    Ok(Json(outcome))
}
