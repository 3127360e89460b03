//! The HTTP interfaces of the bridge: health, metrics, status, the admin API and the operator's page.
//!
//! [`public`] and [`admin`] return the routes of the two listeners. [`serve()`] serves them on a
//! listener, with limits. Every response reads its data from a [`View`]. Actions of an operator go to the
//! store, or to the running parts behind [`Operations`].

mod ages;
mod api;
mod audit;
mod findings;
mod guard;
mod health;
mod host;
mod metrics;
pub mod operations;
mod page;
mod parts;
mod readiness;
mod refused;
mod replicas;
mod routes;
mod serve;
mod status;
mod token;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router, middleware};
use http::{StatusCode, Uri};
use secrecy::SecretString;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use self::ages::Ages;
#[cfg(fuzzing)]
pub use self::api::fuzzing;
pub use self::api::{Sampler, document};
pub use self::audit::Trail;
pub use self::findings::Finder;
pub use self::health::waiting;
pub use self::metrics::Render;
pub use self::operations::Operations;
pub use self::parts::Parts;
pub use self::refused::HttpRefusals;
pub use self::routes::Routes;
pub use self::serve::{Limits, serve};
pub use self::token::{Scope, Token, Tokens};

use self::api::problem::Problem;
use self::guard::Guard;
use self::readiness::Readiness;
use crate::domain::clock::{Clock, UnixMillis};
use crate::domain::status::StreamStatus;
use crate::store::cluster::Cluster;
use crate::store::operator::OperatorStore;
use crate::store::view::Backlog;

/// The settings of the two listeners.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The address of the public listener, for webhooks and health.
    pub listen: SocketAddr,
    /// The address of the private listener, for metrics, status and administration. Without a token it is
    /// a loopback address.
    pub admin_listen: SocketAddr,
    /// The bearer token of the private listener that permits every request.
    pub admin_token: Option<SecretString>,
    /// Further tokens of the private listener.
    pub tokens: Vec<Token>,
    /// The time for which an idle inbound connection is kept.
    pub keep_alive: Duration,
}

impl Settings {
    /// Returns every token of the private listener.
    pub fn all_tokens(&self) -> Vec<Token> {
        let admin = self.admin_token.iter().map(|secret| Token {
            name: "server.admin_token".into(),
            scope: Scope::Operate,
            secret: secret.clone(),
        });
        admin.chain(self.tokens.iter().cloned()).collect()
    }
}

/// The time limit of a query to the store.
const STORE_LIMIT: Duration = Duration::from_secs(2);

/// The state that responses show.
#[derive(Clone, Debug)]
pub struct View {
    /// The store.
    pub operator: OperatorStore,
    /// The running parts.
    pub parts: watch::Receiver<Arc<Parts>>,
    /// The current time.
    pub clock: Clock,
    /// The time at which the process started, by the machine's clock.
    pub started: UnixMillis,
    /// The requests to the public listener that no handler took.
    pub refusals: HttpRefusals,
    /// The beginnings of what streams and targets are in, while the clock may be set back.
    pub ages: Ages,
    /// The replicas that share the store; `None` for a store of one process.
    pub cluster: Option<watch::Receiver<Arc<Cluster>>>,
    /// Cancelled once the process is shutting down.
    pub stopping: CancellationToken,
}

impl View {
    /// Returns the present running parts.
    pub fn parts(&self) -> Arc<Parts> {
        Arc::clone(&self.parts.borrow())
    }

    fn uptime(&self) -> Duration {
        // The clock may have been corrected by that of the store since the start.
        self.clock.now().since(self.clock.corrected(self.started))
    }

    /// Returns the present status of each stream, with beginnings that do not depend on a clock which was
    /// set back.
    fn streams(&self) -> Vec<StreamStatus> {
        let (now, mut streams) = (self.clock.now(), self.parts().streams());
        for stream in &mut streams {
            let begin = |state, since| self.ages.begin((state, Arc::clone(&stream.name)), since, now);
            let unsteady = stream.unsteady_since.map(|since| begin("unsteady stream", since));
            (stream.since, stream.unsteady_since) = (begin("stream", stream.since), unsteady);
        }
        streams
    }

    /// Returns the backlog of each target. The time of the oldest delivery does not depend on a clock
    /// which was set back.
    async fn backlogs(&self) -> Result<Vec<Backlog>, String> {
        let mut backlogs = within(STORE_LIMIT, self.operator.backlogs()).await?;
        let now = self.clock.now();
        for backlog in &mut backlogs {
            let begin = |oldest| self.ages.begin(("backlog", Arc::clone(&backlog.target)), oldest, now);
            backlog.oldest = backlog.oldest.map(begin);
        }
        Ok(backlogs)
    }
}

/// Returns the result of a query to the store within `limit`, or its error as text.
async fn within<T, E: ToString>(
    limit: Duration,
    question: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, question).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err("the store does not answer".to_owned()),
    }
}

/// Returns those of `backlogs` that wait for targets that are not `configured`.
fn of_removed(backlogs: &[Backlog], configured: impl Fn(&str) -> bool) -> Vec<&Backlog> {
    backlogs.iter().filter(|backlog| backlog.is_waiting() && !configured(&backlog.target)).collect()
}

/// Returns the warning for an operator about a removed target.
fn warning_of_removed(backlog: &Backlog) -> String {
    format!(
        "the target {} is not configured any more, and {} deliveries wait for it: move them (`deliveries move`), or cancel them",
        backlog.target,
        backlog.in_words()
    )
}

/// Returns the age of a target's oldest open delivery, in seconds; 0 if there is none.
fn oldest_age(backlog: &Backlog, now: UnixMillis) -> f64 {
    backlog.oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64())
}

/// Adds health to the `routes` of the public listener, whose replaceable ones are those of webhooks.
pub fn public(view: View, routes: &Routes) {
    let readiness = Arc::new(Readiness::new(view).without_quotes());
    routes.set_fixed(health_routes(&readiness).fallback(not_found));
}

/// Returns the routes of the private listener, and the sampler that supplies the API's event streams.
///
/// If there are `tokens`, every path needs one, except health and the files of the page. If there is
/// none, the page, the API and `/status` accept only loopback names in `Host`. Calls that may change
/// something are noted in the `trail`.
pub fn admin(
    view: View,
    render: Render,
    tokens: &Tokens,
    operations: Arc<dyn Operations>,
    trail: Trail,
) -> (Router, Sampler) {
    let guard = Guard::new(view.clock.clone());
    let readiness = Arc::new(Readiness::new(view));
    let (api, sampler) = api::new(Arc::clone(&readiness), operations, tokens.clone(), trail.clone());
    let pages = Router::new()
        .route("/metrics", get(metrics::show).with_state((Arc::clone(&readiness), render)))
        .route("/status", get(status::show).with_state(Arc::clone(&readiness)))
        .nest("/api", api)
        .method_not_allowed_fallback(method_not_allowed)
        .fallback(nothing_here)
        .layer(middleware::from_fn_with_state((tokens.clone(), guard.clone(), trail), token::check));
    let pages = pages
        .merge(page::routes())
        .layer(middleware::from_fn_with_state((tokens.clone(), guard), host::check));
    (pages.merge(health_routes(&readiness)), sampler)
}

fn health_routes(readiness: &Arc<Readiness>) -> Router {
    Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/readyz/intake", get(health::intake))
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(Arc::clone(readiness))
}

async fn not_found() -> Response {
    nothing_here(Uri::default()).await
}

async fn nothing_here(uri: Uri) -> Response {
    refuse(uri.path(), StatusCode::NOT_FOUND, "not_found", "there is nothing at this path")
}

async fn method_not_allowed() -> Response {
    error(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", "this path does not take that method")
}

fn is_api(path: &str) -> bool {
    path == "/api" || path.starts_with("/api/")
}

/// Returns a refusal of a request to `path`: problem details (RFC 9457) for the API, and else an `error`
/// object.
fn refuse(path: &str, status: StatusCode, code: &str, message: &str) -> Response {
    if is_api(path) {
        Problem::new(status, code, message).into_response()
    } else {
        error(status, code, message)
    }
}

fn error(status: StatusCode, code: &str, message: &str) -> Response {
    (status, Json(json!({ "error": { "code": code, "message": message } }))).into_response()
}

#[cfg(test)]
mod tests;
