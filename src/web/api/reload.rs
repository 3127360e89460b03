//! Reading the configuration anew.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::Api;
use super::audit::Audit;
use super::body::NoBody;
use super::problem::Problem;
use super::schema::Nothing;
use crate::domain::reload::Changes;

/// Reads the configuration and every secret file anew
#[utoipa::path(post, path = "/api/v1/reload", tag = "bridge", operation_id = "reload",
    request_body = Nothing,
    responses((status = 200, description = "What has changed, and what takes a restart", body = Changes),
              (status = 422, description = "The configuration is not valid, and nothing was changed; `errors` says why", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reload(State(api): State<Arc<Api>>, _: NoBody) -> Result<Json<Changes>, Problem> {
    let audit = Audit::of("reload");
    let reloaded = api.operations.reload().await.map_err(Problem::configuration);
    audit.end(reloaded, |changes| changes.applied.len() as u64).map(Json)
}
