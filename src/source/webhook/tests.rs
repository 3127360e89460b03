//! Tests every answer of the interface, through the router and with a real store.

mod sockets;
mod unavailable;

use std::thread::JoinHandle;

use axum::body::Body;
use futures_util::FutureExt;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt;

use super::*;
use crate::domain::clock::UnixMillis;
use crate::store::{self, Committer, Durability, Store};

const DAY: Duration = Duration::from_hours(24);

const NOW: UnixMillis = UnixMillis(1_734_780_000_000);
const PATH: &str = "/webhooks/pepay";
const MAX_BODY: usize = 4096;

/// An endpoint with a store in a folder of its own. The writer does not run until
/// [`run`](Self::run) starts it.
struct Fixture {
    store: Store,
    writer: Option<Committer>,
    running: Option<JoinHandle<()>>,
    router: Router,
    statuses: Vec<watch::Receiver<WebhookStatus>>,
    folder: TempDir,
}

fn clock() -> Clock {
    Clock::from_fn(|| NOW)
}

fn settings() -> Settings {
    Settings {
        name: "default".into(),
        path: PATH.into(),
        keys: vec![SigningKey::new(&"secret".into())],
        environment: Some(Environment::Devnet),
        tolerance: Duration::from_mins(5),
        max_body: MAX_BODY,
    }
}

/// Returns the routes of `endpoints`, with their statuses.
fn router(endpoints: Vec<Settings>, inbox: Inbox) -> (Router, Vec<watch::Receiver<WebhookStatus>>) {
    let mut open = Endpoints::new(inbox, clock());
    open.open(endpoints);
    (open.router(), open.statuses())
}

impl Fixture {
    async fn idle(endpoints: Vec<Settings>) -> Self {
        let folder = TempDir::new().unwrap();
        let settings = store::Settings {
            place: store::Place::File(folder.path().join("test.db")),
            durability: Durability::Normal,
            retention: store::Retention { payloads: DAY, ids: DAY, dead: DAY, audit: DAY },
        };
        let (store, writer) = Store::open(&settings, Vec::new(), clock()).await.unwrap();
        let (router, statuses) = router(endpoints, store.inbox.clone());
        Self { store, writer: Some(writer), running: None, router, statuses, folder }
    }

    async fn new() -> Self {
        let mut fixture = Self::idle(vec![settings()]).await;
        fixture.run();
        fixture
    }

    /// Lets the store commit.
    fn run(&mut self) {
        let writer = self.writer.take().unwrap();
        self.running = Some(std::thread::spawn(|| writer.run()));
    }

    async fn close(&mut self) {
        self.store.close().await;
        self.running.take().unwrap().join().unwrap();
    }

    async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.router.clone().oneshot(request).await.unwrap()).await
    }

    /// Returns the number of stored events.
    async fn stored(&self) -> i64 {
        self.store.operator.summary().await.unwrap().last_sequence
    }

    /// Opens a second connection, like a tool of an operator.
    fn side_door(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.folder.path().join("test.db")).unwrap()
    }
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: http::HeaderMap,
    body: String,
}

impl Answer {
    async fn of(response: Response) -> Self {
        let (parts, body) = response.into_parts();
        let body = String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap();
        Self { status: parts.status, headers: parts.headers, body }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Returns the error code, and checks the form of the answer.
    fn code(&self) -> String {
        assert_eq!(self.header("content-type"), Some("application/json"));
        let body: Value = serde_json::from_str(&self.body).unwrap();
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
        body["error"]["code"].as_str().unwrap().to_owned()
    }
}

fn event(id: &str) -> String {
    format!(
        r#"{{"id":"{id}","object":"event","type":"commerce.order.updated","created":1734780000,
           "data":{{"object":{{"object":"commerce_order","id":"o_1"}}}},  "extra": "é" }}"#
    )
}

/// Returns a delivery of `body` with the id `id`, as Pepay sends it.
fn signed(secret: &str, timestamp: &str, id: &str, body: &str) -> http::request::Builder {
    Request::post(PATH)
        .header("content-type", "application/json")
        .header("x-pepay-event", "commerce.order.updated")
        .header("x-pepay-event-id", id)
        .header("x-pepay-timestamp", timestamp)
        .header("x-pepay-network-environment", "devnet")
        .header("x-pepay-signature", SigningKey::new(&secret.into()).sign(timestamp, body.as_bytes()))
}

/// Returns a valid delivery of the event `id`.
fn delivery(id: &str) -> Request<Body> {
    let body = event(id);
    signed("secret", &NOW.0.to_string(), id, &body).body(body.into()).unwrap()
}

#[tokio::test]
async fn an_event_is_answered_as_new_once_and_as_duplicate_ever_after() {
    let fixture = Fixture::new().await;
    let first = fixture.send(delivery("evt_1")).await;
    assert_eq!((first.status, &*first.body), (StatusCode::OK, r#"{"ok":true,"duplicate":false}"#));
    assert_eq!(first.header("content-type"), Some("application/json"));
    for _ in 0..2 {
        let again = fixture.send(delivery("evt_1")).await;
        assert_eq!((again.status, &*again.body), (StatusCode::OK, r#"{"ok":true,"duplicate":true}"#));
    }
    assert_eq!(fixture.stored().await, 1);
}

#[tokio::test]
async fn the_body_is_stored_byte_for_byte() {
    let fixture = Fixture::new().await;
    fixture.send(delivery("evt_1")).await;
    let query = "SELECT body, source, environment FROM event";
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let stored: (Vec<u8>, String, String) = fixture.side_door().query_row(query, [], row).unwrap();
    assert_eq!(stored, (event("evt_1").into_bytes(), "webhook".to_owned(), "devnet".to_owned()));
}

#[tokio::test]
async fn success_is_answered_only_after_the_commit() {
    let mut fixture = Fixture::idle(vec![settings()]).await;
    let mut answer = Box::pin(fixture.router.clone().oneshot(delivery("evt_1")));
    assert!((&mut answer).now_or_never().is_none(), "answered before anything was committed");
    fixture.run();
    assert_eq!(answer.await.unwrap().status(), StatusCode::OK);
    assert_eq!(fixture.stored().await, 1);
}

#[tokio::test]
async fn every_refusal_says_why_and_leaves_no_trace() {
    let fixture = Fixture::new().await;
    let (body, now) = (event("evt_1"), NOW.0.to_string());
    let stale = (NOW.0 - 300_001).to_string();
    let large = format!("{body:MAX_BODY$} ");
    let elsewhere = |secret: &str| {
        let request = signed(secret, &now, "evt_1", &body).body(Body::from(body.clone()));
        let mut request = request.unwrap();
        request.headers_mut().insert("x-pepay-network-environment", HeaderValue::from_static("mainnet"));
        request
    };
    let request = |secret: &str, timestamp: &str, id: &str, body: &str| {
        signed(secret, timestamp, id, body).body(Body::from(body.to_owned())).unwrap()
    };
    let undeclared = |text: &str| {
        let pieces = text.as_bytes().chunks(1000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec()));
        let pieces: Vec<_> = pieces.collect();
        let body = Body::from_stream(futures_util::stream::iter(pieces));
        signed("secret", &now, "evt_1", text).body(body).unwrap()
    };
    let refusals = [
        (request("guessed", &now, "evt_1", &body), 400, "invalid_signature"),
        (request("guessed", &stale, "evt_2", "no event"), 400, "invalid_signature"),
        (elsewhere("guessed"), 400, "invalid_signature"),
        (Request::post(PATH).body(Body::from(body.clone())).unwrap(), 400, "invalid_signature"),
        (request("secret", &stale, "evt_1", &body), 400, "timestamp_out_of_range"),
        (request("secret", "soon", "evt_1", &body), 400, "timestamp_out_of_range"),
        (request("secret", &now, "evt_1", "no event"), 400, "malformed_payload"),
        (request("secret", &now, "evt_2", &body), 400, "event_id_mismatch"),
        (elsewhere("secret"), 400, "wrong_environment"),
        (request("secret", &now, "evt_1", &large), 413, "payload_too_large"),
        (undeclared(&large), 413, "payload_too_large"),
    ];
    for (request, status, code) in refusals {
        let answer = fixture.send(request).await;
        assert_eq!((answer.status.as_u16(), &*answer.code()), (status, code), "{answer:?}");
    }
    assert_eq!(fixture.stored().await, 0);
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_taken() {
    let fixture = Fixture::new().await;
    let body = format!("{:<width$}", event("evt_1"), width = MAX_BODY - 1); // "é" takes two bytes
    assert_eq!(body.len(), MAX_BODY);
    let request = signed("secret", &NOW.0.to_string(), "evt_1", &body).body(body.into()).unwrap();
    assert_eq!(fixture.send(request).await.status, StatusCode::OK);
}

#[tokio::test]
async fn other_methods_are_not_allowed() {
    let fixture = Fixture::new().await;
    for method in [Method::GET, Method::PUT, Method::DELETE, Method::PATCH, Method::OPTIONS] {
        let mut request = delivery("evt_1");
        *request.method_mut() = method;
        let answer = fixture.send(request).await;
        assert_eq!(answer.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(answer.header("allow"), Some("POST"));
        assert_eq!(answer.code(), "method_not_allowed");
    }
    assert_eq!(fixture.stored().await, 0);
}

#[tokio::test]
async fn each_endpoint_has_its_own_secrets() {
    let other = Settings {
        name: "other".into(),
        path: "/webhooks/other".into(),
        keys: vec![SigningKey::new(&"another secret".into())],
        ..settings()
    };
    let mut fixture = Fixture::idle(vec![settings(), other]).await;
    fixture.run();
    let mut misdirected = delivery("evt_1");
    *misdirected.uri_mut() = "/webhooks/other".parse().unwrap();
    assert_eq!(fixture.send(misdirected).await.code(), "invalid_signature");
    assert_eq!(fixture.send(delivery("evt_1")).await.status, StatusCode::OK);
    let names: Vec<_> = fixture.statuses.iter().map(|status| status.borrow().name.to_string()).collect();
    assert_eq!(names, ["default", "other"]);
    assert!(fixture.statuses[1].borrow().last_event.is_none());
}

#[tokio::test]
async fn an_endpoint_that_is_opened_anew_keeps_its_status_and_one_left_out_is_closed() {
    let mut fixture = Fixture::idle(Vec::new()).await;
    fixture.run();
    let other = |secret: &str| Settings {
        name: "other".into(),
        path: "/webhooks/other".into(),
        keys: vec![SigningKey::new(&secret.into())],
        ..settings()
    };
    let mut endpoints = Endpoints::new(fixture.store.inbox.clone(), clock());
    endpoints.open(vec![settings(), other("secret")]);
    fixture.router = endpoints.router();
    fixture.send(delivery("evt_1")).await;
    let rotated = Settings { keys: other("new").keys, path: "/webhooks/new".into(), ..settings() };
    endpoints.open(vec![rotated.clone()]);
    assert_eq!(endpoints.settings().collect::<Vec<_>>(), [&rotated]);
    let status = endpoints.statuses()[0].borrow().clone();
    assert_eq!((&*status.path, status.last_event.unwrap().id), ("/webhooks/new", "evt_1".to_owned()));
    fixture.router = endpoints.router();
    for (path, status) in [("/webhooks/new", 400), (PATH, 404), ("/webhooks/other", 404)] {
        let mut request = delivery("evt_2");
        *request.uri_mut() = path.parse().unwrap();
        assert_eq!(
            fixture.router.clone().oneshot(request).await.unwrap().status().as_u16(),
            status,
            "{path}"
        );
    }
}

#[tokio::test]
async fn the_status_shows_the_last_event_and_the_last_refusal() {
    let fixture = Fixture::new().await;
    let shown = || serde_json::to_value(&*fixture.statuses[0].borrow()).unwrap();
    let mut expected = json!({ "name": "default", "path": PATH, "last_event": null, "last_rejection": null });
    assert_eq!(shown(), expected);

    fixture.send(delivery("evt_1")).await;
    fixture.send(Request::post(PATH).body(Body::empty()).unwrap()).await;
    expected["last_event"] = json!({ "id": "evt_1", "at": "2024-12-21T11:20:00.000Z" });
    expected["last_rejection"] = json!({
        "code": "invalid_signature", "at": "2024-12-21T11:20:00.000Z",
        "message": "there is no X-Pepay-Signature", "event_id": null, "bytes": 0,
        "clock_off_seconds": null, "peer": null, "forwarded_for": null,
    });
    assert_eq!(shown(), expected);

    let body = event("evt_1");
    let late = (NOW.0 - 1_200_000).to_string();
    let mut request = signed("secret", &late, "evt_1", &body).body(Body::from(body.clone())).unwrap();
    request.headers_mut().insert("x-forwarded-for", "203.0.113.9, 10.0.0.1".parse().unwrap());
    request.extensions_mut().insert(ConnectInfo::<SocketAddr>("10.0.0.2:4711".parse().unwrap()));
    fixture.send(request).await;
    expected["last_rejection"] = json!({
        "code": "timestamp_out_of_range", "at": "2024-12-21T11:20:00.000Z",
        "message": "X-Pepay-Timestamp is 1200 s behind this machine's clock; allowed are 300 s",
        "event_id": null, "bytes": body.len(), "clock_off_seconds": -1200,
        "peer": "10.0.0.2:4711", "forwarded_for": "203.0.113.9, 10.0.0.1",
    });
    assert_eq!(shown(), expected);
}

#[tokio::test]
async fn the_operator_is_told_more_than_the_sender() {
    let fixture = Fixture::new().await;
    let message = || fixture.statuses[0].borrow().last_rejection.clone().unwrap().message;
    let (now, body) = (NOW.0.to_string(), event("evt_1"));
    let request =
        |secret: &str, id: &str| signed(secret, &now, id, &body).body(Body::from(body.clone())).unwrap();

    let answer = fixture.send(request("guessed", "evt_1")).await;
    assert!(answer.body.contains("no signature of this endpoint's secrets matches"), "{answer:?}");
    assert_eq!(message(), "the signature is made with none of the endpoint's 1 secrets over these bytes");

    let answer = fixture.send(request("secret", "evt_2")).await;
    assert!(!answer.body.contains("evt_1"), "{answer:?}");
    assert_eq!(message(), "X-Pepay-Event-ID is `evt_2`, the body's `id` `evt_1`");

    let mut elsewhere = request("secret", "evt_1");
    elsewhere.headers_mut().insert("x-pepay-network-environment", HeaderValue::from_static("mainnet"));
    fixture.send(elsewhere).await;
    assert_eq!(
        message(),
        "this endpoint takes devnet events only; the header says `mainnet`, the body `nothing`"
    );
}

#[tokio::test]
async fn a_trailing_slash_is_accepted_unless_it_names_another_endpoint() {
    let ask = async |paths: &[&str], path: &str| {
        let endpoint = |path: &&str| Settings { name: (*path).into(), path: (*path).into(), ..settings() };
        let mut fixture = Fixture::idle(paths.iter().map(endpoint).collect()).await;
        fixture.run();
        let mut request = delivery("evt_1");
        *request.uri_mut() = path.parse().unwrap();
        let status = fixture.router.clone().oneshot(request).await.unwrap().status().as_u16();
        let taken = fixture.statuses.iter().position(|status| status.borrow().last_event.is_some());
        (status, taken)
    };
    assert_eq!(ask(&["/hook"], "/hook/").await, (200, Some(0)));
    assert_eq!(ask(&["/hook"], "/hook//").await, (404, None));
    assert_eq!(ask(&["/hook"], "/Hook").await, (404, None));
    assert_eq!(ask(&["/hook", "/hook/"], "/hook/").await, (200, Some(1)));
    assert_eq!(ask(&["/hook/"], "/hook/").await, (200, Some(0)));
    assert_eq!(ask(&["/hook/"], "/hook").await, (404, None));
}

#[tokio::test]
async fn refusals_are_counted_by_their_code() {
    let mut fixture = Fixture::idle(vec![settings()]).await;
    fixture.run();
    let recorder = PrometheusBuilder::new().build_recorder();
    let (counted, _) =
        metrics::with_local_recorder(&recorder, || router(vec![settings()], fixture.store.inbox.clone()));
    fixture.router = counted;
    for _ in 0..2 {
        fixture.send(Request::post(PATH).body(Body::empty()).unwrap()).await;
    }
    fixture.send(delivery("evt_1")).await;
    let rendered = recorder.handle().render();
    let counts = |code: &str, count: u64| {
        let line = format!("pepay_bridge_webhooks_rejected_total{{reason=\"{code}\"}} {count}\n");
        assert!(rendered.contains(&line), "no {line} in {rendered}");
    };
    counts("invalid_signature", 2);
    counts("malformed_payload", 0);
}
