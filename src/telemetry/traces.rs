//! Traces: OpenTelemetry spans, sent over OTLP.
//!
//! One trace follows one event: a `receive` span for each sighting at a source,
//! a `deliver` span for each attempt at a target. Nothing is stored for that. The
//! ids of the trace and of its root are the first 24 bytes of the SHA-256 of the
//! event's id, so an attempt hours later, or after a restart, is part of it, and
//! the trace of an event is found by the event's id. The root is the sighting that brought
//! the event; everything else is a child of it.
//!
//! Off unless the environment names a collector; then, like the recorder of the
//! metrics, there is one for the process. Where it is off, [`of`] is one branch.
//!
//! Spans and their export are compiled in by the cargo feature `otlp`. A build without it has
//! the same names, no trace, and a configuration that refuses what asks for one.

#[cfg(not(feature = "otlp"))]
mod absent;
#[cfg(feature = "otlp")]
mod export;
#[cfg(feature = "otlp")]
mod spans;

use std::time::{Duration, SystemTime};

#[cfg(not(feature = "otlp"))]
pub use absent::{Attempt, Export, Trace, of, on, start};
#[cfg(feature = "otlp")]
pub use export::{Export, start};
#[cfg(feature = "otlp")]
pub use spans::{Attempt, Trace, of, on};

/// Whether this build can export traces.
pub const COMPILED_IN: bool = cfg!(feature = "otlp");

const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const TRACES_ENDPOINT: &str = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT";

/// An event that has come from a source and is stored.
#[derive(Clone, Copy, Debug)]
pub struct Sighting<'a> {
    /// The event's id.
    pub event_id: &'a str,
    /// Its type.
    pub kind: &'a str,
    /// The source.
    pub source: &'static str,
    /// The configured name of the stream or webhook endpoint.
    pub origin: &'a str,
    /// Whether the event was stored already.
    pub duplicate: bool,
    /// When its last byte had arrived.
    pub arrived: SystemTime,
}

/// The outcome of an attempt.
#[derive(Clone, Copy, Debug)]
pub struct Outcome<'a> {
    /// The event's id.
    pub event_id: &'a str,
    /// The configured name of the target.
    pub target: &'a str,
    /// The attempt's number, from 1.
    pub number: u32,
    /// The HTTP status, if there was an answer.
    pub status: Option<u16>,
    /// `delivered`, `retried`, `held` or `dead`.
    pub outcome: &'static str,
    /// The error; `None` on success.
    pub error: Option<&'a str>,
    /// When it began.
    pub started: SystemTime,
    /// How long it took.
    pub duration: Duration,
}

/// Returns the environment variable that enables traces; `None` if none does. `variable` returns
/// the value of a variable that is set and not empty: the specification of OpenTelemetry treats an
/// empty value as unset.
pub fn asked(variable: impl Fn(&str) -> Option<String>) -> Option<&'static str> {
    let disabled = variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let exporters = variable("OTEL_TRACES_EXPORTER").unwrap_or_else(|| "otlp".to_owned());
    let otlp = exporters.split(',').any(|exporter| exporter.trim() == "otlp");
    let collector = [ENDPOINT, TRACES_ENDPOINT].into_iter().find(|name| variable(name).is_some());
    collector.filter(|_| otlp && !disabled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_are_exported_if_a_collector_is_configured_and_not_disabled() {
        let asked = |given: &[(&str, &str)]| {
            asked(|name| given.iter().find(|(given, _)| *given == name).map(|(_, value)| (*value).to_owned()))
        };
        assert_eq!(asked(&[]), None);
        for endpoint in [ENDPOINT, TRACES_ENDPOINT] {
            let given = (endpoint, "http://127.0.0.1:4318");
            assert_eq!(asked(&[given]), Some(endpoint));
            assert_eq!(asked(&[given, ("OTEL_SDK_DISABLED", "false")]), Some(endpoint));
            assert_eq!(asked(&[given, ("OTEL_TRACES_EXPORTER", "console, otlp")]), Some(endpoint));
            assert_eq!(asked(&[given, ("OTEL_SDK_DISABLED", "True")]), None);
            assert_eq!(asked(&[given, ("OTEL_TRACES_EXPORTER", "none")]), None);
        }
        assert_eq!(asked(&[("OTEL_TRACES_EXPORTER", "otlp")]), None);
    }

    #[test]
    fn nothing_is_traced_until_it_is_started() {
        assert!(!on());
        assert!(of("evt_1").is_none());
    }
}
