//! Tests of the pages, through the routers and with a real store.

mod obedient;
mod tokens;

use std::thread::JoinHandle;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;
use tower::ServiceExt;

use self::obedient::Obedient;
use super::*;
use crate::domain::backoff::Jitter;
use crate::domain::delivery::Ordering;
use crate::domain::event::{Received, Source};
use crate::domain::filter::TypeFilter;
use crate::domain::status::{StreamStatus, TargetStatus, WebhookStatus};
use crate::pepay::envelope;
use crate::store::{self, Committer, Durability, Route, Store};
use crate::telemetry::names;

const DAY: Duration = Duration::from_hours(24);

/// 2024-12-21T11:20:00Z.
pub(super) const NOW: UnixMillis = UnixMillis(1_734_780_000_000);

/// The state of a bridge with a real store, one target, one stream and one webhook endpoint. The process
/// started 90 seconds ago.
pub(super) struct Shown {
    pub(super) view: View,
    store: Store,
    writer: Option<Committer>,
    running: Option<JoinHandle<()>>,
    pub(super) stream: watch::Sender<StreamStatus>,
    _folder: TempDir,
}

impl Shown {
    /// Creates the state, with a store that does not commit yet.
    pub(super) async fn idle() -> Self {
        let folder = TempDir::new().unwrap();
        let settings = store::Settings {
            place: store::Place::File(folder.path().join("test.db")),
            durability: Durability::Normal,
            retention: store::Retention { payloads: DAY, ids: DAY, dead: DAY, audit: DAY },
        };
        let route = Route {
            target: "orders".into(),
            types: TypeFilter::any(),
            environment: None,
            condition: None,
            ordering: Ordering::None,
        };
        let clock = Clock::from_fn(|| NOW);
        let (mut store, writer) = Store::open(&settings, vec![route], clock.clone()).await.unwrap();
        // Without a dispatcher, the actions of operators go to the store itself.
        store.outboxes.clear();
        let started = UnixMillis(NOW.0 - 90_000);
        let mut status = StreamStatus::new("commerce".into(), started);
        (status.connected, status.ever_connected) = (true, true);
        let (stream, streams) = watch::channel(status);
        let webhook = WebhookStatus {
            name: "default".into(),
            path: "/webhooks/pepay".into(),
            last_event: None,
            last_rejection: None,
        };
        let target = TargetStatus { in_flight: 2, ..TargetStatus::new("orders".into()) };
        let view = View {
            operator: store.operator.clone(),
            parts: watch::channel(Arc::new(Parts {
                streams: vec![streams],
                webhooks: vec![watch::channel(webhook).1],
                targets: vec![watch::channel(target).1],
            }))
            .1,
            cluster: None,
            refusals: HttpRefusals::new(clock.clone()),
            ages: Ages::by(Instant::now),
            clock,
            started,
            stopping: CancellationToken::new(),
        };
        Self { view, store, writer: Some(writer), running: None, stream, _folder: folder }
    }

    /// Creates the state, with a store that commits.
    pub(super) async fn new() -> Self {
        let mut shown = Self::idle().await;
        let writer = shown.writer.take().unwrap();
        shown.running = Some(std::thread::spawn(|| writer.run()));
        shown
    }

    /// Closes the store.
    pub(super) async fn close(&mut self) {
        self.store.close().await;
        self.running.take().unwrap().join().unwrap();
    }

    /// Stores an event that arrived this many seconds ago, with a delivery to the target.
    pub(super) async fn store_event(&self, id: &str, seconds_ago: i64) {
        let body = format!(
            r#"{{"id":"{id}","object":"event","type":"test.ping","created":1734780000,"data":{{"object":{{}}}}}}"#
        );
        let received = Received {
            event: envelope::parse(Bytes::from(body), UnixMillis(0)).unwrap(),
            source: Source::Stream,
            origin: "commerce".into(),
            environment: None,
            received_at: UnixMillis(NOW.0 - seconds_ago * 1000),
        };
        self.store.inbox.try_record(received).await.unwrap();
    }

    fn public(&self) -> Router {
        let routes = Routes::default();
        public(self.view.clone(), &routes);
        routes.current()
    }

    pub(super) fn admin(&self, token: Option<&str>) -> Router {
        self.sampled(token).0
    }

    /// Returns the private router, and the sampler that supplies the API's event streams.
    pub(super) fn sampled(&self, token: Option<&str>) -> (Router, Sampler) {
        let render: Render = Arc::new(|| "rendered".to_owned());
        let tokens: Vec<_> =
            token.into_iter().map(|secret| operating("server.admin_token", secret)).collect();
        admin(self.view.clone(), render, &Tokens::new(&tokens), Arc::new(Obedient::default()), self.trail())
    }

    fn trail(&self) -> Trail {
        Trail::new(self.view.operator.clone(), self.view.clock.clone(), Jitter::from_fn(|| 0.5))
    }
}

fn operating(name: &str, secret: &str) -> Token {
    Token { name: name.into(), scope: Scope::Operate, secret: secret.into() }
}

async fn ask(
    router: Router,
    method: Method,
    path: &str,
    bearer: Option<&str>,
) -> (StatusCode, HeaderMap, String) {
    let mut request = Request::builder().method(method).uri(path).header("host", "localhost");
    if let Some(value) = bearer {
        request = request.header("authorization", value);
    }
    let (parts, body) = router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (parts.status, parts.headers, String::from_utf8(body.to_vec()).unwrap())
}

async fn page(router: Router, path: &str) -> (StatusCode, Value) {
    let (status, headers, body) = ask(router, Method::GET, path, None).await;
    assert_eq!(headers["content-type"], "application/json");
    (status, serde_json::from_str(&body).unwrap())
}

#[tokio::test]
async fn both_listeners_serve_liveness() {
    let shown = Shown::idle().await;
    let expected = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION"), "uptime_seconds": 90 });
    assert_eq!(page(shown.public(), "/healthz").await, (StatusCode::OK, expected.clone()));
    assert_eq!(page(shown.admin(None), "/healthz").await, (StatusCode::OK, expected));
}

#[tokio::test]
async fn a_correction_of_the_clock_is_no_part_of_the_uptime() {
    let mut shown = Shown::idle().await;
    shown.view.clock = shown.view.clock.adjustable();
    for (corrected, by) in [(NOW, 60_000), (UnixMillis(NOW.0 + 60_000), -120_000)] {
        let theirs = UnixMillis(corrected.0 + by);
        assert_eq!(shown.view.clock.adjust((corrected, corrected), theirs, Duration::ZERO), Some(by));
        assert_eq!(page(shown.public(), "/healthz").await.1["uptime_seconds"], 90);
    }
}

#[tokio::test]
async fn ready_is_a_store_that_commits_and_sources_that_work() {
    let shown = Shown::new().await;
    for router in [shown.public(), shown.admin(None)] {
        assert_eq!(page(router, "/readyz").await, (StatusCode::OK, json!({ "ready": true })));
    }
}

#[tokio::test]
async fn webhooks_are_taken_while_the_store_commits_whatever_the_streams_do() {
    let mut shown = Shown::new().await;
    shown.stream.send_modify(|status| (status.connected, status.ever_connected) = (false, false));
    for router in [shown.public(), shown.admin(Some("hunter2"))] {
        assert_eq!(page(router.clone(), "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(page(router, "/readyz/intake").await, (StatusCode::OK, json!({ "ready": true })));
    }
    shown.view.stopping.cancel();
    shown.close().await;
    let (status, body) = page(shown.public(), "/readyz/intake").await;
    let reasons = ["shutting down", "the store is unavailable: it has stopped"];
    assert_eq!(
        (status, body),
        (StatusCode::SERVICE_UNAVAILABLE, json!({ "ready": false, "reasons": reasons }))
    );
}

#[tokio::test]
async fn every_reason_not_to_be_ready_is_named() {
    let mut shown = Shown::new().await;
    shown.stream.send_modify(|status| {
        (status.connected, status.ever_connected) = (false, false);
        status.problem = Some("Pepay answered 401 E1: its words".to_owned());
    });
    shown.view.stopping.cancel();
    shown.close().await;
    let (status, body) = page(shown.public(), "/readyz").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let expected = json!({ "ready": false, "reasons": [
        "shutting down",
        "the store is unavailable: it has stopped",
        "stream commerce has not been connected since the start",
    ]});
    assert_eq!(body, expected);
    let (_, body) = page(shown.admin(None), "/readyz").await;
    assert!(body["reasons"][2].as_str().unwrap().ends_with(": Pepay answered 401 E1: its words"), "{body}");
}

#[tokio::test]
async fn the_status_shows_every_part() {
    let shown = Shown::new().await;
    shown.store_event("evt_1", 30).await;
    shown.store_event("evt_2", 10).await;
    let (status, body) = page(shown.admin(None), "/status").await;
    assert_eq!(status, StatusCode::OK);
    let engine = body["store"]["engine"].clone();
    assert!(engine.as_str().unwrap().starts_with("SQLite "));
    let expected = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": 90,
        "ready": true,
        "reasons": [],
        "warnings": [],
        "streams": [serde_json::to_value(&*shown.stream.borrow()).unwrap()],
        "webhooks": [{ "name": "default", "path": "/webhooks/pepay", "last_event": null, "last_rejection": null }],
        "last_refused_webhook": null,
        "store": {
            "committing": true, "error": null, "engine": engine,
            "events": 2, "first_sequence": 1, "last_sequence": 2,
        },
        "targets": [{
            "name": "orders", "configured": true, "state": "configured", "in_flight": 2, "limited_since": null, "circuit": "closed",
            "next_probe": null, "retry_after_until": null, "rejecting": null, "paused": false, "paused_reason": null,
            "last_error": null, "last_delivered_at": null,
            "backlog": 2, "backlog_oldest_seconds": 30.0, "backlog_oldest_at": "2024-12-21T11:19:30.000Z",
            "held": 0, "dead": 0,
        }],
        "replicas": [],
    });
    assert_eq!(body, expected);
}

#[tokio::test]
async fn the_status_of_a_stopped_store_says_so_and_shows_the_rest() {
    let mut shown = Shown::new().await;
    shown.close().await;
    let (status, body) = page(shown.admin(None), "/status").await;
    assert_eq!((status, &body["ready"]), (StatusCode::OK, &json!(false)));
    assert_eq!(body["store"]["committing"], json!(false));
    assert_eq!(body["store"]["error"], json!("the store is unavailable: it has stopped"));
    assert_eq!(body["streams"][0]["connected"], json!(true));
}

#[tokio::test]
async fn metrics_show_readiness_and_the_backlog_as_they_are_now() {
    let mut shown = Shown::new().await;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _installed = ::metrics::set_default_local_recorder(&recorder);
    let view = shown.view.clone();
    let trail = shown.trail();
    let scrape = async || {
        let handle = handle.clone();
        let render: Render = Arc::new(move || handle.render());
        let (router, _) =
            admin(view.clone(), render, &Tokens::new(&[]), Arc::new(Obedient::default()), trail.clone());
        let (status, headers, body) = ask(router, Method::GET, "/metrics", None).await;
        assert_eq!(
            (status, &headers["content-type"]),
            (StatusCode::OK, &"text/plain; version=0.0.4; charset=utf-8".parse().unwrap())
        );
        body
    };
    let empty = scrape().await;
    assert!(empty.contains("pepay_bridge_backlog{target=\"orders\",configured=\"true\"} 0\n"), "{empty}");
    assert!(
        empty.contains("pepay_bridge_backlog_oldest_seconds{target=\"orders\",configured=\"true\"} 0\n"),
        "{empty}"
    );
    shown.store_event("evt_1", 30).await;
    let filled = scrape().await;
    assert!(filled.contains("pepay_bridge_backlog{target=\"orders\",configured=\"true\"} 1\n"), "{filled}");
    assert!(
        filled.contains("pepay_bridge_backlog_oldest_seconds{target=\"orders\",configured=\"true\"} 30\n"),
        "{filled}"
    );
    assert!(filled.contains("pepay_bridge_ready 1\n"), "{filled}");
    shown.close().await;
    let closed = scrape().await;
    assert!(closed.contains("pepay_bridge_ready 0\n"), "{closed}");
}

#[tokio::test]
async fn a_part_that_has_ended_is_left_out_of_status_readiness_and_metrics() {
    let mut shown = Shown::new().await;
    shown.store_event("evt_1", 30).await;
    shown.stream.send_modify(|status| (status.connected, status.ever_connected) = (false, false));
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    let _installed = ::metrics::set_default_local_recorder(&recorder);
    ::metrics::gauge!(names::STREAM_CONNECTED, "stream" => "commerce2").set(1.0);
    ::metrics::counter!(names::STREAM_GAPS, "stream" => "commerce", "outcome" => "closed").increment(1);
    let (parts, showing) = watch::channel(shown.view.parts());
    shown.view.parts = showing;
    let render: Render = Arc::new(move || handle.render());
    let (router, _) =
        admin(shown.view.clone(), render, &Tokens::new(&[]), Arc::new(Obedient::default()), shown.trail());
    let gauges = async |router: Router| {
        let (_, _, body) = ask(router, Method::GET, "/metrics", None).await;
        assert!(
            body.contains("pepay_bridge_stream_gaps_total{stream=\"commerce\",outcome=\"closed\"} 1\n"),
            "{body}"
        );
        ["backlog{target=\"orders\",configured=\"true\"} 1\n", "stream_connected{stream=\"commerce\"} 0\n"]
            .map(|gauge| body.contains(&format!("pepay_bridge_{gauge}")))
    };
    assert_eq!(gauges(router.clone()).await, [true, true]);
    assert_eq!(page(router.clone(), "/readyz").await.0, StatusCode::SERVICE_UNAVAILABLE);
    parts.send_replace(Arc::default());
    assert_eq!(gauges(router.clone()).await, [false, false]);
    let (_, _, metrics) = ask(router.clone(), Method::GET, "/metrics", None).await;
    let removed = "{target=\"orders\",configured=\"false\"}";
    for (name, value) in [
        (names::BACKLOG, 1),
        (names::BACKLOG_OLDEST, 30),
        (names::DELIVERIES_HELD, 0),
        (names::DELIVERIES_DEAD, 0),
        (names::TARGET_PAUSED, 0),
        (names::TARGET_CIRCUIT_OPEN, 0),
        (names::TARGET_REJECTING, 0),
        (names::TARGET_LIMITED, 0),
    ] {
        assert!(metrics.contains(&format!("{name}{removed} {value}\n")), "{name} is not in {metrics}");
    }
    assert_eq!(page(router.clone(), "/readyz").await.0, StatusCode::OK);
    let (_, status) = page(router, "/status").await;
    assert_eq!((&status["streams"], &status["webhooks"]), (&json!([]), &json!([])));
    // The deliveries to a target that is no longer configured are still shown.
    let removed = &status["targets"][0];
    assert_eq!(
        (&removed["name"], &removed["state"], &removed["backlog"]),
        (&json!("orders"), &json!("removed"), &json!(1))
    );
    let warning = status["warnings"][0].as_str().unwrap();
    assert!(warning.starts_with("the target orders is not configured any more, and 1 pending"), "{warning}");
}

#[tokio::test]
async fn the_public_listener_shows_health_and_nothing_else() {
    let shown = Shown::new().await;
    for path in ["/", "/metrics", "/status", "/healthz/"] {
        let (status, body) = page(shown.public(), path).await;
        assert_eq!((status, &body["error"]["code"]), (StatusCode::NOT_FOUND, &json!("not_found")), "{path}");
    }
}

#[tokio::test]
async fn health_status_and_metrics_take_get_and_head_alone() {
    let shown = Shown::new().await;
    for (router, path) in [
        (shown.public(), "/healthz"),
        (shown.public(), "/readyz"),
        (shown.admin(None), "/readyz"),
        (shown.admin(None), "/status"),
        (shown.admin(None), "/metrics"),
    ] {
        let (status, headers, body) = ask(router, Method::POST, path, None).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(headers["allow"], "GET,HEAD");
        assert!(body.contains("\"method_not_allowed\""), "{body}");
    }
}
