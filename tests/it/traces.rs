//! Traces, as a collector receives them: one trace for an event, from its sources to each attempt
//! at a target.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use http::{HeaderMap, StatusCode};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as SpanStatus;
use pepay_bridge::simulator::options::Options;
use pepay_bridge::simulator::target::{Delivery, Reaction};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::bridge::{message, without_roots};
use crate::support::soon;
use crate::support::world::{World, hold, listen};

/// A span as it arrived. Ids are hexadecimal text, attributes are text.
#[derive(Clone, Debug)]
struct Span {
    trace: String,
    id: String,
    parent: String,
    name: String,
    failed: bool,
    duration: Duration,
    attributes: BTreeMap<String, String>,
    resource: BTreeMap<String, String>,
    /// The headers of the request that contained it.
    headers: HeaderMap,
}

/// A collector that receives spans over OTLP and keeps them.
struct Collector {
    url: String,
    spans: watch::Sender<Vec<Span>>,
    _serving: JoinSet<()>,
}

impl Collector {
    async fn new() -> Self {
        let (listener, url) = listen().await;
        let spans = watch::Sender::new(Vec::new());
        let router = Router::new().route("/v1/traces", post(take)).with_state(spans.clone());
        let mut serving = JoinSet::new();
        serving.spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, spans, _serving: serving }
    }

    /// Waits until it has `count` spans with the name `name`. Returns these.
    async fn until(&self, name: &str, count: usize) -> Vec<Span> {
        let named = |spans: &Vec<Span>| spans.iter().filter(|span| span.name == name).count() >= count;
        let mut spans = self.spans.subscribe();
        let spans = soon(&format!("{count} spans {name}"), spans.wait_for(named)).await.unwrap().clone();
        spans.into_iter().filter(|span| span.name == name).collect()
    }
}

async fn take(State(spans): State<watch::Sender<Vec<Span>>>, headers: HeaderMap, body: Bytes) {
    assert_eq!(headers["content-type"], "application/x-protobuf");
    for group in ExportTraceServiceRequest::decode(body).unwrap().resource_spans {
        let resource = texts(group.resource.unwrap().attributes);
        let arrived = group.scope_spans.into_iter().flat_map(|scope| scope.spans).map(|span| Span {
            trace: hex::encode(span.trace_id),
            id: hex::encode(span.span_id),
            parent: hex::encode(span.parent_span_id),
            name: span.name,
            failed: span.status.is_some_and(|status| status.code == SpanStatus::Error as i32),
            duration: Duration::from_nanos(span.end_time_unix_nano - span.start_time_unix_nano),
            attributes: texts(span.attributes),
            resource: resource.clone(),
            headers: headers.clone(),
        });
        spans.send_modify(|spans| spans.extend(arrived));
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value: Option<AnyValue>| match value.unwrap().value.unwrap() {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(flag) => flag.to_string(),
        other => panic!("{other:?} is none of the bridge's attributes"),
    };
    attributes.into_iter().map(|attribute| (attribute.key, text(attribute.value))).collect()
}

/// Starts a world whose bridges export to `collector` every 20 ms.
async fn traced(collector: &str) -> World {
    let mut world = World::new(Options::default()).await;
    world.set("OTEL_EXPORTER_OTLP_ENDPOINT", collector);
    world.set("OTEL_BSP_SCHEDULE_DELAY", "20");
    // Proxies are for Pepay alone. No span could pass this one, which does not exist.
    for proxy in ["HTTP_PROXY", "ALL_PROXY"] {
        world.set(proxy, "http://127.0.0.1:9");
    }
    // An `http` address needs no root certificates.
    world.configuration = without_roots(&world.configuration);
    world
}

fn traceparents(deliveries: &[Delivery]) -> BTreeMap<Option<u32>, String> {
    let of = |delivery: &Delivery| delivery.headers["traceparent"].to_str().unwrap().to_owned();
    deliveries.iter().map(|delivery| (delivery.attempt, of(delivery))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_follows_an_event_from_both_sources_through_a_restart_to_its_target() {
    let collector = Collector::new().await;
    let mut world = traced(&collector.url).await;
    world.set("OTEL_EXPORTER_OTLP_HEADERS", "x-tenant=shop");
    world.set("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment=test");
    let target = world.target("orders").await;
    target.fail_ratio(1.0, Reaction::Answer(StatusCode::INTERNAL_SERVER_ERROR, None));
    let bridge = world.bridge().await;
    // Once the stream is live, it brings events without the list.
    bridge.until("a live stream", |status| status["streams"][0]["phase"] == "live").await;
    let event = world.simulator.play(1).remove(0);
    let received = collector.until("receive", 2).await;
    soon("failures", target.until(|totals| totals.failed >= 2)).await;
    assert!(bridge.stop().await.0.success());
    target.heal();
    let bridge = world.bridge().await;
    soon("the delivery", target.until(|totals| totals.unique == 1)).await;
    assert!(bridge.stop().await.0.success());

    let digest = hex::encode(Sha256::digest(event.as_str()));
    let (trace, root) = (&digest[..32], &digest[32..48]);
    let (first, again) = match &received[..] {
        [one, two] if one.attributes["pepay_bridge.duplicate"] == "false" => (one, two),
        [one, two] => (two, one),
        other => panic!("{other:?}"),
    };
    assert_eq!((&*first.trace, &*first.id, &*first.parent), (trace, root, ""));
    assert_eq!((&*again.trace, &*again.parent), (trace, root));
    assert_eq!(again.attributes["pepay_bridge.duplicate"], "true");
    let sources: BTreeSet<_> = received.iter().map(|span| &*span.attributes["pepay_bridge.source"]).collect();
    let origins: BTreeSet<_> = received.iter().map(|span| &*span.attributes["pepay_bridge.origin"]).collect();
    assert_eq!((sources, origins), (["stream", "webhook"].into(), ["commerce", "default"].into()));
    for span in &received {
        let stored = Duration::from_millis(span.attributes["pepay_bridge.stored_ms"].parse().unwrap());
        assert_eq!(span.duration, stored);
        assert_eq!(span.attributes["pepay.event.id"], event.as_str());
        assert_eq!(span.resource["service.name"], "pepay-bridge");
        assert_eq!(span.resource["deployment.environment"], "test");
        assert_eq!(span.headers["x-tenant"], "shop");
    }

    let deliveries = target.deliveries();
    let mut delivered = collector.until("deliver", deliveries.len()).await;
    delivered.sort_by_key(|span| span.attributes["pepay_bridge.attempt"].parse::<u32>().unwrap());
    let sent: BTreeMap<_, _> = delivered
        .iter()
        .map(|span| {
            assert_eq!((&*span.trace, &*span.parent), (trace, root));
            assert_eq!(span.attributes["pepay_bridge.target"], "orders");
            let attempt = span.attributes["pepay_bridge.attempt"].parse().ok();
            (attempt, format!("00-{trace}-{}-01", span.id))
        })
        .collect();
    assert_eq!(sent, traceparents(&deliveries), "each request carries the id of its attempt's span");
    let (last, failed) = delivered.split_last().unwrap();
    assert!(failed.len() >= 2);
    for span in failed {
        assert!(span.failed);
        assert_eq!(span.attributes["pepay_bridge.outcome"], "retried");
        assert_eq!(span.attributes["http.response.status_code"], "500");
    }
    assert!(!last.failed);
    assert_eq!(last.attributes["pepay_bridge.outcome"], "delivered");
    assert_eq!(last.attributes["http.response.status_code"], "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sampler_that_takes_nothing_exports_nothing_and_says_so_to_targets() {
    let collector = Collector::new().await;
    let mut world = traced(&collector.url).await;
    world.set("OTEL_TRACES_SAMPLER", "parentbased_traceidratio");
    world.set("OTEL_TRACES_SAMPLER_ARG", "0.0");
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    world.simulator.play(3);
    soon("the deliveries", target.until(|totals| totals.unique == 3)).await;
    // A stop sends all spans that are left, so none arrives later.
    assert!(bridge.stop().await.0.success());
    assert!(collector.spans.borrow().is_empty());
    let deliveries = target.deliveries();
    let flags = deliveries.iter().map(|delivery| delivery.headers["traceparent"].to_str().unwrap());
    assert!(flags.into_iter().all(|traceparent| traceparent.ends_with("-00")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_collector_delays_nothing_and_is_logged_once() {
    let (_held, unused) = hold();
    let mut world = traced(&unused).await;
    let target = world.target("orders").await;
    let mut bridge = world.bridge().await;
    let unexported = |line: &serde_json::Value| message(line).starts_with("traces cannot be exported");
    for played in [20, 40] {
        world.simulator.play(20);
        soon("the deliveries", target.until(|totals| totals.unique == played)).await;
        bridge.logged_where("the warning", unexported).await;
    }
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    assert_eq!(log.iter().filter(|line| unexported(line)).count(), 1);
    assert!(!log.iter().any(|line| message(line) == "panicked"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_never_answers_does_not_keep_the_bridge_from_stopping() {
    // The system accepts connections; nothing reads from them.
    let (_listener, silent) = listen().await;
    let mut world = traced(&silent).await;
    let target = world.target("orders").await;
    let bridge = world.bridge().await;
    world.simulator.play(5);
    soon("the deliveries", target.until(|totals| totals.unique == 5)).await;
    let (status, log) = bridge.stop().await;
    assert!(status.success());
    assert!(log.iter().any(|line| message(line).starts_with("the last traces were not sent")), "{log:?}");
    assert!(log.iter().any(|line| message(line) == "stopped"));
    assert!(!log.iter().any(|line| message(line) == "panicked"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_collector_and_with_the_exporter_none_targets_get_no_traceparent() {
    for variable in [None, Some(("OTEL_TRACES_EXPORTER", "none")), Some(("OTEL_SDK_DISABLED", "true"))] {
        let collector = Collector::new().await;
        let mut world = World::new(Options::default()).await;
        if let Some((name, value)) = variable {
            world.set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &format!("{}/v1/traces", collector.url));
            world.set(name, value);
        }
        let target = world.target("orders").await;
        let bridge = world.bridge().await;
        world.simulator.play(1);
        soon("the delivery", target.until(|totals| totals.unique == 1)).await;
        assert!(bridge.stop().await.0.success());
        assert!(!target.deliveries()[0].headers.contains_key("traceparent"));
        assert!(collector.spans.borrow().is_empty());
    }
}
