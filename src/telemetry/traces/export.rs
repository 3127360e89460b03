//! Exports the spans: the settings of the environment, the exporter, and the flush at the end. The
//! SDK reads all environment variables that it can.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::resource::{EnvResourceDetector, TelemetryResourceDetector};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, Config, SpanData, SpanExporter as Exporter, SpanProcessor as _,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use super::asked;
use super::spans::{ACTIVE, Tracing};

/// How long a stop waits for the remaining spans.
const FLUSH_LIMIT: Duration = Duration::from_secs(3);

/// How long the exporter's thread may take to notice that the export is abandoned.
const GIVE_UP_LIMIT: Duration = Duration::from_secs(1);

const PROTOCOL: &str = "OTEL_EXPORTER_OTLP_PROTOCOL";
const TRACES_PROTOCOL: &str = "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL";
const SPOKEN: &str = "http/protobuf";

/// Spans being exported, until they are flushed.
#[derive(Debug)]
pub struct Export {
    abandon: CancellationToken,
}

/// Starts tracing if the environment enables it, with `now` as the clock. Must be called once, within the
/// runtime. Returns the export, which must be flushed at the end.
///
/// If the collector cannot be used as configured, the function logs the error and returns `None`.
pub fn start(now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Option<Export> {
    if asked(variable).is_none() || ACTIVE.get().is_some() {
        return None;
    }
    let protocol = variable(TRACES_PROTOCOL).or_else(|| variable(PROTOCOL));
    if let Some(protocol) = protocol.filter(|protocol| protocol != SPOKEN) {
        tracing::warn!(protocol, "traces are exported as {SPOKEN}, the one protocol this bridge speaks");
    }
    let abandon = CancellationToken::new();
    match exporter(abandon.clone()) {
        Ok(exporter) => {
            let scope = InstrumentationScope::builder(env!("CARGO_PKG_NAME"));
            let active = Tracing {
                processor: BatchSpanProcessor::builder(exporter).build(),
                sampler: Config::default().sampler,
                scope: scope.with_version(env!("CARGO_PKG_VERSION")).build(),
                now: Box::new(now),
            };
            ACTIVE.set(active).ok()?;
            tracing::info!("traces are exported");
            Some(Export { abandon })
        }
        Err(error) => {
            tracing::error!(%error, "nothing is traced");
            None
        }
    }
}

impl Export {
    /// Waits for `stop`, then sends the remaining spans, within a limit.
    pub async fn run(self, stop: CancellationToken) {
        stop.cancelled().await;
        let flush = || {
            ACTIVE.get().map(|tracing| tracing.processor.shutdown_with_timeout(FLUSH_LIMIT + GIVE_UP_LIMIT))
        };
        let mut flushed = pin!(tokio::task::spawn_blocking(flush));
        if tokio::time::timeout(FLUSH_LIMIT, &mut flushed).await.is_err() {
            tracing::warn!("the last traces were not sent within {} s", FLUSH_LIMIT.as_secs());
            // The runtime ends soon, and a request must not outlive it.
            self.abandon.cancel();
            let _ = flushed.await;
        }
    }
}

/// Returns the value of a variable that is set. The specification treats an empty value as unset.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

fn exporter(abandon: CancellationToken) -> Result<OnRuntime, ExporterBuildError> {
    let runtime =
        Handle::try_current().map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))?;
    // By default the exporter would use a proxy that is meant for Pepay.
    let builder = || reqwest::Client::builder().no_proxy().timeout(timeout());
    // A system without root certificates can still have a collector with an `http` address.
    let client = builder().build().or_else(|_| builder().tls_certs_only([]).build());
    let client = client.map_err(|error| ExporterBuildError::InternalFailure(error.to_string()))?;
    let mut exporter = SpanExporter::builder().with_http().with_http_client(client).build()?;
    exporter.set_resource(&resource());
    Ok(OnRuntime { exporter, runtime, abandon, failing: AtomicBool::new(false) })
}

/// Returns the time limit of an export, by the variables of the specification, in milliseconds.
fn timeout() -> Duration {
    let variables = ["OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "OTEL_EXPORTER_OTLP_TIMEOUT"];
    let named = variables.into_iter().find_map(variable).and_then(|millis| millis.parse().ok());
    named.map_or(Duration::from_secs(10), Duration::from_millis)
}

/// Returns the attributes of this process: those of the environment, over those that the program
/// knows itself.
fn resource() -> Resource {
    Resource::builder_empty()
        .with_attributes([
            KeyValue::new("service.name", env!("CARGO_PKG_NAME")),
            KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        ])
        .with_detectors(&[Box::new(TelemetryResourceDetector), Box::new(EnvResourceDetector::new())])
        .with_attributes(variable("OTEL_SERVICE_NAME").map(|name| KeyValue::new("service.name", name)))
        .build()
}

/// The exporter, which the processor's thread polls. That thread is outside the runtime, which the
/// HTTP client needs whenever it is polled.
#[derive(Debug)]
struct OnRuntime {
    exporter: SpanExporter,
    runtime: Handle,
    abandon: CancellationToken,
    failing: AtomicBool,
}

impl Exporter for OnRuntime {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let mut export = pin!(self.exporter.export(batch));
        let mut abandoned = pin!(self.abandon.cancelled());
        let exported = poll_fn(|context| {
            let _within = self.runtime.enter();
            if abandoned.as_mut().poll(context).is_ready() {
                return Poll::Ready(Err(OTelSdkError::AlreadyShutdown));
            }
            export.as_mut().poll(context)
        });
        let exported = exported.await;
        self.note(&exported);
        exported
    }
}

impl OnRuntime {
    /// Logs the beginning and the end of a time in which no span can be exported.
    fn note(&self, exported: &OTelSdkResult) {
        match exported {
            Err(OTelSdkError::AlreadyShutdown) => {}
            Err(error) if !self.failing.swap(true, Ordering::Relaxed) => {
                tracing::warn!(%error, "traces cannot be exported; they are dropped until that works again");
            }
            Ok(()) if self.failing.swap(false, Ordering::Relaxed) => {
                tracing::info!("traces are exported again");
            }
            _ => {}
        }
    }
}
