//! The changing overview as server-sent events. One task looks at the state for all listeners together,
//! and only while there are any.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Api;
use super::history;
use super::params::NoQuery;
use super::problem::Problem;
use super::schema::OverviewEvent;
use crate::web::token::Admission;

/// The largest number of listeners; each takes one connection of the listener.
pub(super) const MAX_LISTENERS: usize = 16;

/// The time between two looks.
const INTERVAL: Duration = Duration::from_secs(1);

/// The time without an event after which a comment shows that the connection lives.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Looks at the state for all listeners, and keeps the history.
pub struct Sampler {
    api: Arc<Api>,
    live: watch::Sender<Arc<str>>,
}

impl Sampler {
    pub(super) const fn new(api: Arc<Api>, live: watch::Sender<Arc<str>>) -> Self {
        Self { api, live }
    }

    /// Runs until `stop`. Its end ends every stream of a listener.
    pub async fn run(self, stop: CancellationToken) {
        let look = async {
            let (mut looks, mut points) = (every(INTERVAL), every(history::INTERVAL));
            loop {
                tokio::select! {
                    biased;
                    _ = points.tick() => {
                        self.api.history.add(self.api.view().clock.now(), &self.api.operator().tally());
                    }
                    _ = looks.tick() => self.look().await,
                }
            }
        };
        let _: Option<Infallible> = stop.run_until_cancelled(look).await;
    }

    async fn look(&self) {
        // One receiver is the API's own, from which listeners get theirs.
        if self.live.receiver_count() > 1 {
            self.live.send_replace(self.api.rendered().await);
        }
    }
}

fn every(interval: Duration) -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

impl Api {
    /// Returns the overview as JSON, with the newest point of the history alone.
    async fn rendered(&self) -> Arc<str> {
        let overview = self.overview(self.history.newest()).await;
        // Its keys are text and its numbers finite.
        serde_json::to_string(&overview).unwrap_or_default().into()
    }
}

/// A stream of overviews: one at once, then one every second.
struct Listener {
    /// The first overview, until it is sent.
    first: Option<Arc<str>>,
    live: watch::Receiver<Arc<str>>,
    admission: Admission,
    _place: OwnedSemaphorePermit,
}

impl Listener {
    /// Returns the next overview; `None` once the bridge stops, or requires another token than the one
    /// with which this stream began.
    async fn next(&mut self) -> Option<Arc<str>> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        tokio::select! {
            biased;
            () = self.admission.expired() => return None,
            changed = self.live.changed() => changed.ok()?,
        }
        Some(Arc::clone(&self.live.borrow_and_update()))
    }
}

/// The overview, at once and then every second
///
/// `text/event-stream`: events `overview`, whose data is the JSON of the overview
/// with the newest point of its history alone.
#[utoipa::path(get, path = "/api/v1/live", tag = "bridge", operation_id = "listen",
    responses((status = 200, description = "Events `overview`, until the client or the bridge ends it, or the admin token is replaced", body = OverviewEvent, content_type = "text/event-stream")))]
pub(super) async fn listen(
    State(api): State<Arc<Api>>,
    Extension(admission): Extension<Admission>,
    _: NoQuery,
) -> Result<Response, Problem> {
    let Ok(place) = Arc::clone(&api.listeners).try_acquire_owned() else {
        let detail = format!("{MAX_LISTENERS} listen already");
        return Err(Problem::unavailable("too_many_listeners", detail));
    };
    // The receiver is made before the look, so that no change in between is missed.
    let mut live = api.live.clone();
    live.mark_unchanged();
    let listener = Listener { first: Some(api.rendered().await), live, admission, _place: place };
    let overviews = stream::unfold(listener, |mut listener| async {
        let overview = listener.next().await?;
        Some((Ok::<_, Infallible>(Event::default().event("overview").data(overview)), listener))
    });
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(overviews).keep_alive(keep_alive).into_response())
}
