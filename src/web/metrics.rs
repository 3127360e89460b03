//! `/metrics`, in the Prometheus text format.

use std::sync::Arc;

use ::metrics::gauge;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::oldest_age;
use super::readiness::Readiness;
use crate::domain::clock::UnixMillis;
use crate::store::archive::Backlog;
use crate::telemetry::names;

/// Renders the installed recorder's metrics as Prometheus text 0.0.4.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Shows every metric, readiness and the backlogs as they are now.
pub(super) async fn show(State((readiness, render)): State<(Arc<Readiness>, Render)>) -> Response {
    let view = &readiness.view;
    let (verdict, backlogs) = tokio::join!(readiness.look(), view.backlogs());
    gauge!(names::READY).set(f64::from(u8::from(verdict.reasons.is_empty())));
    match backlogs {
        Ok(backlogs) => {
            // A target that is configured no longer can neither catch up nor be looked at.
            let targets = view.parts().targets();
            let shown = |backlog: &&Backlog| targets.iter().any(|target| target.name == backlog.target);
            backlogs.iter().filter(shown).for_each(|backlog| refresh(backlog, view.clock.now()));
        }
        // The rest is worth showing still; the gauges keep their last values.
        Err(error) => tracing::warn!(%error, "backlog metrics not refreshed"),
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render()).into_response()
}

fn refresh(backlog: &Backlog, now: UnixMillis) {
    let target = backlog.target.to_string();
    #[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 deliveries")]
    gauge!(names::BACKLOG, "target" => target.clone()).set(backlog.open as f64);
    gauge!(names::BACKLOG_OLDEST, "target" => target).set(oldest_age(backlog, now));
}
