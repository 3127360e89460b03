//! Tests of the server's limits, with real sockets.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, mpsc};

use super::*;

/// The time limit of every wait. It is far longer than any step takes; a test that reaches it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Limits that no test reaches, for the limits that a test is not about.
const GENEROUS: Limits =
    Limits { connections: 8, keep_alive: PATIENCE, head: PATIENCE, stall: PATIENCE, half_close: true };

/// A server with its two stops.
struct Serving {
    address: SocketAddr,
    stop: CancellationToken,
    abandon: CancellationToken,
    task: JoinSet<()>,
}

impl Serving {
    async fn start(router: Router, limits: Limits) -> Self {
        Self::start_on(bind().await, router, limits)
    }

    fn start_on(listener: TcpListener, router: Router, limits: Limits) -> Self {
        let address = listener.local_addr().unwrap();
        let (stop, abandon) = (CancellationToken::new(), CancellationToken::new());
        let mut task = JoinSet::new();
        task.spawn(serve(listener, router.into(), limits, None, stop.clone(), abandon.clone()));
        Self { address, stop, abandon, task }
    }

    async fn client(&self) -> Client {
        Client::of(self.address).await
    }

    /// Waits until `serve` has returned.
    async fn ended(mut self) {
        within(self.task.join_next()).await.unwrap().unwrap();
    }
}

struct Client(TcpStream);

async fn bind() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.unwrap()
}

impl Client {
    async fn of(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    async fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: bridge\r\n\r\n")).await;
    }

    /// Reads until the text ends with `end`, and returns the text.
    async fn reads(&mut self, end: &str) -> String {
        let mut read = String::new();
        while !read.ends_with(end) {
            let mut piece = [0; 1024];
            let length = within(self.0.read(&mut piece)).await.unwrap();
            assert!(length > 0, "closed after {read:?}");
            read.push_str(std::str::from_utf8(&piece[..length]).unwrap());
        }
        read
    }

    /// Waits until the server has closed the connection. Returns the text that came before.
    async fn closed(&mut self) -> String {
        let mut read = Vec::new();
        // A reset is an end as well.
        let _ = within(self.0.read_to_end(&mut read)).await;
        String::from_utf8(read).unwrap()
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it should have happened long ago")
}

fn hello() -> Router {
    Router::new().route("/", get(|| async { "hello" }))
}

/// Returns a router whose response is the body of the request.
fn echo() -> Router {
    Router::new().route("/", axum::routing::post(|body: Bytes| async { body }))
}

/// Returns a router whose handler reports each request on the channel and answers it after `Notify`.
fn held() -> (Router, mpsc::Receiver<()>, Arc<Notify>) {
    let (entered, entries) = mpsc::channel(8);
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let handler = move || async move {
        entered.send(()).await.unwrap();
        gate.notified().await;
        "held"
    };
    (Router::new().route("/", get(handler)), entries, release)
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_one_after_another() {
    let server = Serving::start(hello(), GENEROUS).await;
    let mut client = server.client().await;
    for _ in 0..3 {
        client.get("/").await;
        assert!(client.reads("hello").await.starts_with("HTTP/1.1 200 OK"));
    }
}

#[tokio::test]
async fn a_head_that_never_ends_is_cut_off() {
    let limits = Limits { head: Duration::from_millis(50), ..GENEROUS };
    let server = Serving::start(hello(), limits).await;
    let mut client = server.client().await;
    client.send("GET / HTTP/1.1\r\nhost: br").await;
    client.closed().await;
}

#[tokio::test]
async fn a_connection_without_a_request_is_closed() {
    let limits = Limits { keep_alive: Duration::from_millis(50), ..GENEROUS };
    let server = Serving::start(hello(), limits).await;
    assert_eq!(server.client().await.closed().await, "");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_request() {
    let listener = bind().await;
    // The request is sent before the server runs, so its head is never late.
    let mut client = Client::of(listener.local_addr().unwrap()).await;
    client.get("/").await;
    let limits = Limits { keep_alive: Duration::from_millis(50), ..GENEROUS };
    let _server = Serving::start_on(listener, hello(), limits);
    assert!(client.closed().await.ends_with("hello"));
}

#[tokio::test]
async fn an_idle_connection_has_longer_than_a_head_that_has_begun() {
    let limits = Limits { head: Duration::from_millis(50), ..GENEROUS };
    let server = Serving::start(hello(), limits).await;
    let mut client = server.client().await;
    for _ in 0..2 {
        // The client is idle for far longer than the limit of a head.
        tokio::time::timeout(Duration::from_millis(200), client.0.readable()).await.unwrap_err();
        client.get("/").await;
        client.reads("hello").await;
    }
    client.send("GET / HTT").await;
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn a_body_may_take_longer_than_a_head() {
    let limits =
        Limits { head: Duration::from_millis(50), keep_alive: Duration::from_millis(50), ..GENEROUS };
    let server = Serving::start(echo(), limits).await;
    let mut client = server.client().await;
    client.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhel").await;
    tokio::time::timeout(Duration::from_millis(200), client.0.readable()).await.unwrap_err();
    client.send("lo").await;
    client.reads("hello").await;
}

#[tokio::test]
async fn a_missing_or_doubled_host_is_a_bad_request() {
    let server = Serving::start(hello(), GENEROUS).await;
    let mut client = server.client().await;
    for hosts in ["", "host: a\r\nhost: b\r\n"] {
        client.send(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")).await;
        let answer = client.reads("}}").await;
        assert!(answer.starts_with("HTTP/1.1 400") && answer.contains("bad_host"), "{answer}");
        assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    }
    client.get("/").await;
    client.reads("hello").await;
}

#[tokio::test]
async fn a_head_that_is_too_long_is_refused() {
    let server = Serving::start(hello(), GENEROUS).await;
    let mut client = server.client().await;
    client.send(&format!("GET / HTTP/1.1\r\nx: {}\r\n\r\n", "y".repeat(MAX_HEAD))).await;
    assert!(client.closed().await.starts_with("HTTP/1.1 431"));
}

#[tokio::test]
async fn an_answer_that_is_not_read_is_given_up() {
    /// Sends a message when the response is dropped.
    struct Dropped(mpsc::Sender<()>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.try_send(()).unwrap();
        }
    }

    let (dropped, mut drops) = mpsc::channel(1);
    let endless = move || {
        let guard = Dropped(dropped.clone());
        async move {
            Body::from_stream(stream::repeat_with(move || {
                let _ = &guard;
                Ok::<_, Infallible>(Bytes::from_static(&[b'x'; 16384]))
            }))
        }
    };
    let limits = Limits { stall: Duration::from_millis(50), ..GENEROUS };
    let server = Serving::start(Router::new().route("/", get(endless)), limits).await;
    let mut client = server.client().await;
    client.get("/").await;
    assert_eq!(within(drops.recv()).await, Some(()));
}

#[tokio::test]
async fn a_connection_beyond_the_cap_waits_while_the_others_are_served() {
    let (router, mut entries, release) = held();
    let server = Serving::start(router, Limits { connections: 1, ..GENEROUS }).await;
    let mut inside = server.client().await;
    inside.get("/").await;
    within(entries.recv()).await.unwrap();
    let mut waiting = server.client().await;
    waiting.get("/").await;
    // Both requests are answered. The second one enters the handler only after the first.
    release.notify_one();
    inside.reads("held").await;
    within(entries.recv()).await.unwrap();
    release.notify_one();
    waiting.reads("held").await;
}

#[tokio::test]
async fn clients_that_keep_the_server_waiting_give_up_their_place_the_longest_first() {
    let server = Serving::start(echo(), Limits { connections: 3, ..GENEROUS }).await;
    let mut silent = server.client().await;
    let mut slow_head = server.client().await;
    slow_head.send("GET / HTTP/1.1\r\n").await;
    let mut slow_body = server.client().await;
    slow_body.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n").await;
    // The handler reads this body, so the server has accepted all three, in the order of connection.
    slow_body.reads("100 Continue\r\n\r\n").await;
    let mut fillers = Vec::new();
    for holder in [&mut silent, &mut slow_head, &mut slow_body] {
        let mut quick = server.client().await;
        quick.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello").await;
        quick.reads("hello").await;
        holder.closed().await;
        quick.closed().await;
        // This client takes the slot of `quick`. The server has waited for it the shortest.
        fillers.push(server.client().await);
    }
}

/// A first client requests a long response, a second one becomes idle, and a third one needs a slot. The
/// second client loses its slot, and the first one gets its whole response.
async fn outlasts_an_idle_one(router: Router, end: &str, release: &Notify) {
    let router = router.route("/", get(|| async { "hello" }));
    let server = Serving::start(router, Limits { connections: 2, ..GENEROUS }).await;
    let mut receiving = server.client().await;
    receiving.get("/long").await;
    let mut first = [0; 9];
    within(receiving.0.read_exact(&mut first)).await.unwrap();
    let mut idle = server.client().await;
    idle.get("/").await;
    idle.reads("hello").await;
    let mut newcomer = server.client().await;
    newcomer.get("/").await;
    newcomer.reads("hello").await;
    idle.closed().await;
    release.notify_one();
    receiving.reads(end).await;
}

#[tokio::test]
async fn a_client_that_receives_a_stream_keeps_its_place_and_an_idle_one_gives_it_up() {
    let release = Arc::new(Notify::new());
    let gate = Arc::clone(&release);
    let long = move || {
        let gate = Arc::clone(&gate);
        let rest = stream::once(async move {
            gate.notified().await;
            Ok(Bytes::from_static(b"the end"))
        });
        let first = stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"the beginning"))]);
        async { Body::from_stream(first.chain(rest)) }
    };
    outlasts_an_idle_one(Router::new().route("/long", get(long)), "the end\r\n0\r\n\r\n", &release).await;
}

#[tokio::test]
async fn a_client_that_reads_slowly_keeps_its_place_and_an_idle_one_gives_it_up() {
    // The body is larger than the socket buffers.
    let long = || async { format!("{}the end", "x".repeat(32 << 20)) };
    outlasts_an_idle_one(Router::new().route("/long", get(long)), "the end", &Notify::new()).await;
}

#[tokio::test]
async fn a_client_that_ends_its_writing_side_after_its_request_is_answered() {
    let (router, mut entries, release) = held();
    let server = Serving::start(router, GENEROUS).await;
    let mut client = server.client().await;
    client.get("/").await;
    within(entries.recv()).await.unwrap();
    client.0.shutdown().await.unwrap();
    release.notify_one();
    assert!(client.closed().await.ends_with("held"));
}

#[tokio::test]
async fn without_half_close_a_client_that_ends_its_writing_side_ends_its_request() {
    let (router, mut entries, _release) = held();
    let server = Serving::start(router, Limits { half_close: false, ..GENEROUS }).await;
    let mut client = server.client().await;
    client.get("/").await;
    within(entries.recv()).await.unwrap();
    client.0.shutdown().await.unwrap();
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn a_panic_is_answered_and_the_connection_goes_on() {
    async fn broken() -> &'static str {
        panic!("the handler is broken")
    }
    let server = Serving::start(hello().route("/broken", get(broken)), GENEROUS).await;
    let mut client = server.client().await;
    client.get("/broken").await;
    let answer = client.reads("}}").await;
    assert!(answer.starts_with("HTTP/1.1 500") && answer.contains("internal_error"), "{answer}");
    client.get("/").await;
    client.reads("hello").await;
}

#[tokio::test]
async fn at_the_stop_requests_in_flight_are_finished_and_no_connection_is_accepted() {
    let (router, mut entries, release) = held();
    let server = Serving::start(router, GENEROUS).await;
    let (mut busy, mut silent) = (server.client().await, server.client().await);
    busy.get("/").await;
    within(entries.recv()).await.unwrap();

    server.stop.cancel();
    assert_eq!(silent.closed().await, "");
    let refused = TcpStream::connect(server.address).await;
    assert!(refused.is_err(), "the listener is still open");

    release.notify_one();
    let answer = busy.closed().await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("held"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    server.ended().await;
}

#[tokio::test]
async fn at_the_hard_stop_requests_in_flight_are_dropped() {
    let (router, mut entries, _release) = held();
    let server = Serving::start(router, GENEROUS).await;
    let mut busy = server.client().await;
    busy.get("/").await;
    within(entries.recv()).await.unwrap();
    server.stop.cancel();
    server.abandon.cancel();
    assert_eq!(busy.closed().await, "");
    server.ended().await;
}
