//! `/metrics`, in the Prometheus text format.

use std::sync::Arc;

use ::metrics::gauge;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::readiness::Readiness;
use super::{Parts, STORE_LIMIT, oldest_age, within};
use crate::domain::clock::UnixMillis;
use crate::domain::status::{Circuit, TargetStatus};
use crate::store::view::{Backlog, Usage};
use crate::telemetry::names;

/// Renders the installed recorder's metrics as Prometheus text 0.0.4.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Shows every metric, readiness and the backlogs as they are now.
pub(super) async fn show(State((readiness, render)): State<(Arc<Readiness>, Render)>) -> Response {
    let view = &readiness.view;
    let usage = within(STORE_LIMIT, view.operator.usage());
    let (verdict, backlogs, usage) = tokio::join!(readiness.look(), view.backlogs(), usage);
    gauge!(names::READY).set(f64::from(u8::from(verdict.reasons.is_empty())));
    match backlogs {
        Ok(backlogs) => backlogs.iter().for_each(|backlog| refresh(backlog, view.clock.now())),
        // The rest is worth showing still; the gauges keep their last values.
        Err(error) => tracing::warn!(%error, "backlog metrics not refreshed"),
    }
    match usage {
        Ok(usage) => show_usage(&usage),
        Err(error) => tracing::warn!(%error, "metrics of the store's room not refreshed"),
    }
    let parts = view.parts();
    parts.targets().iter().for_each(show_target);
    let text = of_the_present(&render(), &parts);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// `text` without the gauges of targets and streams that do not run: what is
/// recorded is never forgotten, and a gauge is about the present. A target that
/// is configured no longer can neither catch up nor be looked at.
fn of_the_present(text: &str, parts: &Parts) -> String {
    let mut is_gauge = false;
    let present = text.split_inclusive('\n').filter(|line| {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            is_gauge = kind.trim_end().ends_with(" gauge");
        }
        let runs = |label: &str, is_there: &dyn Fn(&str) -> bool| {
            // Names hold nothing that would have to be escaped.
            let value = line.split_once(label).and_then(|(_, rest)| rest.split_once('"'));
            value.is_none_or(|(name, _)| is_there(name))
        };
        !is_gauge
            || (runs("{target=\"", &|name| parts.targets.iter().any(|target| *target.borrow().name == *name))
                && runs("{stream=\"", &|name| {
                    parts.streams.iter().any(|stream| *stream.borrow().name == *name)
                }))
    });
    present.collect()
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
    let flag = |is_set: bool| f64::from(u8::from(is_set));
    let name = || target.name.to_string();
    gauge!(names::TARGET_PAUSED, "target" => name()).set(flag(target.paused));
    gauge!(names::TARGET_REJECTING, "target" => name()).set(flag(target.rejecting.is_some()));
    gauge!(names::TARGET_LIMITED, "target" => name()).set(flag(target.limited_since.is_some()));
    gauge!(names::TARGET_CIRCUIT_OPEN, "target" => name()).set(flag(target.circuit != Circuit::Closed));
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
fn show_usage(usage: &Usage) {
    gauge!(names::STORE_BYTES).set(usage.database_bytes as f64);
    gauge!(names::STORE_WAL_BYTES).set(usage.wal_bytes as f64);
    gauge!(names::STORE_FREE_BYTES).set(usage.free_bytes as f64);
    gauge!(names::DISK_FREE_BYTES).set(usage.disk_free_bytes as f64);
}
