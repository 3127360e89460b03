//! The control surface under `/_simulator/`: the functions of the handle for other processes. It asks
//! for no key, so it belongs on a private listener.

use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, body::Bytes};
use http::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::fault::Fault;
use super::options::Copies;
use super::statistics::Statistics;
use super::switches::Switches;
use super::{LedgerRow, Served, Simulator};
use crate::domain::event::EventId;
use crate::pepay::envelope;

/// The largest number of made-up events of one request.
const MAX_PLAYED: usize = 10_000;
/// The largest number of copies of one event by one channel.
const MAX_COPIES: u32 = 100;
/// The largest number of ledger rows in one answer.
const MAX_ROWS: usize = 10_000;

pub(super) fn routes() -> Router<Served> {
    Router::new()
        .route("/_simulator/events", post(publish))
        .route("/_simulator/play", post(play))
        .route("/_simulator/faults", post(inject).delete(clear_faults))
        .route("/_simulator/switches", get(switches).put(set_switches))
        .route("/_simulator/statistics", get(statistics))
        .route("/_simulator/ledger", get(ledger))
}

/// The error of a control request.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"error": self.1}))).into_response()
    }
}

/// Reads a body as JSON, whatever its content type: `curl -d` is enough.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body)
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, format!("the body: {error}")))
}

#[derive(Deserialize)]
struct CopiesQuery {
    stream: Option<u32>,
    webhook: Option<u32>,
}

async fn publish(
    State(simulator): State<Simulator>,
    Query(copies): Query<CopiesQuery>,
    body: Bytes,
) -> Result<Response, Failure> {
    let event = envelope::parse(body, simulator.0.clock.now())
        .map_err(|error| Failure(StatusCode::BAD_REQUEST, error.to_string()))?;
    let usual = simulator.options().copies;
    let copies = Copies {
        stream: copies.stream.unwrap_or(usual.stream).min(MAX_COPIES),
        webhook: copies.webhook.unwrap_or(usual.webhook).min(MAX_COPIES),
    };
    let id = event.id.clone();
    simulator
        .publish_with(event, copies)
        .map_err(|error| Failure(StatusCode::CONFLICT, error.to_string()))?;
    Ok(Json(json!({"id": id.as_str()})).into_response())
}

#[derive(Deserialize)]
struct PlayRequest {
    count: usize,
}

async fn play(State(simulator): State<Simulator>, body: Bytes) -> Result<Response, Failure> {
    let request: PlayRequest = read(&body)?;
    let ids = simulator.play(request.count.min(MAX_PLAYED));
    let ids: Vec<_> = ids.iter().map(EventId::as_str).collect();
    Ok(Json(json!({"ids": ids})).into_response())
}

async fn inject(State(simulator): State<Simulator>, body: Bytes) -> Result<StatusCode, Failure> {
    let fault: Fault = read(&body)?;
    simulator.inject(fault).map_err(|error| Failure(StatusCode::CONFLICT, error.to_string()))?;
    Ok(StatusCode::NO_CONTENT)
}

async fn clear_faults(State(simulator): State<Simulator>) -> StatusCode {
    simulator.clear_faults();
    StatusCode::NO_CONTENT
}

async fn switches(State(simulator): State<Simulator>) -> Json<Switches> {
    Json(simulator.switches())
}

/// Sets every switch. Switches that the body does not name get their defaults.
async fn set_switches(State(simulator): State<Simulator>, body: Bytes) -> Result<StatusCode, Failure> {
    simulator.set_switches(read(&body)?);
    Ok(StatusCode::NO_CONTENT)
}

async fn statistics(State(simulator): State<Simulator>) -> Json<Statistics> {
    Json(simulator.statistics())
}

#[derive(Deserialize)]
struct LedgerQuery {
    after: Option<String>,
    limit: Option<usize>,
}

async fn ledger(
    State(simulator): State<Simulator>,
    Query(query): Query<LedgerQuery>,
) -> Json<Vec<LedgerRow>> {
    Json(simulator.ledger(query.after.as_deref(), query.limit.unwrap_or(100).min(MAX_ROWS)))
}
