//! The spans and their attributes.

use std::sync::OnceLock;
use std::time::SystemTime;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, SamplingDecision, ShouldSample, SpanData,
    SpanEvents, SpanLinks, SpanProcessor as _,
};
use sha2::{Digest as _, Sha256};

use super::{Outcome, Sighting};

pub(super) static ACTIVE: OnceLock<Tracing> = OnceLock::new();

/// The state that every span needs.
pub(super) struct Tracing {
    pub(super) processor: BatchSpanProcessor,
    pub(super) sampler: Box<dyn ShouldSample>,
    pub(super) scope: InstrumentationScope,
    pub(super) now: Box<dyn Fn() -> SystemTime + Send + Sync>,
}

/// The trace of one event.
#[derive(Clone, Copy)]
pub struct Trace {
    tracing: &'static Tracing,
    id: TraceId,
    root: SpanId,
    flags: TraceFlags,
}

/// An attempt that has begun.
#[derive(Clone, Copy)]
pub struct Attempt {
    trace: Trace,
    span: SpanId,
}

/// Returns whether traces are on.
pub fn on() -> bool {
    ACTIVE.get().is_some()
}

/// Returns the trace of the event of this id; `None` if traces are off.
pub fn of(event_id: &str) -> Option<Trace> {
    let tracing = ACTIVE.get()?;
    let (id, root) = ids(event_id);
    // The sampler is asked without a parent, since the trace begins here. So every span of the
    // trace, in this process or the next, gets the same answer.
    let sampled = tracing.sampler.should_sample(None, id, "event", &SpanKind::Consumer, &[], &[]);
    let flags = TraceFlags::default().with_sampled(sampled.decision == SamplingDecision::RecordAndSample);
    Some(Trace { tracing, id, root, flags })
}

/// Returns the ids of the trace and of its root span.
fn ids(event_id: &str) -> (TraceId, SpanId) {
    let digest: [u8; 32] = Sha256::digest(event_id.as_bytes()).into();
    let (mut trace, mut root) = ([0; 16], [0; 8]);
    trace.copy_from_slice(&digest[..16]);
    root.copy_from_slice(&digest[16..24]);
    (TraceId::from_bytes(trace), SpanId::from_bytes(root))
}

impl Trace {
    /// Notes a sighting that has just been stored.
    pub fn received(self, sighting: &Sighting<'_>) {
        if !self.flags.is_sampled() {
            return;
        }
        let now = (self.tracing.now)();
        let stored_ms = now.duration_since(sighting.arrived).unwrap_or_default().as_millis();
        let attributes = vec![
            KeyValue::new("pepay.event.id", sighting.event_id.to_owned()),
            KeyValue::new("pepay.event.type", sighting.kind.to_owned()),
            KeyValue::new("pepay_bridge.source", sighting.source),
            KeyValue::new("pepay_bridge.origin", sighting.origin.to_owned()),
            KeyValue::new("pepay_bridge.duplicate", sighting.duplicate),
            KeyValue::new("pepay_bridge.stored_ms", i64::try_from(stored_ms).unwrap_or(i64::MAX)),
        ];
        let (id, parent) =
            if sighting.duplicate { (new_span(), self.root) } else { (self.root, SpanId::INVALID) };
        let span = self.span(id, parent, (SpanKind::Consumer, "receive"), (sighting.arrived, now));
        self.tracing.processor.on_end(SpanData { attributes, ..span });
    }

    /// Begins an attempt to deliver the event.
    pub fn attempt(self) -> Attempt {
        Attempt { trace: self, span: new_span() }
    }

    fn span(
        &self,
        id: SpanId,
        parent_span_id: SpanId,
        (span_kind, name): (SpanKind, &'static str),
        (start_time, end_time): (SystemTime, SystemTime),
    ) -> SpanData {
        SpanData {
            span_context: SpanContext::new(self.id, id, self.flags, false, TraceState::default()),
            parent_span_id,
            parent_span_is_remote: false,
            span_kind,
            name: name.into(),
            start_time,
            end_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.tracing.scope.clone(),
        }
    }
}

impl Attempt {
    /// Returns the value of the header `traceparent` (W3C Trace Context) for this attempt's
    /// request.
    pub fn traceparent(&self) -> String {
        let Trace { id, flags, .. } = self.trace;
        format!("00-{id}-{}-{:02x}", self.span, flags.to_u8())
    }

    /// Notes that the attempt has ended and its outcome is recorded.
    pub fn ended(&self, outcome: &Outcome<'_>) {
        if !self.trace.flags.is_sampled() {
            return;
        }
        let mut attributes = vec![
            KeyValue::new("pepay.event.id", outcome.event_id.to_owned()),
            KeyValue::new("pepay_bridge.target", outcome.target.to_owned()),
            KeyValue::new("pepay_bridge.attempt", i64::from(outcome.number)),
            KeyValue::new("pepay_bridge.outcome", outcome.outcome),
        ];
        attributes.extend(
            outcome.status.map(|status| KeyValue::new("http.response.status_code", i64::from(status))),
        );
        let status = outcome.error.map_or(Status::Unset, |error| Status::error(error.to_owned()));
        let period = (outcome.started, outcome.started + outcome.duration);
        let span = self.trace.span(self.span, self.trace.root, (SpanKind::Client, "deliver"), period);
        self.trace.tracing.processor.on_end(SpanData { attributes, status, ..span });
    }
}

impl std::fmt::Debug for Attempt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.traceparent())
    }
}

/// Returns a random id. Only the id of the root span is derived from the event.
fn new_span() -> SpanId {
    RandomIdGenerator::default().new_span_id()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computed with `printf evt_1734780000000-123 | sha256sum`.
    #[test]
    fn the_ids_of_a_trace_are_the_beginning_of_the_sha256_of_the_event_id() {
        let (trace, root) = ids("evt_1734780000000-123");
        assert_eq!(trace.to_string(), "fbefbb89a7c611e2c5be1820f2d59daf");
        assert_eq!(root.to_string(), "801c13921148b34c");
    }
}
