//! Streams: the list, a new connection, and reading again what Pepay has.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::Api;
use super::body::{Body, NoBody};
use super::params::{NoQuery, Segments};
use super::problem::Problem;
use super::schema::{BackfillBody, Nothing};
use crate::domain::operator::OperationError;
use crate::domain::status::StreamStatus;
use crate::web::audit::Audit;

/// Every configured stream.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Streams {
    streams: Vec<StreamStatus>,
}

/// Every configured stream, with its state
#[utoipa::path(get, path = "/api/v1/streams", tag = "streams", operation_id = "listStreams",
    responses((status = 200, description = "The streams", body = Streams)))]
pub(super) async fn list(State(api): State<Arc<Api>>, _: NoQuery) -> Json<Streams> {
    Json(Streams { streams: api.view().streams() })
}

/// Has a stream open a new connection
#[utoipa::path(post, path = "/api/v1/streams/{name}/reconnect", tag = "streams", operation_id = "reconnectStream",
    params(("name" = String, Path, description = "The stream's name")),
    request_body = Nothing,
    responses((status = 202, description = "The stream, which has been told", body = StreamStatus),
              (status = 404, description = "No such stream", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "The stream does not take the order now", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn reconnect(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    audit: Audit,
    _: NoBody,
) -> Result<(StatusCode, Json<StreamStatus>), Problem> {
    audit.stream(&name);
    let told = api.of_stream(&name, api.operations.reconnect(&name).await).and_then(|()| stream(&api, &name));
    audit.note_changed(u64::from(told.is_ok()));
    told
}

/// Has a stream read Pepay's list again, from a time or an event on
#[utoipa::path(post, path = "/api/v1/streams/{name}/backfill", tag = "streams", operation_id = "backfillStream",
    params(("name" = String, Path, description = "The stream's name")),
    request_body = BackfillBody,
    responses((status = 202, description = "The stream, whose `backfill` tells how far it is", body = StreamStatus),
              (status = 404, description = "No such stream", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "One runs already, or the stream does not take the order now", body = Problem, content_type = "application/problem+json")))]
pub(super) async fn backfill(
    State(api): State<Arc<Api>>,
    Segments(name): Segments<String>,
    audit: Audit,
    Body(members): Body,
) -> Result<(StatusCode, Json<StreamStatus>), Problem> {
    let BackfillBody { from, written } = BackfillBody::read(members)?;
    audit.stream(&name).filter(&written);
    let told =
        api.of_stream(&name, api.operations.backfill(&name, from).await).and_then(|()| stream(&api, &name));
    audit.note_changed(u64::from(told.is_ok()));
    told
}

fn stream(api: &Api, name: &str) -> Result<(StatusCode, Json<StreamStatus>), Problem> {
    let found = api.view().streams().into_iter().find(|stream| *stream.name == *name);
    let stream = found.ok_or_else(|| api.no_stream(name))?;
    Ok((StatusCode::ACCEPTED, Json(stream)))
}

impl Api {
    /// The outcome of an operation on the stream `name`; of one that is unknown, which there are.
    fn of_stream<T>(&self, name: &str, outcome: Result<T, OperationError>) -> Result<T, Problem> {
        outcome.map_err(|error| match error {
            OperationError::Unknown => self.no_stream(name),
            error => error.into(),
        })
    }

    fn no_stream(&self, name: &str) -> Problem {
        let streams = self.view().parts().streams();
        let known: Vec<_> = streams.iter().map(|stream| stream.name.to_string()).collect();
        Problem::no_such("stream", name, &known)
    }
}
