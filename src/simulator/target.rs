//! A sample target. It receives the bridge's deliveries, keeps a ledger of them, and fails on request.
//! It is also an example of a target.

mod fault_plan;
mod ledger;
mod signature;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Json, Router};
use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};
use serde::Deserialize;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use self::fault_plan::FaultPlan;
pub use self::fault_plan::Reaction;
use self::ledger::Ledger;
pub use self::ledger::{Delivery, Totals};
pub use self::signature::{InvalidSecret, Verifier};
use super::lock;
use super::server::{self, Wire};
use crate::domain::clock::Clock;
use crate::pepay::envelope;

/// The largest body it takes, in bytes.
const MAX_BODY: usize = 4 * 1024 * 1024;
/// The default number of deliveries in `GET /ledger`.
const DEFAULT_ROWS: usize = 100;

/// The settings of a sample target.
#[derive(Clone, Debug)]
pub struct Options {
    /// Checks Standard Webhooks signatures; without it none is required.
    pub verifier: Option<Verifier>,
    /// The number of deliveries that the ledger keeps. Dropped ones are not considered in the search
    /// for repeated events.
    pub keep: usize,
    /// The seed of failures by ratio.
    pub seed: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { verifier: None, keep: 100_000, seed: 1 }
    }
}

/// A sample target. Cheap to clone; all clones are the same target.
///
/// It takes `POST` on every path and shows its ledger on `GET /ledger`.
#[derive(Clone, Debug)]
pub struct Target(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    verifier: Option<Verifier>,
    clock: Clock,
    ledger: Mutex<Ledger>,
    /// Published under the ledger's lock, so that they agree with the ledger.
    totals: watch::Sender<Totals>,
    plan: Mutex<FaultPlan>,
}

impl Target {
    /// Creates a target that has received nothing and returns 200 for every request.
    pub fn new(options: Options, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            verifier: options.verifier,
            clock,
            ledger: Mutex::new(Ledger::new(options.keep)),
            totals: watch::Sender::default(),
            plan: Mutex::new(FaultPlan::new(options.seed)),
        }))
    }

    /// Serves on `listener` until `stop`. The ledger stays, and serving again adds to it.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) {
        let router = Router::new()
            .route("/ledger", get(show_ledger).post(receive))
            .fallback(post(receive))
            .layer(DefaultBodyLimit::max(MAX_BODY))
            .with_state(self.clone());
        server::serve(listener, router, &stop).await;
    }

    /// Gives the next `times` requests the reaction `reaction`, after those of earlier calls. At most
    /// 64 such entries wait; later ones are dropped.
    pub fn next(&self, times: u32, reaction: Reaction) {
        lock(&self.0.plan).next(times, reaction);
    }

    /// Gives the share `ratio` (0 to 1) of all other requests the reaction `reaction`.
    pub fn fail_ratio(&self, ratio: f64, reaction: Reaction) {
        lock(&self.0.plan).fail_ratio(ratio, reaction);
    }

    /// Delays every answer by this time.
    pub fn delay(&self, delay: Duration) {
        lock(&self.0.plan).delay = delay;
    }

    /// Goes back to returning 200 for every request at once.
    pub fn heal(&self) {
        lock(&self.0.plan).heal();
    }

    /// Returns the counts so far.
    pub fn totals(&self) -> Totals {
        *self.0.totals.borrow()
    }

    /// Waits until `reached` holds. Waits for ever if it never does: the caller
    /// sets the limit.
    pub async fn until(&self, mut reached: impl FnMut(&Totals) -> bool) -> Totals {
        let mut changes = self.0.totals.subscribe();
        match changes.wait_for(|totals| reached(totals)).await {
            Ok(totals) => *totals,
            // The sender lives in `self`.
            Err(_) => self.totals(),
        }
    }

    /// Returns every kept delivery, in the order of arrival.
    pub fn deliveries(&self) -> Vec<Delivery> {
        lock(&self.0.ledger).newest(usize::MAX)
    }

    fn record<T>(&self, change: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledger = lock(&self.0.ledger);
        let changed = change(&mut ledger);
        self.0.totals.send_replace(ledger.totals());
        changed
    }
}

#[derive(Deserialize)]
struct LedgerQuery {
    limit: Option<usize>,
}

/// Totals and the newest deliveries, oldest of them first.
async fn show_ledger(State(target): State<Target>, Query(query): Query<LedgerQuery>) -> Response {
    let ledger = lock(&target.0.ledger);
    let deliveries = ledger.newest(query.limit.unwrap_or(DEFAULT_ROWS));
    Json(json!({"totals": ledger.totals(), "deliveries": deliveries})).into_response()
}

async fn receive(
    State(target): State<Target>,
    Extension(wire): Extension<Wire>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let signature_valid = target.0.verifier.as_ref().map(|verifier| verifier.verify(&headers, &body));
    let event = envelope::parse(body.clone(), target.0.clock.now()).ok();
    let delivery = Delivery::new(headers, body, event.as_ref(), signature_valid, target.0.clock.now());
    tracing::info!(
        event_id = %delivery.id, kind = delivery.kind.as_deref(), object = delivery.object_id.as_deref(),
        attempt = delivery.attempt, "received"
    );
    let acceptable = !delivery.id.is_empty() && event.is_some();
    let number = target.record(|ledger| ledger.arrive(delivery));
    let mut visit = Visit { target: &target, number, answer: None };
    let (reaction, delay) = lock(&target.0.plan).react();
    tokio::time::sleep(delay).await;
    let response = match reaction {
        Some(Reaction::Answer(status, retry_after)) => match retry_after {
            Some(after) => (status, [(RETRY_AFTER, after)]).into_response(),
            None => status.into_response(),
        },
        Some(Reaction::Hang) => std::future::pending().await,
        Some(Reaction::Reset) => {
            wire.sever();
            // It is never sent, since the connection is broken.
            return Response::default();
        }
        None if signature_valid == Some(false) => {
            refuse(StatusCode::UNAUTHORIZED, "the signature is not valid")
        }
        None if !acceptable => refuse(StatusCode::BAD_REQUEST, "this is no event, or its id is in no header"),
        None => Json(json!({"ok": true})).into_response(),
    };
    visit.answer = Some(response.status());
    response
}

fn refuse(status: StatusCode, error: &str) -> Response {
    (status, Json(json!({"error": error}))).into_response()
}

/// A request in the handler. It ends with its answer, or without one if the connection ends first: then
/// the handler's future is dropped.
struct Visit<'a> {
    target: &'a Target,
    number: u64,
    answer: Option<StatusCode>,
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        self.target.record(|ledger| ledger.leave(self.number, self.answer));
    }
}
