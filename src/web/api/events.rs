//! Events: the list, one event, its exact bytes, its replay, and its comparison with Pepay.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::{Body, NoBody};
use super::filter::{self, EventListing};
use super::params::{NoQuery, Query, Segments, event_id, no_event};
use super::problem::Problem;
use super::schema::{Nothing, ReplayBody};
use super::shown::{ShownDelivery, ShownEvent};
use crate::domain::event::Source;
use crate::domain::operator::Verification;
use crate::store::view::EventSummary;
use crate::web::audit::Audit;

/// A page of events, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Events {
    events: Vec<EventSummary>,
    /// The cursor of the next page; null at the end of the list. A page may have fewer items than asked
    /// for, or none, and still have a cursor.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Events, the newest first
///
/// With `q`, a call searches at most 2,000 bodies, and starts no more after half a second:
/// `next_cursor` continues the search.
#[utoipa::path(get, path = "/api/v1/events", tag = "events", operation_id = "listEvents",
    params(EventListing), responses((status = 200, description = "A page of events", body = Events)))]
pub(super) async fn list(
    State(api): State<Arc<Api>>,
    Query(mut params): Query,
) -> Result<Json<Events>, Problem> {
    let (mut filter, page) = (filter::filter(&mut params), filter::page(&mut params));
    filter.text = filter::searched(&mut params);
    params.finish()?;
    let listed = api.ask(api.operator().events(&filter, &page)).await?;
    Ok(Json(Events { events: listed.items, next_cursor: listed.next.map(|cursor| cursor.to_string()) }))
}

/// One event, with its body, sightings, deliveries and attempts
///
/// With `body=false` the answer has neither its body nor those of its conflicts, and leaves no entry in
/// the audit trail.
#[utoipa::path(get, path = "/api/v1/events/{id}", tag = "events", operation_id = "showEvent",
    params(("id" = String, Path, description = "The event's id, percent-encoded"),
           ("body" = Option<bool>, Query, description = "Whether with its body; `true` by default")),
    responses((status = 200, description = "The event", body = ShownEvent),
              (status = 404, description = "No such event", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn show(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
    audit: Audit,
    Query(mut params): Query,
) -> Result<Json<ShownEvent>, Problem> {
    let with_body = params.one_of("body", &[true, false], |with| if with { "true" } else { "false" });
    params.finish()?;
    let found = api.ask(api.operator().event(&event_id(&id)?)).await?;
    let mut event = found.ok_or_else(|| no_event(&id))?;
    if with_body == Some(false) {
        event.body = None;
        event.conflicts.iter_mut().for_each(|conflict| conflict.body = None);
    } else if event.body.is_some() || event.conflicts.iter().any(|conflict| conflict.body.is_some()) {
        audit.event(&id).reads("read_body", 1);
    }
    Ok(Json(api.shown_event(event)))
}

/// The exact bytes of an event, as Pepay sent them
#[utoipa::path(get, path = "/api/v1/events/{id}/body", tag = "events", operation_id = "showEventBody",
    params(("id" = String, Path, description = "The event's id, percent-encoded")),
    responses((status = 200, description = "The event's JSON, byte for byte", body = serde_json::Value, content_type = "application/json"),
              (status = 404, description = "No such event", body = Problem, content_type = "application/problem+json"),
              (status = 410, description = "Retention has removed the body", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn body(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
    audit: Audit,
    _: NoQuery,
) -> Result<Response, Problem> {
    let found = api.ask(api.operator().body(&event_id(&id)?)).await?;
    let body = found.ok_or_else(|| no_event(&id))?;
    let body = body.ok_or_else(|| Problem::gone("retention has removed the event's body"))?;
    audit.event(&id).reads("read_body", 1);
    Ok(([(CONTENT_TYPE, "application/json")], body).into_response())
}

/// Sends a settled event again to one target, marked `pepay-bridge-replay`
#[utoipa::path(post, path = "/api/v1/events/{id}/replay", tag = "events", operation_id = "replayEvent",
    params(("id" = String, Path, description = "The event's id, percent-encoded")),
    request_body = ReplayBody,
    responses((status = 202, description = "The delivery, which is on its way again", body = ShownDelivery),
              (status = 204, description = "It is on its way again; the delivery cannot be read at the moment"),
              (status = 404, description = "No such event or target", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "The delivery is not settled yet; `errors` names its state and the allowed ones", body = Problem, content_type = "application/problem+json"),
              (status = 410, description = "Retention has removed the body", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn replay(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
    audit: Audit,
    Body(members): Body,
) -> Result<Response, Problem> {
    let ReplayBody { target } = ReplayBody::read(members)?;
    audit.target(&target).event(&id);
    let id = event_id(&id)?;
    api.acted(&target, api.operator().replay(&target, &id)).await?;
    audit.note_changed(1);
    Ok(api.done(StatusCode::ACCEPTED, &target, &id).await)
}

/// Asks Pepay for an event and compares it with the stored one
///
/// Type, creation time and data are compared; the data by its meaning, not by its notation. Pepay is
/// asked with the account of the stream that brought the event. For an event that came by webhook
/// alone, each account is used until one finds it. Nothing is changed.
#[utoipa::path(post, path = "/api/v1/events/{id}/verify", tag = "events", operation_id = "verifyEvent",
    params(("id" = String, Path, description = "The event's id, percent-encoded")),
    request_body = Nothing,
    responses((status = 200, description = "What the comparison came to", body = Verification),
              (status = 404, description = "The bridge holds no such event", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "There is no API key, or too many ask at once", body = Problem, content_type = "application/problem+json"),
              (status = 410, description = "Retention has removed the body", body = Problem, content_type = "application/problem+json"),
              (status = 502, description = "Pepay did not answer with an event; `detail` has its own words", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn verify(
    State(api): State<Arc<Api>>,
    Segments(id): Segments<String>,
    audit: Audit,
    _: NoBody,
) -> Result<Json<Verification>, Problem> {
    audit.event(&id);
    let held = api.ask(api.operator().event(&event_id(&id)?)).await?.ok_or_else(|| no_event(&id))?;
    let body = held.body.ok_or_else(|| Problem::gone("retention has removed the event's body"))?;
    let by_stream = held.sightings.iter().find(|sighting| sighting.source != Source::Webhook);
    let stream = by_stream.map(|sighting| &*sighting.origin);
    Ok(Json(api.operations.verify(event_id(&id)?, stream, body.into()).await?))
}
