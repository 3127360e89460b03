//! Deliveries: the list, one delivery, and the actions on one.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::NoBody;
use super::filter::{self, Listing};
use super::params::{NoQuery, Query, Segments, action, event_id};
use super::problem::Problem;
use super::schema::{ActionName, Nothing};
use super::shown::{ListedDelivery, ShownDelivery};
use crate::web::audit::Audit;

/// A page of deliveries, those of the newest event first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deliveries {
    deliveries: Vec<ListedDelivery>,
    /// The cursor of the next page; null at the end of the list. A page may have fewer items than asked
    /// for, or none, and still have a cursor.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Deliveries, those of the newest event first
#[utoipa::path(get, path = "/api/v1/deliveries", tag = "deliveries", operation_id = "listDeliveries",
    params(Listing), responses((status = 200, description = "A page of deliveries", body = Deliveries)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Query(mut params): Query,
) -> Result<Json<Deliveries>, Problem> {
    let (filter, page) = (filter::filter(&mut params), filter::page(&mut params));
    params.finish()?;
    let listed = api.ask(api.operator().deliveries(&filter, &page)).await?;
    Ok(Json(Deliveries {
        deliveries: listed.items.into_iter().map(|delivery| api.listed(delivery)).collect(),
        next_cursor: listed.next.map(|cursor| cursor.to_string()),
    }))
}

/// One delivery with its attempts
#[utoipa::path(get, path = "/api/v1/deliveries/{target}/{event_id}", tag = "deliveries", operation_id = "showDelivery",
    params(("target" = String, Path, description = "The target's name"),
           ("event_id" = String, Path, description = "The event's id, percent-encoded")),
    responses((status = 200, description = "The delivery", body = ShownDelivery),
              (status = 404, description = "No such delivery", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Segments((target, id)): Segments<(String, String)>,
    _: NoQuery,
) -> Result<Json<ShownDelivery>, Problem> {
    api.delivery(&target, &event_id(&id)?).await.map(Json)
}

/// Retries, releases, closes or cancels one delivery
#[utoipa::path(post, path = "/api/v1/deliveries/{target}/{event_id}/{action}", tag = "deliveries", operation_id = "actOnDelivery",
    params(("target" = String, Path, description = "The target's name"),
           ("event_id" = String, Path, description = "The event's id, percent-encoded"),
           ("action" = ActionName, Path, description = "What to do")),
    request_body = Nothing,
    responses((status = 200, description = "The delivery as it is now", body = ShownDelivery),
              (status = 204, description = "It is done; the delivery cannot be read at the moment"),
              (status = 404, description = "No such delivery or action", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Its state does not allow it; `errors` names the state and the allowed ones", body = Problem, content_type = "application/problem+json"),
              (status = 410, description = "Retention has removed the body", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn act(
    State(api): State<Arc<Api>>,
    Segments((target, id, name)): Segments<(String, String, String)>,
    audit: Audit,
    _: NoBody,
) -> Result<Response, Problem> {
    let action = action(&name)?;
    audit.target(&target).event(&id);
    let id = event_id(&id)?;
    api.acted(&target, api.operator().act(action, &target, &id)).await?;
    audit.note_changed(1);
    Ok(api.done(StatusCode::OK, &target, &id).await)
}
