//! The listeners of the real binary: the requests that they refuse, and how the operator learns of them.

use std::time::Duration;

use pepay_bridge::domain::clock::Clock;
use pepay_bridge::pepay::signature::SigningKey;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::bridge::{Bridge, message, run, without_roots};
use crate::support::soon;
use crate::support::world::{WEBHOOK_SECRET, World};

/// Returns a request with a signed body, as bytes. `start` is its method and target.
fn signed(start: &str, lines: &str, body: &str) -> Vec<u8> {
    let timestamp = Clock::system().now().0.to_string();
    let signature = SigningKey::new(&WEBHOOK_SECRET.into()).sign(&timestamp, body.as_bytes());
    format!(
        "{start} HTTP/1.1\r\nHost: bridge.example\r\nX-Pepay-Timestamp: {timestamp}\r\n\
         X-Pepay-Signature: {signature}\r\nX-Forwarded-For: 203.0.113.9\r\nConnection: close\r\n\
         Content-Length: {}\r\n{lines}\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn event(id: &str) -> String {
    json!({ "id": id, "object": "event", "type": "test.ping", "created": 1, "data": {} }).to_string()
}

async fn connect(bridge: &Bridge) -> TcpStream {
    TcpStream::connect(bridge.public.trim_start_matches("http://")).await.unwrap()
}

/// Sends `bytes`. Returns the status line of the response, empty if there is none.
async fn send(bridge: &Bridge, bytes: &[u8]) -> String {
    let mut connection = connect(bridge).await;
    connection.write_all(bytes).await.unwrap();
    let mut response = Vec::new();
    // A reset ends the response as well.
    let _ended = soon("the response", connection.read_to_end(&mut response)).await;
    String::from_utf8(response).unwrap().lines().next().unwrap_or_default().to_owned()
}

async fn bridge() -> (World, Bridge) {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    let bridge = world.bridge().await;
    (world, bridge)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_webhook_that_reaches_no_endpoint_is_counted_logged_and_shown() {
    let (_world, mut bridge) = bridge().await;
    let body = event("evt_1");
    let many = "X-Line: 1\r\n".repeat(110);
    let cookie = format!("Cookie: {}\r\n", "x".repeat(20_000));
    for (start, lines, status, code, request) in [
        (
            "POST /api/webhooks/pepay?key=hidden",
            "",
            "HTTP/1.1 404 Not Found",
            404,
            "POST /api/webhooks/pepay",
        ),
        ("GET /webhooks/pepay", "", "HTTP/1.1 405 Method Not Allowed", 405, "GET /webhooks/pepay"),
        ("POST /many", &*many, "HTTP/1.1 431 Request Header Fields Too Large", 431, "POST /many"),
        ("POST /long", &*cookie, "HTTP/1.1 431 Request Header Fields Too Large", 431, "POST /long"),
        ("POST /host", "Host: another.example\r\n", "HTTP/1.1 400 Bad Request", 400, "POST /host"),
        ("POST /odd", "x(y): z\r\n", "HTTP/1.1 400 Bad Request", 400, "POST /odd"),
    ] {
        let series = format!("pepay_bridge_http_refused_total{{code=\"{code}\"}}");
        let before = bridge.metric(&series).await;
        assert_eq!(send(&bridge, &signed(start, lines, &body)).await, status, "{start}");
        bridge.until_metric(&series, before + 1.0).await;
        let shown = bridge.status().await["last_refused_webhook"].clone();
        assert_eq!((&shown["status"], &shown["request"]), (&json!(code), &json!(request)));
        assert_eq!(shown["forwarded_for"], "203.0.113.9");
        assert!(shown["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{shown}");
    }
    for code in [400, 404, 405, 431] {
        let told = |line: &Value| {
            message(line).starts_with("a signed webhook reached no endpoint") && line["status"] == code
        };
        let line = bridge.logged_where(&format!("a refusal with {code}"), told).await;
        assert_eq!((&line["level"], &line["forwarded_for"]), (&json!("WARN"), &json!("203.0.113.9")));
    }
    let (_, log) = bridge.stop().await;
    assert!(!log.iter().any(|line| line.to_string().contains("hidden")));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_request_is_only_counted() {
    let (_world, bridge) = bridge().await;
    for _ in 0..3 {
        send(&bridge, b"GET /wp-login.php HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    }
    assert!(bridge.metric("pepay_bridge_http_refused_total{code=\"404\"}").await >= 3.0);
    assert_eq!(bridge.status().await["last_refused_webhook"], Value::Null);
    let (_, log) = bridge.stop().await;
    assert!(!log.iter().any(|line| message(line).contains("reached no endpoint")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trailing_slash_in_the_path_of_a_webhook_is_accepted() {
    let (_world, bridge) = bridge().await;
    assert_eq!(send(&bridge, &signed("POST /webhooks/pepay/", "", &event("evt_1"))).await, "HTTP/1.1 200 OK");
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_told_why_a_webhook_was_refused() {
    let (_world, mut bridge) = bridge().await;
    let body = event("evt_1").replace("\"id\"", "\"no-id\"");
    assert_eq!(send(&bridge, &signed("POST /webhooks/pepay", "", &body)).await, "HTTP/1.1 400 Bad Request");
    let shown = bridge.status().await["webhooks"][0]["last_rejection"].clone();
    assert_eq!((&shown["code"], &shown["bytes"]), (&json!("malformed_payload"), &json!(body.len())));
    assert_eq!(shown["forwarded_for"], "203.0.113.9");
    let line = bridge.logged_where("the refusal", |line| message(line) == "webhook refused").await;
    assert_eq!((&line["reason"], &line["peer"]), (&shown["message"], &shown["peer"]));
    assert!(!shown["message"].as_str().unwrap().is_empty());
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_the_body_has_a_reason_of_its_own_and_is_logged_at_info() {
    let (_world, mut bridge) = bridge().await;
    let whole = signed("POST /webhooks/pepay", "", &event("evt_1"));
    let mut connection = connect(&bridge).await;
    connection.write_all(&whole[..whole.len() - 10]).await.unwrap();
    drop(connection);
    bridge.until_metric("pepay_bridge_webhooks_rejected_total{reason=\"connection_cut\"}", 1.0).await;
    let line = bridge.logged_where("the refusal", |line| line["code"] == "connection_cut").await;
    assert_eq!(line["level"], "INFO");
    let malformed = "pepay_bridge_webhooks_rejected_total{reason=\"malformed_payload\"}";
    assert!(bridge.metric(malformed).await < 1.0);
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_on_the_public_listener_is_logged_once() {
    let (_world, mut bridge) = bridge().await;
    let starts: [(&str, &[u8]); 4] = [
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
        ("PROXY protocol", b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
        ("PROXY protocol", b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01\0\x01\0\x02"),
        ("TLS", b"\x16\x03\x01\0\x2e\x01\0\0\x2a\x03\x03"),
    ];
    for (protocol, bytes) in starts {
        for _ in 0..3 {
            send(&bridge, bytes).await;
        }
        bridge.logged_where(protocol, |line| line["protocol"] == protocol).await;
    }
    let (_, log) = bridge.stop().await;
    for (protocol, times) in [("HTTP/2", 1), ("PROXY protocol", 1), ("TLS", 1)] {
        assert_eq!(log.iter().filter(|line| line["protocol"] == protocol).count(), times, "{protocol}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_connection_is_kept_for_as_long_as_configured() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    world.set("SERVER__KEEP_ALIVE", "1s");
    let bridge = world.bridge().await;
    let mut connection = connect(&bridge).await;
    connection.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let began = std::time::Instant::now();
    let mut response = Vec::new();
    soon("the closing", connection.read_to_end(&mut response)).await.unwrap();
    assert!(response.starts_with(b"HTTP/1.1 200 OK"));
    assert!(began.elapsed() >= Duration::from_millis(900), "{:?}", began.elapsed());
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn webhooks_are_taken_while_a_stream_is_not_usable() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    world.set("PEPAY__API_KEY", "another-key-than-pepays");
    let bridge = Bridge::start(&world.configuration).await;
    for listener in [&bridge.public, &bridge.admin] {
        for (path, status) in [("/readyz", 503), ("/readyz/intake", 200)] {
            let url = format!("{listener}{path}");
            let answer = soon(&url, reqwest::get(&url)).await.unwrap();
            assert_eq!(answer.status(), status, "{url}");
        }
        for (options, code) in [(&[][..], 1), (&["--intake"], 0)] {
            let arguments = [&["health", "--url", listener][..], options].concat();
            let ended = run(&world.configuration, &arguments).await;
            assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        }
    }
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_of_an_http_address_needs_no_root_certificates() {
    let (world, bridge) = bridge().await;
    let arguments = ["health", "--url", &bridge.public, "--intake"];
    let ended = run(&without_roots(&world.configuration), &arguments).await;
    assert_eq!(ended.code, Some(0), "{}", ended.printed());
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_the_private_listener_that_are_refused_are_counted_logged_and_slowed() {
    let mut world = World::new(World::with_duplicates()).await;
    world.target("orders").await;
    world.set("SERVER__ADMIN_TOKEN", "the-token-of-the-operator");
    world.set("SERVER__TOKENS__PROMETHEUS__TOKEN", "the-token-of-prometheus");
    world.set("SERVER__TOKENS__PROMETHEUS__SCOPE", "metrics");
    let mut bridge = Bridge::start(&world.configuration).await;
    let ask = async |path: &str, token: &str, more: &[(&str, &str)]| {
        let mut request = reqwest::Client::new().get(format!("{}{path}", bridge.admin));
        if !token.is_empty() {
            request = request.bearer_auth(token);
        }
        for (name, value) in more {
            request = request.header(*name, *value);
        }
        soon(path, request.send()).await.unwrap()
    };
    let began = std::time::Instant::now();
    assert_eq!(ask("/status", "a-guess-that-is-hidden", &[]).await.status(), 401);
    assert!(began.elapsed() >= Duration::from_millis(400), "{:?}", began.elapsed());
    assert_eq!(ask("/status", "", &[]).await.status(), 401);
    assert_eq!(ask("/api/v1/overview", "the-token-of-prometheus", &[]).await.status(), 403);
    let elsewhere = [("sec-fetch-site", "cross-site")];
    assert_eq!(ask("/status", "the-token-of-the-operator", &elsewhere).await.status(), 403);
    assert_eq!(
        ask("/status", "the-token-of-the-operator", &[("origin", "http://evil.example")]).await.status(),
        403
    );

    // Of many requests at a time from one address, some are refused without a look at the token.
    let guesses = (0..40).map(|_| ask("/status", "a-guess-that-is-hidden", &[]));
    let answers = futures_util::future::join_all(guesses).await;
    assert!(answers.iter().any(|answer| answer.status() == 429), "none was slowed");
    assert!(answers.iter().all(|answer| matches!(answer.status().as_u16(), 401 | 429)));

    let metrics = ask("/metrics", "the-token-of-prometheus", &[]).await;
    assert_eq!(metrics.headers()["x-content-type-options"], "nosniff");
    let metrics = metrics.text().await.unwrap();
    let count = |reason: &str| -> u32 {
        let series = format!("pepay_bridge_admin_refused_total{{reason=\"{reason}\"}} ");
        metrics.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap()
    };
    assert_eq!((count("missing"), count("scope"), count("cross_site")), (1, 1, 2));
    assert_eq!(count("wrong") + count("slowed"), 41);
    for reason in ["wrong", "missing", "scope", "cross_site", "slowed"] {
        let told = |line: &Value| message(line) == "admin request refused" && line["reason"] == reason;
        let line = bridge.logged_where(reason, told).await;
        assert!(line["peer"].as_str().unwrap().starts_with("127.0.0.1:"), "{line}");
    }
    let (_, log) = bridge.stop().await;
    let told =
        log.iter().filter(|line| message(line) == "admin request refused" && line["reason"] == "wrong");
    assert!(told.count() <= 2, "one line in ten seconds");
    assert!(!log.iter().any(|line| line.to_string().contains("hidden")));
}

/// Starts a bridge whose database another connection holds, so that it cannot be opened yet.
async fn opening() -> (World, Bridge, rusqlite::Connection) {
    let (mut world, bridge) = bridge().await;
    bridge.stop().await;
    let holder = rusqlite::Connection::open(world.database()).unwrap();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // A new target has to be stored.
    world.target("refunds").await;
    let bridge = Bridge::listening(&world.configuration).await;
    (world, bridge, holder)
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_store_is_opened_the_bridge_is_alive_and_takes_nothing() {
    let (_world, mut bridge, holder) = opening().await;
    let asked = async |url: String| {
        let answer = soon(&url, reqwest::get(&url)).await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_slice::<Value>(&answer.bytes().await.unwrap()).unwrap())
    };
    let webhook = signed("POST /webhooks/pepay", "", &event("evt_1"));
    assert_eq!(send(&bridge, &webhook).await, "HTTP/1.1 503 Service Unavailable");
    for listener in [&bridge.public, &bridge.admin] {
        assert_eq!(asked(format!("{listener}/healthz")).await.0, 200);
        for path in ["/readyz", "/readyz/intake"] {
            let reasons = json!({ "ready": false, "reasons": ["starting: the store is being opened"] });
            assert_eq!(asked(format!("{listener}{path}")).await, (503, reasons), "{listener}{path}");
        }
    }
    let (status, problem) = asked(format!("{}/api/v1/overview", bridge.admin)).await;
    assert_eq!((status, &problem["type"]), (503, &json!("urn:pepay-bridge:problem:store_unavailable")));
    drop(holder);
    bridge.logged("pepay-bridge is up").await;
    assert_eq!(send(&bridge, &webhook).await, "HTTP/1.1 200 OK");
    assert_eq!(asked(format!("{}/readyz/intake", bridge.public)).await, (200, json!({ "ready": true })));
    bridge.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bridge_that_is_opening_its_store_stops_when_it_is_asked_to() {
    let (_world, bridge, holder) = opening().await;
    let (status, log) = bridge.stop().await;
    assert!(status.success(), "{log:?}");
    drop(holder);
}
