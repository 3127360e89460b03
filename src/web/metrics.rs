//! `/metrics`, in the Prometheus text format.

use std::sync::Arc;

use ::metrics::{counter, gauge};
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use super::readiness::Readiness;
use super::{Parts, STORE_LIMIT, oldest_age, within};
use crate::domain::clock::UnixMillis;
use crate::domain::status::{Circuit, StreamStatus, TargetStatus};
use crate::store::view::{Backlog, Usage};
use crate::telemetry::names;

/// A function that renders the metrics of the installed recorder as Prometheus text 0.0.4.
pub type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Returns every metric. Readiness, the states of streams and targets, backlogs and the usage of the
/// store are read for each request.
pub(super) async fn show(State((readiness, render)): State<(Arc<Readiness>, Render)>) -> Response {
    let view = &readiness.view;
    let usage = within(STORE_LIMIT, view.operator.usage());
    let (verdict, backlogs, usage) = tokio::join!(readiness.look(), view.backlogs(), usage);
    gauge!(names::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION"), "commit" => env!("PEPAY_BRIDGE_COMMIT"))
        .set(1.0);
    gauge!(names::READY).set(flag(verdict.reasons.is_empty()));
    match backlogs {
        Ok(backlogs) => {
            let (parts, now) = (view.parts(), view.clock.now());
            for backlog in &backlogs {
                let is_configured = parts.has_target(&backlog.target);
                refresh(backlog, is_configured, now);
                if !is_configured {
                    show_target(&TargetStatus::new(Arc::clone(&backlog.target)), false);
                }
            }
        }
        // The response still has the other metrics, and these gauges keep their last values.
        Err(error) => tracing::warn!(%error, "backlog metrics not refreshed"),
    }
    match usage {
        Ok(usage) => show_usage(&usage),
        Err(error) => tracing::warn!(%error, "metrics of the store's room not refreshed"),
    }
    let parts = view.parts();
    parts.targets().iter().for_each(|target| show_target(target, true));
    parts.streams().iter().for_each(show_stream);
    let text = of_the_present(&render(), &parts);
    ([(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

/// Returns `text` without outdated gauges, which the recorder never removes. These are the gauges of
/// streams that do not run, and the gauges of targets whose label `configured` is no longer true.
fn of_the_present(text: &str, parts: &Parts) -> String {
    let mut is_gauge = false;
    let present = text.split_inclusive('\n').filter(|line| {
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            is_gauge = kind.trim_end().ends_with(" gauge");
        }
        // Names contain no characters that need escapes.
        let label = |name: &str| Some(line.split_once(name)?.1.split_once('"')?.0);
        let stream = label("{stream=\"");
        let runs = |name: &str| parts.streams.iter().any(|stream| *stream.borrow().name == *name);
        let target = label("{target=\"").zip(label(",configured=\""));
        !is_gauge
            || (stream.is_none_or(runs)
                && target.is_none_or(|(name, said)| said == flag_name(parts.has_target(name))))
    });
    present.collect()
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 deliveries")]
fn refresh(backlog: &Backlog, configured: bool, now: UnixMillis) {
    let of_target = |name: &'static str| gauge!(name, "target" => backlog.target.to_string(), "configured" => flag_name(configured));
    of_target(names::BACKLOG).set(backlog.open as f64);
    of_target(names::BACKLOG_OLDEST).set(oldest_age(backlog, now));
    of_target(names::DELIVERIES_HELD).set(backlog.held as f64);
    of_target(names::DELIVERIES_DEAD).set(backlog.dead as f64);
    // A series that begins at its first delivery would hide that one from `increase()`.
    counter!(names::DELIVERIES_EXPIRED, "target" => backlog.target.to_string()).increment(0);
}

/// Returns a flag as the value of a label.
const fn flag_name(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}

/// Shows the same state as `/status`: with several replicas, that of the one that reads the stream.
fn show_stream(stream: &StreamStatus) {
    gauge!(names::STREAM_CONNECTED, "stream" => stream.name.to_string()).set(flag(stream.connected));
}

fn flag(is_set: bool) -> f64 {
    f64::from(u8::from(is_set))
}

fn show_target(target: &TargetStatus, configured: bool) {
    let name = || target.name.to_string();
    gauge!(names::TARGET_PAUSED, "target" => name(), "configured" => flag_name(configured))
        .set(flag(target.paused));
    gauge!(names::TARGET_REJECTING, "target" => name(), "configured" => flag_name(configured))
        .set(flag(target.rejecting.is_some()));
    gauge!(names::TARGET_LIMITED, "target" => name(), "configured" => flag_name(configured))
        .set(flag(target.limited_since.is_some()));
    gauge!(names::TARGET_CIRCUIT_OPEN, "target" => name(), "configured" => flag_name(configured))
        .set(flag(target.circuit != Circuit::Closed));
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
fn show_usage(usage: &Usage) {
    gauge!(names::STORE_BYTES).set(usage.database_bytes as f64);
    gauge!(names::STORE_WAL_BYTES).set(usage.wal_bytes as f64);
    gauge!(names::STORE_FREE_BYTES).set(usage.free_bytes as f64);
    if usage.disk_total_bytes > 0 {
        gauge!(names::DISK_FREE_BYTES).set(usage.disk_free_bytes as f64);
    }
    if let Some(at) = usage.last_backup_at {
        gauge!(names::LAST_BACKUP).set(at.0 as f64 / 1000.0);
    }
}
