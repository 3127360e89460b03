//! The admin API under `/api`, for operators.
//!
//! Each kind of resource has one file. Unknown or wrong parameters and members are refused ([`params`],
//! [`body`]). Errors are problem details ([`problem`]). Every call that may change something leaves an
//! entry in the [audit trail](crate::web::audit). The document at `/api/openapi.json` is compared
//! with the same code ([`openapi`]).

mod audit;
mod body;
mod bridge;
mod bulk;
mod deliveries;
mod described;
mod events;
mod export;
mod filter;
mod history;
mod live;
mod openapi;
mod overview;
mod params;
pub(super) mod problem;
mod schema;
mod shown;
mod streams;
mod targets;
#[cfg(test)]
mod tests;
mod under_way;

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router, middleware};
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, StatusCode};
use tokio::sync::{Semaphore, watch};
use tower_http::catch_panic::CatchPanicLayer;

pub use self::live::Sampler;
pub use self::openapi::code::document;

use self::history::History;
use self::overview::Assessments;
use self::problem::Problem;
use self::shown::ShownDelivery;
use self::under_way::UnderWay;
use super::audit::{Trail, record};
use super::operations::Operations;
use super::readiness::Readiness;
use super::serve::log_panic;
use super::{STORE_LIMIT, Tokens, View};
use crate::domain::event::EventId;
use crate::store::error::ActError;
use crate::store::operator::OperatorStore;

/// The time limit of a change that another replica may have to apply. The replica has 10 s to respond,
/// and a take-over of its leases may come first.
const OTHERS_LIMIT: Duration = Duration::from_secs(12);

/// The state that the calls of the API share.
pub(super) struct Api {
    readiness: Arc<Readiness>,
    operations: Arc<dyn Operations>,
    assessments: Assessments,
    history: History,
    under_way: UnderWay,
    /// The newest overview as JSON, for the event streams.
    live: watch::Receiver<Arc<str>>,
    /// The permits of event streams.
    listeners: Arc<Semaphore>,
    /// The permits of exports.
    exports: Arc<Semaphore>,
    tokens: Tokens,
}

/// Returns the routes below `/api`, and the sampler that supplies their event streams.
pub(super) fn new(
    readiness: Arc<Readiness>,
    operations: Arc<dyn Operations>,
    tokens: Tokens,
    trail: Trail,
) -> (Router, Sampler) {
    let (sender, live) = watch::channel(Arc::default());
    let api = Arc::new(Api {
        readiness,
        operations,
        assessments: Assessments::default(),
        history: History::default(),
        under_way: UnderWay::default(),
        live,
        listeners: Arc::new(Semaphore::new(live::MAX_LISTENERS)),
        exports: Arc::new(Semaphore::new(export::MAX_EXPORTS)),
        tokens,
    });
    (routes(Arc::clone(&api), trail), Sampler::new(api, sender))
}

fn routes(api: Arc<Api>, trail: Trail) -> Router {
    let v1 = Router::new()
        .route("/events", get(events::list))
        .route("/export", get(export::export))
        .route("/events/{id}", get(events::show))
        .route("/events/{id}/body", get(events::body))
        .route("/events/{id}/replay", post(events::replay))
        .route("/events/{id}/verify", post(events::verify))
        .route("/deliveries", get(deliveries::list))
        .route("/deliveries/replay", post(bulk::replay))
        .route("/deliveries/move", post(bulk::move_all))
        .route("/deliveries/{action}", post(bulk::act))
        .route("/deliveries/{target}/{event_id}", get(deliveries::show))
        .route("/deliveries/{target}/{event_id}/{action}", post(deliveries::act))
        .route("/bulk", get(under_way::list))
        .route("/targets", get(targets::list))
        .route("/targets/{name}/pause", post(targets::pause))
        .route("/targets/{name}/resume", post(targets::resume))
        .route("/targets/{name}/test", post(targets::test))
        .route("/streams", get(streams::list))
        .route("/streams/{name}/reconnect", post(streams::reconnect))
        .route("/streams/{name}/backfill", post(streams::backfill))
        .route("/reload", post(bridge::reload))
        .route("/alerts/test", post(bridge::test_alerts))
        .route("/overview", get(overview::show))
        .route("/history", get(history::show))
        .route("/audit", get(audit::list))
        .route("/live", get(live::listen));
    Router::new()
        .nest("/v1", v1)
        .route("/openapi.json", get(openapi::show))
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state(trail, record))
        .layer(CatchPanicLayer::custom(panicked))
        .layer(middleware::map_response(private))
        .with_state(api)
}

async fn nothing_here() -> Problem {
    Problem::not_found("there is nothing at this path")
}

async fn method_not_allowed() -> Problem {
    let detail = "this path does not take that method";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)
}

/// Logs the panic of a handler and returns 500. The process continues.
#[expect(clippy::needless_pass_by_value, reason = "this is how the layer hands a panic over")]
fn panicked(panic: Box<dyn Any + Send>) -> Response {
    log_panic(&*panic);
    let detail = "the bridge has failed on this request";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", detail).into_response()
}

/// Adds headers that forbid proxies and browsers to store a response, which may show payments, or to
/// guess its type.
async fn private(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

impl Api {
    fn view(&self) -> &View {
        &self.readiness.view
    }

    fn operator(&self) -> &OperatorStore {
        &self.view().operator
    }

    /// Returns the result of a query, within [`STORE_LIMIT`].
    async fn ask<T, E: Into<Problem>>(
        &self,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        self.ask_within(STORE_LIMIT, question).await
    }

    /// Returns the result of a query, within `limit`.
    async fn ask_within<T, E: Into<Problem>>(
        &self,
        limit: Duration,
        question: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        in_time(limit, question, "the store does not answer").await
    }

    /// Returns the result of a change, within a limit. The limit is longer if there are other replicas.
    async fn have<T, E: Into<Problem>>(
        &self,
        change: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Problem> {
        let otherwise = "the store does not answer; it may still do what it was asked for";
        let limit = if self.view().has_other_replicas() { OTHERS_LIMIT } else { STORE_LIMIT };
        in_time(limit, change, otherwise).await
    }

    /// Returns the result of an action on a delivery to `target`, within the limit of a change.
    async fn acted<T>(
        &self,
        target: &str,
        act: impl Future<Output = Result<T, ActError>>,
    ) -> Result<T, Problem> {
        let named = async {
            act.await.map_err(|error| match error {
                ActError::NoSuchTarget => self.no_target(target),
                error => error.into(),
            })
        };
        self.have(named).await
    }

    /// Returns the response to a change that is stored: `status`, and the delivery after the change.
    ///
    /// If the delivery cannot be read, the response is 204 without content. An error would make a script
    /// repeat the change.
    async fn done(&self, status: StatusCode, target: &str, id: &EventId) -> Response {
        match self.delivery(target, id).await {
            Ok(delivery) => (status, Json(delivery)).into_response(),
            Err(problem) => {
                let (event_id, error) = (id.as_str(), problem.detail());
                tracing::warn!(target, event_id, error, "done, but the delivery cannot be shown");
                StatusCode::NO_CONTENT.into_response()
            }
        }
    }

    async fn delivery(&self, target: &str, id: &EventId) -> Result<ShownDelivery, Problem> {
        let event = self.ask(self.operator().event(id)).await?.map(|event| self.shown_event(event));
        let mut deliveries = event.into_iter().flat_map(|event| event.deliveries);
        let shown = deliveries.find(|delivery| delivery.goes_to(target));
        shown.ok_or_else(|| {
            Problem::not_found(format!("there is no delivery of the event `{id}` to a target `{target}`"))
        })
    }
}

async fn in_time<T, E: Into<Problem>>(
    limit: Duration,
    work: impl Future<Output = Result<T, E>>,
    otherwise: &str,
) -> Result<T, Problem> {
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(Into::into),
        Err(_) => Err(Problem::unavailable("store_unavailable", otherwise)),
    }
}

/// Access to private parsers for the fuzz targets of `tests/fuzz`.
#[cfg(fuzzing)]
pub mod fuzzing {
    use super::body::Members;
    use super::{bulk, filter, params, schema};
    use crate::domain::operator::{Filter, Page};

    /// Parses a body as each call with a body does. Returns the number of calls that accept it.
    pub fn bodies(json: &[u8]) -> usize {
        let members = || Members::read(json);
        let taken = [
            members().and_then(schema::BulkBody::read).is_ok(),
            members().and_then(schema::ReplayBody::read).is_ok(),
            members().and_then(schema::BackfillBody::read).is_ok(),
            members().and_then(bulk::bodies::ReplayAllBody::read).is_ok(),
            members().and_then(bulk::bodies::MoveBody::read).is_ok(),
        ];
        taken.into_iter().filter(|taken| *taken).count()
    }

    /// Parses a query as the list of events does. Returns `None` if it is wrong.
    pub fn listing(query: &str) -> Option<(Filter, Page)> {
        let mut params = params::Params::query(query);
        let (mut filter, page) = (filter::filter(&mut params), filter::page(&mut params));
        filter.text = filter::searched(&mut params);
        params.finish().ok().map(|()| (filter, page))
    }
}
