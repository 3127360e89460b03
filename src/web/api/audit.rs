//! The list of the audit trail.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::filter::{AuditListing, limit, some_text};
use super::params::{Params, Query};
use super::problem::Problem;
use crate::domain::audit::{Filter, Kind};
use crate::domain::clock::UnixMillis;
use crate::domain::operator::Page;
use crate::store::view::AuditEntry;

/// A page of the audit trail, the newest entry first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Trail {
    entries: Vec<AuditEntry>,
    /// The cursor of the next page; null at the end of the list.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Changes by operators, and bodies that they have read, the newest first
///
/// Every call that may change something leaves an entry, even if it was refused for its token's scope
/// or has failed. Every call that returns a body leaves one too.
#[utoipa::path(get, path = "/api/v1/audit", tag = "bridge", operation_id = "listAudit",
    params(AuditListing), responses((status = 200, description = "A page of the trail", body = Trail)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Query(mut params): Query,
) -> Result<Json<Trail>, Problem> {
    let filter = filter(&mut params);
    let limit = params.parsed("limit", limit).unwrap_or(Page::default().limit);
    let cursor = params.parsed("cursor", cursor);
    params.finish()?;
    let (entries, next) = api.ask(api.operator().audit(&filter, cursor, limit)).await?;
    Ok(Json(Trail { entries, next_cursor: next.map(|next| next.to_string()) }))
}

fn filter(params: &mut Params) -> Filter {
    Filter {
        kind: params.one_of("kind", &Kind::ALL, Kind::as_str),
        who: params.parsed("who", some_text),
        action: params.parsed("action", some_text),
        target: params.parsed("target", some_text),
        event_id: params.parsed("event_id", some_text),
        from: params.parsed("from", str::parse::<UnixMillis>),
        to: params.parsed("to", str::parse::<UnixMillis>),
    }
}

fn cursor(text: &str) -> Result<i64, &'static str> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = if is_number { text.parse().ok() } else { None };
    number.ok_or("this is no cursor; allowed is the `next_cursor` of an earlier answer")
}
