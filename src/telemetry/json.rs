//! A log line as one flat JSON object.
//!
//! The subscriber's own JSON format names the module of a line `target`, which is also the field of
//! a delivery's target here. A flat object cannot have both.

use std::fmt;

use serde::ser::{SerializeMap as _, Serializer as _};
use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime as _, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes `timestamp` (RFC 3339, UTC), `level`, `module`, `message`, and then
/// the fields of the event by their names.
pub(super) struct FlatJson;

impl<S, N> FormatEvent<S, N> for FlatJson
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let timestamp = timestamp();
        let mut fields = Fields::default();
        event.record(&mut fields);
        // A line of a library that uses the `log` crate has its module as a field.
        let module = fields.0.remove("log.target").unwrap_or_else(|| event.metadata().target().into());
        let message = fields.0.remove("message").unwrap_or_default();
        let leading = [
            ("timestamp", timestamp.into()),
            ("level", event.metadata().level().as_str().into()),
            ("module", module),
            ("message", message),
        ];
        let line = object(&leading, &fields.0).map_err(|_| fmt::Error)?;
        writeln!(writer, "{line}")
    }
}

/// Returns the present time, in the form with which a line begins.
pub(super) fn timestamp() -> String {
    let mut timestamp = String::new();
    // Writing to a string cannot fail, and neither can the clock.
    let _ = SystemTime.format_time(&mut Writer::new(&mut timestamp));
    timestamp
}

fn object(leading: &[(&str, Value)], fields: &Map<String, Value>) -> serde_json::Result<String> {
    let mut line = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut line);
    let mut object = serializer.serialize_map(None)?;
    for (name, value) in leading {
        object.serialize_entry(name, value)?;
    }
    for (name, value) in fields {
        let taken = leading.iter().any(|(leading, _)| leading == name);
        if !taken && !name.starts_with("log.") {
            object.serialize_entry(name, value)?;
        }
    }
    object.end()?;
    Ok(String::from_utf8_lossy(&line).into_owned())
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }
}
