//! `/metrics`, in the Prometheus text format.

use std::sync::Arc;

use ::metrics::gauge;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::readiness::Readiness;
use super::{STORE_LIMIT, oldest_age, within};
use crate::domain::clock::UnixMillis;
use crate::domain::status::{Circuit, TargetStatus};
use crate::store::archive::{Backlog, Usage};
use crate::telemetry::names;

/// Renders the installed recorder's metrics as Prometheus text 0.0.4.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Shows every metric, the backlogs and what the store takes as they are now.
pub(super) async fn show(State((readiness, render)): State<(Arc<Readiness>, Render)>) -> Response {
    let view = &readiness.view;
    let (backlogs, usage) = tokio::join!(view.backlogs(), within(STORE_LIMIT, view.archive.usage()));
    match backlogs {
        Ok(backlogs) => {
            // A target that is configured no longer can neither catch up nor be looked at.
            let shown =
                |backlog: &&Backlog| view.targets.iter().any(|target| target.borrow().name == backlog.target);
            backlogs.iter().filter(shown).for_each(|backlog| refresh(backlog, view.clock.now()));
        }
        // The rest is worth showing still; the gauges keep their last values.
        Err(error) => tracing::warn!(%error, "backlog metrics not refreshed"),
    }
    match usage {
        Ok(usage) => show_usage(&usage),
        Err(error) => tracing::warn!(%error, "metrics of the store's room not refreshed"),
    }
    view.targets.iter().for_each(|target| show_target(&target.borrow()));
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], render()).into_response()
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 deliveries")]
fn refresh(backlog: &Backlog, now: UnixMillis) {
    let target = || backlog.target.to_string();
    gauge!(names::BACKLOG, "target" => target()).set(backlog.open as f64);
    gauge!(names::BACKLOG_OLDEST, "target" => target()).set(oldest_age(backlog, now));
    gauge!(names::DELIVERIES_HELD, "target" => target()).set(backlog.held as f64);
    gauge!(names::DELIVERIES_DEAD, "target" => target()).set(backlog.dead as f64);
}

fn show_target(target: &TargetStatus) {
    let flag = |is_set| if is_set { 1.0 } else { 0.0 };
    let name = || target.name.to_string();
    gauge!(names::TARGET_PAUSED, "target" => name()).set(flag(target.paused));
    gauge!(names::TARGET_CIRCUIT_OPEN, "target" => name()).set(flag(target.circuit != Circuit::Closed));
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
fn show_usage(usage: &Usage) {
    gauge!(names::STORE_BYTES).set(usage.database_bytes as f64);
    gauge!(names::STORE_WAL_BYTES).set(usage.wal_bytes as f64);
    gauge!(names::STORE_FREE_BYTES).set(usage.free_bytes as f64);
    gauge!(names::DISK_FREE_BYTES).set(usage.disk_free_bytes as f64);
}
