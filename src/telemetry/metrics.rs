//! The metrics of the process: one recorder, which is read as Prometheus text. It has no listener
//! of its own; the admin listener serves the text of [`Metrics::render`].

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use metrics::{describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use tokio_util::sync::CancellationToken;

use super::{names, process};

/// How often recorded durations are moved into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// Buckets in seconds, from half a millisecond to a minute.
const SECONDS: [f64; 16] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// Buckets in seconds, from half a millisecond to a day: retries and repeats come hours later.
const LONG_SECONDS: [f64; 21] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0,
    1800.0, 7200.0, 21_600.0, 86_400.0,
];
/// Buckets in seconds, from 50 µs to 5 s: a commit is a few writes to a local disk.
const COMMIT_SECONDS: [f64; 16] = [
    0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0,
];
/// Buckets in events.
const BATCH_EVENTS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Reads the metrics of this process.
#[derive(Clone)]
pub struct Metrics(PrometheusHandle);

/// Why there are no metrics.
#[derive(Debug, thiserror::Error)]
#[error("metrics cannot be set up: {0}")]
pub struct MetricsError(#[from] BuildError);

impl Metrics {
    /// Makes this process record metrics. The first call installs the recorder; later calls return
    /// the same one.
    ///
    /// # Errors
    /// [`MetricsError`] if another recorder was installed before.
    pub fn install() -> Result<Self, MetricsError> {
        static INSTALLED: OnceLock<Metrics> = OnceLock::new();
        static INSTALLING: Mutex<()> = Mutex::new(());
        let _one_at_a_time = INSTALLING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(metrics) = INSTALLED.get() {
            return Ok(metrics.clone());
        }
        let recorder = recorder()?;
        let metrics = Self(recorder.handle());
        metrics::set_global_recorder(recorder).map_err(BuildError::from)?;
        describe();
        Ok(INSTALLED.get_or_init(|| metrics).clone())
    }

    /// Returns all recorded metrics and those of the process, as Prometheus text (version 0.0.4).
    pub fn render(&self) -> String {
        self.0.render() + &process::render()
    }

    /// Moves recorded durations into their buckets. They accumulate in memory between two calls, so
    /// the bridge calls this every few seconds, scraped or not.
    pub fn upkeep(&self) {
        self.0.run_upkeep();
    }

    /// Calls [`upkeep`](Self::upkeep) every few seconds until `stop`.
    pub async fn keep_up(self, stop: CancellationToken) {
        while stop.run_until_cancelled(tokio::time::sleep(UPKEEP)).await.is_some() {
            self.upkeep();
        }
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Metrics")
    }
}

fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Full(names::STORE_COMMIT.into()), &COMMIT_SECONDS)?
        .set_buckets_for_metric(Matcher::Full(names::END_TO_END.into()), &LONG_SECONDS)?
        .set_buckets_for_metric(Matcher::Full(names::SOURCE_LAG.into()), &LONG_SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .set_buckets_for_metric(Matcher::Suffix("_batch_events".into()), &BATCH_EVENTS)?
        .build_recorder();
    Ok(recorder)
}

/// The `HELP` lines.
fn describe() {
    describe_gauge!(names::READY, "1 while the store commits and every source is usable");
    describe_gauge!(names::BUILD_INFO, "The version and the commit of the program");
    describe_gauge!(names::LAST_RELOAD, "When the configuration that is in effect was read, in Unix seconds");
    describe_gauge!(names::LAST_BACKUP, "When the newest backup of the database was made, in Unix seconds");
    describe_gauge!(names::RELOAD_FAILED, "1 if the last requested reload of the configuration failed");
    describe_counter!(names::EVENTS_RECEIVED, "Events taken from a source into the store, repeats included");
    describe_counter!(names::EVENTS_UNIQUE, "Events that arrived first by this source");
    describe_counter!(names::EVENTS_DUPLICATE, "Events that were already stored");
    describe_counter!(
        names::EVENTS_CONFLICTING,
        "Events whose id another stored event has, counted once for each content and source"
    );
    describe_counter!(
        names::EVENTS_WITHOUT_OBJECT,
        "New events without an order, invoice or payment, by type"
    );
    describe_counter!(names::WEBHOOKS_REJECTED, "Webhooks that were refused, by error code");
    describe_counter!(
        names::HTTP_REFUSED,
        "Requests to the public listener that no handler accepted, by HTTP status"
    );
    describe_counter!(names::AUDIT_UNWRITTEN, "Entries of the audit trail that could not be stored");
    describe_counter!(names::ADMIN_REFUSED, "Requests to the private listener that were refused, by reason");
    describe_counter!(names::DELIVERIES, "Ended delivery attempts, by outcome");
    describe_counter!(
        names::DELIVERIES_EXPIRED,
        "Dead deliveries without an operator's decision within store.dead_retention"
    );
    describe_histogram!(names::DELIVERY_DURATION, "Duration of a delivery attempt");
    describe_histogram!(
        names::END_TO_END,
        "From an event's arrival to its recorded acknowledgement, of first deliveries"
    );
    describe_gauge!(names::BACKLOG, "Deliveries still to be made");
    describe_gauge!(names::BACKLOG_OLDEST, "Age of the oldest delivery still to be made");
    describe_gauge!(names::STREAM_CONNECTED, "1 while the stream's connection is open");
    describe_counter!(names::STREAM_RECONNECTS, "Lost connections and failed tries to connect, by reason");
    describe_counter!(names::STREAM_GAPS, "Examined gaps, by outcome");
    describe_counter!(names::STREAM_FRAMES, "Frames that were not an event, by kind");
    describe_counter!(
        names::LEASES_GIVEN_UP,
        "Times that this replica gave all leases back because its writing connection completed nothing"
    );
    describe_histogram!(names::STORE_COMMIT, "Duration of a commit of the store");
    describe_histogram!(names::STORE_BATCH, "Events written by one commit of the store");
    describe_histogram!(
        names::SOURCE_LAG,
        "Delay of a source behind the source by which an event arrived first"
    );
    describe_counter!(
        names::EVENTS_SINGLE_SOURCE,
        "Events that only one live source had brought when the time for both was over"
    );
    describe_gauge!(names::DELIVERIES_HELD, "Deliveries whose outcome is unknown, waiting for an operator");
    describe_gauge!(names::DELIVERIES_DEAD, "Deliveries given up");
    describe_gauge!(names::TARGET_PAUSED, "1 while the target is paused");
    describe_gauge!(names::TARGET_CIRCUIT_OPEN, "1 while the target counts as down and its deliveries wait");
    describe_gauge!(names::TARGET_REJECTING, "1 while the target refuses every event");
    describe_gauge!(
        names::TARGET_LIMITED,
        "1 while concurrency limits the target: more deliveries could be sent"
    );
    describe_counter!(names::ALERTS, "Alerts that were sent, or left out, by kind and outcome");
    describe_gauge!(names::STORE_BYTES, "Bytes of the database");
    describe_gauge!(names::STORE_WAL_BYTES, "Bytes of the database's write-ahead log");
    describe_gauge!(names::STORE_FREE_BYTES, "Unused bytes of the database, which will be used again");
    describe_gauge!(names::DISK_FREE_BYTES, "Bytes that may still be written to the disk of the database");
}

#[cfg(test)]
mod tests {
    use metrics::{counter, gauge, histogram, with_local_recorder};

    use super::*;

    /// Returns the text of a separate recorder after `act`.
    fn rendered(act: impl FnOnce()) -> String {
        let recorder = recorder().unwrap();
        let handle = recorder.handle();
        with_local_recorder(&recorder, || {
            describe();
            act();
        });
        handle.render()
    }

    #[test]
    fn durations_and_batches_are_histograms_with_fitting_buckets() {
        let text = rendered(|| {
            histogram!(names::DELIVERY_DURATION, "target" => "orders").record(0.0007);
            histogram!(names::DELIVERY_DURATION, "target" => "orders").record(61.0);
            histogram!(names::END_TO_END, "target" => "orders").record(Duration::from_hours(5));
            histogram!(names::SOURCE_LAG, "source" => "webhook").record(Duration::from_mins(20));
            histogram!(names::STORE_COMMIT).record(0.000_07);
            histogram!(names::STORE_BATCH).record(3.0);
        });
        for line in [
            r#"pepay_bridge_delivery_duration_seconds_bucket{target="orders",le="0.0005"} 0"#,
            r#"pepay_bridge_delivery_duration_seconds_bucket{target="orders",le="0.001"} 1"#,
            r#"pepay_bridge_delivery_duration_seconds_bucket{target="orders",le="60"} 1"#,
            r#"pepay_bridge_delivery_duration_seconds_bucket{target="orders",le="+Inf"} 2"#,
            r#"pepay_bridge_end_to_end_seconds_bucket{target="orders",le="7200"} 0"#,
            r#"pepay_bridge_end_to_end_seconds_bucket{target="orders",le="21600"} 1"#,
            r#"pepay_bridge_source_lag_seconds_bucket{source="webhook",le="300"} 0"#,
            r#"pepay_bridge_source_lag_seconds_bucket{source="webhook",le="1800"} 1"#,
            r#"pepay_bridge_store_commit_seconds_bucket{le="0.00005"} 0"#,
            r#"pepay_bridge_store_commit_seconds_bucket{le="0.0001"} 1"#,
            r#"pepay_bridge_store_batch_events_bucket{le="2"} 0"#,
            r#"pepay_bridge_store_batch_events_bucket{le="4"} 1"#,
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_metric_of_the_table_has_a_help_line() {
        // Every metric of this table must have a description.
        let table = include_str!("names.rs");
        let names: Vec<_> = table.split('"').filter(|part| part.starts_with("pepay_bridge_")).collect();
        assert!(names.len() >= 15, "{names:?}");
        let text = rendered(|| {
            for name in &names {
                match *name {
                    name if name.ends_with("_total") => counter!(name).increment(1),
                    names::BACKLOG_OLDEST | names::LAST_RELOAD | names::LAST_BACKUP => {
                        gauge!(*name).set(1.0);
                    }
                    name if name.ends_with("_seconds") || name == names::STORE_BATCH => {
                        histogram!(name).record(1.0);
                    }
                    name => gauge!(name).set(1.0),
                }
            }
        });
        for name in names {
            assert!(text.contains(&format!("# HELP {name} ")), "{name} has no HELP in\n{text}");
        }
    }
}
