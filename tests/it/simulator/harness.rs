//! A served simulator and the clients that talk to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, StatusCode};
use pepay_bridge::domain::backoff::{Backoff, Jitter};
use pepay_bridge::domain::clock::{Clock, UnixMillis};
use pepay_bridge::domain::event::Event;
use pepay_bridge::pepay::envelope;
use pepay_bridge::simulator::options::{ApiKey, Options};
use pepay_bridge::simulator::target::{self, Target};
use pepay_bridge::simulator::{ServeError, Simulator};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tokio_util::sync::CancellationToken;

pub const KEY: &str = "key_test";
pub const START: i64 = 1_734_780_000_000;
/// The longest time that a test waits for an event.
const LIMIT: Duration = Duration::from_secs(20);

/// Waits for `future`, at most for [`LIMIT`].
pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future).await.expect("it should have happened long ago")
}

/// A clock that stands still until it is moved.
#[derive(Clone)]
pub struct TestClock(Arc<AtomicI64>);

impl TestClock {
    pub fn new() -> Self {
        Self(Arc::new(AtomicI64::new(START)))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Clock::from_fn(move || UnixMillis(now.load(Ordering::SeqCst)))
    }
}

/// A simulator on a port of its own.
pub struct World {
    pub simulator: Simulator,
    pub clock: TestClock,
    address: String,
    pub http: reqwest::Client,
    stop: CancellationToken,
    serving: JoinSet<Result<(), ServeError>>,
    targets: JoinSet<()>,
}

pub fn options() -> Options {
    let mut options = Options { keys: vec![ApiKey::new(KEY)], ping_interval: None, ..Options::default() };
    options.webhooks.backoff = Backoff::new(Duration::from_millis(1), Duration::from_millis(2)).unwrap();
    options.webhooks.attempts = 3;
    options
}

pub async fn world() -> World {
    world_with(options()).await
}

pub async fn world_with(options: Options) -> World {
    let _already_chosen = rustls::crypto::ring::default_provider().install_default();
    let clock = TestClock::new();
    let simulator = Simulator::new(options, clock.clock(), Jitter::from_fn(|| 0.5));
    let mut world = World {
        simulator,
        clock,
        address: String::new(),
        http: reqwest::Client::builder().no_proxy().build().unwrap(),
        stop: CancellationToken::new(),
        serving: JoinSet::new(),
        targets: JoinSet::new(),
    };
    world.serve().await;
    world
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }
}

impl World {
    /// Serves the simulator on a new port.
    pub async fn serve(&mut self) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        self.address = listener.local_addr().unwrap().to_string();
        let (simulator, stop) = (self.simulator.clone(), self.stop.clone());
        self.serving.spawn(async move { simulator.serve(listener, stop).await });
    }

    /// Stops the simulator and the targets, and waits for the end of the simulator.
    pub async fn shut_down(&mut self) {
        std::mem::take(&mut self.stop).cancel();
        soon(self.serving.join_next()).await.unwrap().unwrap().unwrap();
    }

    /// Starts a sample target. Returns it and its URL, such as `http://127.0.0.1:1234`.
    pub async fn target(&mut self, options: target::Options) -> (Target, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let target = Target::new(options, self.clock.clock());
        let (serving, stop) = (target.clone(), self.stop.clone());
        self.targets.spawn(async move { serving.serve(listener, stop).await });
        (target, url)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn publish(&self, event: &Event) {
        self.simulator.publish(event.clone()).unwrap();
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(self.http.get(self.url(path)).header("x-api-key", KEY)).await
    }

    pub async fn post(&self, path: &str, body: &str) -> Answer {
        let request = self.http.post(self.url(path)).header("x-commerce-api-key", KEY);
        self.send(request.header("content-type", "application/json").body(body.to_owned())).await
    }

    pub async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = soon(request.send()).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, body: soon(response.bytes()).await.unwrap() }
    }

    /// Returns the ids on a page of the list, and its `has_more`.
    pub async fn page(&self, query: &str) -> (Vec<String>, bool) {
        let answer = self.get(&format!("/api/v1/events?{query}")).await;
        assert_eq!(answer.status, 200, "{query}");
        let list = &answer.json()["data"];
        let ids =
            list["data"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_owned());
        (ids.collect(), list["has_more"].as_bool().unwrap())
    }

    pub async fn mint(&self, scope: &str) -> String {
        let answer =
            self.post("/api/v1/ws/token", &format!(r#"{{"scope":"{scope}","ttl_seconds":60}}"#)).await;
        assert_eq!(answer.status, 200);
        answer.json()["data"]["token"].as_str().unwrap().to_owned()
    }

    /// Opens a stream with the key in a header.
    pub async fn stream(&self, path_and_query: &str) -> Client {
        self.try_stream(path_and_query, Some(KEY)).await.expect("the upgrade is accepted")
    }

    /// Opens a stream. Returns the answer if it is refused.
    pub async fn try_stream(&self, path_and_query: &str, key: Option<&str>) -> Result<Client, Answer> {
        let url = format!("ws://{}{path_and_query}", self.address);
        let mut request = url.into_client_request().unwrap();
        if let Some(key) = key {
            request.headers_mut().insert("x-api-key", key.parse().unwrap());
        }
        let opened = self.simulator.statistics().streams_opened;
        match soon(Box::pin(tokio_tungstenite::connect_async(request))).await {
            Ok((socket, _)) => {
                soon(self.simulator.until(|now| now.streams_opened > opened)).await;
                Ok(Client(socket))
            }
            Err(Error::Http(response)) => {
                let (parts, body) = response.into_parts();
                let body = body.unwrap_or_default().into();
                Err(Answer { status: parts.status, headers: parts.headers, body })
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub async fn refusal(&self, path_and_query: &str) -> Answer {
        match self.try_stream(path_and_query, Some(KEY)).await {
            Ok(_) => panic!("{path_and_query} was accepted"),
            Err(answer) => answer,
        }
    }
}

/// The client's end of a stream.
#[derive(Debug)]
pub struct Client(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Client {
    /// Reads the next frame of any kind. Returns `None` at the end.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        soon(self.0.next()).await
    }

    /// Reads the next frame, which is text.
    pub async fn text(&mut self) -> String {
        match self.next().await {
            Some(Ok(Message::Text(text))) => text.to_string(),
            other => panic!("{other:?} instead of a text frame"),
        }
    }

    /// Reads the next frame, which is JSON.
    pub async fn json(&mut self) -> Value {
        serde_json::from_str(&self.text().await).unwrap()
    }

    /// Reads the next `count` events. Returns their ids.
    pub async fn ids(&mut self, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < count {
            ids.push(self.json().await["id"].as_str().expect("an event").to_owned());
        }
        ids
    }

    pub async fn send(&mut self, message: Message) {
        soon(self.0.send(message)).await.unwrap();
    }

    /// Reads the next frame, which is a close frame. Returns its code.
    pub async fn close_code(&mut self) -> u16 {
        let code = match self.next().await {
            Some(Ok(Message::Close(Some(frame)))) => frame.code.into(),
            other => panic!("{other:?} instead of a close frame"),
        };
        // The library answers the close frame while it reads on.
        assert!(self.next().await.is_none());
        code
    }
}

/// Returns the `n`th event, about an order.
pub fn event(n: u32) -> Event {
    event_of("commerce.order.updated", n, &format!(r#""object":"commerce_order","id":"order_{n}""#))
}

/// Returns an event of type `kind` with `fields` in `data.object`. Its irregular spaces show whether
/// the bytes are kept.
pub fn event_of(kind: &str, n: u32, fields: &str) -> Event {
    let body = format!(
        r#"{{ "id":"evt_{}-{n}","object":"event",  "type":"{kind}","created":{}, "data":{{"object":{{{fields}}}}},"n":1.50 }}"#,
        START + i64::from(n),
        START / 1000 + i64::from(n),
    );
    envelope::parse(Bytes::from(body), UnixMillis(0)).unwrap()
}

pub fn id(n: u32) -> String {
    event(n).id.to_string()
}

pub fn ids(numbers: impl IntoIterator<Item = u32>) -> Vec<String> {
    numbers.into_iter().map(id).collect()
}
