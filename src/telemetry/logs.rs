//! Writes logs as lines of text or JSON on standard error, apart from a command's standard output.

mod outlet;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::IsTerminal as _;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, OnceLock};

use tracing::level_filters::LevelFilter;
use tracing::{Metadata, Subscriber};
use tracing_subscriber::filter::{EnvFilter, FilterExt as _, ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};
use tracing_subscriber::{Layer as _, Registry, reload};

use self::outlet::Outlet;
use super::json::{FlatJson, timestamp};

/// The `tracing` target of the lines of the audit trail. They are written regardless of the filter: every
/// filter lets this target through up to the level `info`.
pub const AUDIT: &str = "pepay_bridge::audit";

/// The handle that replaces the filter of this process, once logging has started.
static FILTER: OnceLock<FilterHandle> = OnceLock::new();

type FilterHandle = reload::Handle<EnvFilter, Registry>;

/// The settings of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The format of a line.
    pub format: Format,
    /// Which lines are written, in the syntax of [`EnvFilter`].
    pub filter: String,
}

/// The format of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Lines of text; coloured if standard error is a terminal.
    Text,
    /// One flat object a line: `timestamp`, `level`, `module`, `message`, and the fields beside them.
    Json,
}

impl Format {
    /// Returns the function that makes the line about left-out lines. Its argument is their number.
    fn left_out(self) -> fn(u64) -> String {
        const MODULE: &str = module_path!();
        const MESSAGE: &str = "log lines left out: standard error did not take them";
        match self {
            Self::Text => |lines| format!("{}  WARN {MODULE}: {MESSAGE} lines={lines}", timestamp()),
            Self::Json => |lines| {
                let timestamp = timestamp();
                format!(
                    r#"{{"timestamp":"{timestamp}","level":"WARN","module":"{MODULE}","message":"{MESSAGE}","lines":{lines}}}"#
                )
            },
        }
    }
}

/// Why logging could not start.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSettings {
    /// The filter has a syntax error.
    #[error("the log filter cannot be read: {0}")]
    Filter(#[from] ParseError),
    /// Logging was set up in this process before.
    #[error("logging cannot be set up: {0}")]
    Taken(#[from] TryInitError),
}

/// Starts logging for the whole process, panics of any task included. Once per process.
///
/// # Errors
/// [`InvalidSettings`] if the filter cannot be read or logging was started before.
pub fn start(settings: &Settings) -> Result<(), InvalidSettings> {
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let ansi = std::io::stderr().is_terminal() && !no_color;
    let outlet = Outlet::new(std::io::stderr(), settings.format.left_out());
    let (subscriber, filter) = subscriber(settings, Mutex::new(outlet), ansi)?;
    subscriber.try_init()?;
    // It is set already only if the line before has failed.
    let _ = FILTER.set(filter);
    std::panic::set_hook(Box::new(log_panic));
    Ok(())
}

/// Replaces the filter by `filter`. Returns `false` if the filter cannot be read, or logging was
/// never started.
pub fn refilter(filter: &str) -> bool {
    let filter = EnvFilter::builder().parse(filter).ok();
    filter.zip(FILTER.get()).is_some_and(|(filter, logs)| logs.reload(filter).is_ok())
}

fn subscriber<W>(
    settings: &Settings,
    writer: W,
    ansi: bool,
) -> Result<(impl Subscriber + Send + Sync + use<W>, FilterHandle), ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(EnvFilter::builder().parse(&settings.filter)?);
    let audits = filter_fn(is_audit).with_max_level_hint(LevelFilter::INFO);
    let filter = filter.or(audits).and(filter_fn(is_safe));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(ansi);
    let lines = match settings.format {
        Format::Text => lines.boxed(),
        Format::Json => lines.event_format(FlatJson).boxed(),
    };
    Ok((Registry::default().with(lines.with_filter(filter)), handle))
}

/// The WebSocket library logs whole upgrade requests at its finest level, with the token and the
/// key. No filter may enable these lines.
fn is_safe(metadata: &Metadata<'_>) -> bool {
    !metadata.target().starts_with("tungstenite") || *metadata.level() <= LevelFilter::DEBUG
}

/// Lines of the audit trail are logged regardless of the filter.
fn is_audit(metadata: &Metadata<'_>) -> bool {
    metadata.target() == AUDIT && *metadata.level() <= LevelFilter::INFO
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let message = panic.payload_as_str().unwrap_or("a panic without a message");
    let location = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    // It is empty unless RUST_BACKTRACE enables it.
    let backtrace = Some(Backtrace::capture()).filter(|it| it.status() == BacktraceStatus::Captured);
    let backtrace = backtrace.map(tracing::field::display);
    tracing::error!(panic = message, location, thread, backtrace, "panicked");
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;

    use super::*;

    /// Returns the lines that `act` logs under these settings, which apply to this thread alone.
    fn logged(format: Format, filter: &str, act: impl FnOnce()) -> String {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let settings = Settings { format, filter: filter.into() };
        with_default(subscriber(&settings, Writer(lines.clone()), false).unwrap().0, act);
        String::from_utf8(lines.lock().unwrap().clone()).unwrap()
    }

    #[derive(Clone)]
    struct Writer(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Writer {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    impl MakeWriter<'_> for Writer {
        type Writer = Self;

        fn make_writer(&self) -> Self {
            self.clone()
        }
    }

    #[test]
    fn a_json_line_is_one_flat_object() {
        let line = logged(Format::Json, "info", || {
            tracing::info!(target: "bridge", event_id = "evt_1", target = %"orders", attempt = 2, "said \"yes\"");
        });
        assert!(line.starts_with("{\"timestamp\":\"") && line.ends_with("}\n"), "{line}");
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["module"], "bridge");
        assert_eq!(line["target"], "orders");
        assert_eq!(line["message"], "said \"yes\"");
        assert_eq!(line["event_id"], "evt_1");
        assert_eq!(line["attempt"], 2);
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
    }

    #[test]
    fn the_line_that_counts_dropped_lines_has_the_configured_format() {
        let line: serde_json::Value = serde_json::from_str(&(Format::Json.left_out())(3)).unwrap();
        assert_eq!((&line["level"], &line["lines"]), (&"WARN".into(), &3.into()));
        assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
        let text = (Format::Text.left_out())(3);
        assert!(text.contains("  WARN ") && text.ends_with(" lines=3"), "{text}");
    }

    #[test]
    fn a_text_line_has_no_colour_codes_away_from_a_terminal() {
        let line = logged(Format::Text, "info", || tracing::warn!(stream = "commerce", "reconnecting"));
        assert!(line.contains("WARN") && line.contains("stream=\"commerce\""), "{line}");
        assert!(!line.contains('\u{1b}'), "{line:?}");
    }

    #[test]
    fn the_filter_selects_the_written_lines() {
        let act = || {
            tracing::debug!(target: "a", "fine");
            tracing::info!(target: "b", "coarse");
        };
        let lines = logged(Format::Text, "warn,a=debug", act);
        assert!(lines.contains("fine") && !lines.contains("coarse"), "{lines}");
    }

    #[test]
    fn audit_lines_are_logged_under_every_filter() {
        for filter in ["off", "error", "pepay_bridge=off", "other=trace"] {
            let lines = logged(Format::Json, filter, || {
                tracing::info!(target: AUDIT, who = "admin_token", target = "orders", "audit");
                tracing::debug!(target: AUDIT, "finer");
                tracing::info!("another");
            });
            assert!(
                lines.contains(r#""who":"admin_token""#) && lines.contains(r#""target":"orders""#),
                "{filter}: {lines}"
            );
            assert_eq!(lines.lines().count(), 1, "{filter}: {lines}");
        }
    }

    #[test]
    fn the_filter_can_be_replaced() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let settings = Settings { format: Format::Text, filter: "info".into() };
        let (subscriber, filter) = subscriber(&settings, Writer(lines.clone()), false).unwrap();
        with_default(subscriber, || {
            let act = |text| tracing::debug!("{text}");
            act("before");
            filter.reload(EnvFilter::new("debug")).unwrap();
            act("after");
        });
        let lines = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert!(lines.contains("after") && !lines.contains("before"), "{lines}");
    }

    #[test]
    fn a_panic_is_a_line_with_its_message_and_place() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(log_panic));
        let line = logged(Format::Json, "error", || {
            assert!(std::panic::catch_unwind(|| panic!("lost {}", 3)).is_err());
        });
        std::panic::set_hook(before);
        let line: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&line["message"], &line["panic"]), (&"panicked".into(), &"lost 3".into()));
        assert!(line["location"].as_str().unwrap().contains("logs.rs:"), "{line}");
    }

    /// The library logs through the `log` crate, which only a global subscriber hears.
    #[tokio::test]
    async fn no_filter_logs_upgrade_requests() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let settings = Settings { format: Format::Json, filter: "trace".into() };
        subscriber(&settings, Writer(lines.clone()), false).unwrap().0.try_init().unwrap();
        let (ours, theirs) = tokio::io::duplex(4096);
        let (client, server) = tokio::join!(
            tokio_tungstenite::client_async("ws://pepay/?token=hidden", ours),
            tokio_tungstenite::accept_async(theirs),
        );
        assert!(client.is_ok() && server.is_ok());
        let lines = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        assert!(
            lines.contains(r#""module":"tungstenite::handshake::client","message":"Client handshake done.""#)
        );
        assert!(!lines.contains("hidden"), "{lines}");
    }
}
