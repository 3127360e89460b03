//! Pepay's stream and the target behind the bridge, in one process.
//!
//! The stream sends frames while fewer than a window of them are on their way to the target. Without this
//! limit a stream that is faster than the store would overflow the queue of the bridge. The bridge would
//! then read the rest from the REST list, which this server does not have.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocket, WebSocketUpgrade};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::SinkExt as _;
use futures_util::stream::{SplitSink, StreamExt as _};
use pepay_bridge::domain::clock::Clock;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::requests::Bodies;
use crate::target::{self, Expect, Received, Tally};
use crate::{Outcome, role};

/// The largest number of frames on their way to the target. At most 1,000 frames can wait for the store
/// of the bridge (docs/stream.md, rule 5).
const WINDOW: u64 = 900;
/// The number of frames in one write.
const FLUSH: u64 = 64;
/// The time limit for the arrival of the last event at the target, in seconds.
const DRAIN_LIMIT: u64 = 60;

/// The task of this role.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// The duration of the load, in seconds.
    pub seconds: f64,
}

/// The addresses of this role.
#[derive(Debug, Serialize, Deserialize)]
pub struct Addresses {
    /// The address of Pepay.
    pub pepay: SocketAddr,
    /// The address of the target.
    pub target: SocketAddr,
}

/// The result of this role.
#[derive(Debug, Serialize, Deserialize)]
pub struct Streamed {
    /// The number of frames sent, each with a different event.
    pub events: u64,
    /// The time of the first frame, in Unix milliseconds.
    pub started_ms: i64,
    /// The events that the target received.
    pub received: Received,
}

#[derive(Clone)]
struct Pepay {
    seconds: f64,
    go: CancellationToken,
    arrived: watch::Receiver<u64>,
    /// Receives the number of frames sent and the time of the first one.
    sent: mpsc::Sender<(u64, i64)>,
}

/// Listens and reports the addresses. After the starter's go-ahead, sends the frames and reports the
/// result.
pub async fn play(task: &Task) -> Outcome<()> {
    let pepay = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    role::say(&Addresses { pepay: pepay.local_addr()?, target: target.local_addr()? })?;
    let tally = Arc::new(Tally::default());
    let (sent, mut done) = mpsc::channel(1);
    let (go, arrived) = (CancellationToken::new(), tally.follow());
    let state = Pepay { seconds: task.seconds, go: go.clone(), arrived, sent };
    let mut tasks = JoinSet::new();
    tasks.spawn(target::accept(target, Arc::clone(&tally), Duration::ZERO));
    tasks.spawn(async move {
        // The server ends with the process.
        let _ended = axum::serve(pepay, routes(state)).await;
    });
    let () = role::hear_async().await?;
    go.cancel();
    let (events, started_ms) = done.recv().await.ok_or("the bridge has left the stream")?;
    let received = tally.until(&Expect { events, seconds: DRAIN_LIMIT }).await;
    role::say(&Streamed { events, started_ms, received })?;
    role::hear_async().await
}

fn routes(state: Pepay) -> Router {
    Router::new()
        .route("/api/v1/ws/token", post(token))
        .route("/api/v1/events", get(empty_list))
        .route("/ws/commerce/events", get(upgrade))
        .with_state(state)
}

async fn token() -> Json<Value> {
    let data = json!({"token": "t", "scope": "commerce", "expires_at": "2099-01-01T00:00:00.000Z"});
    Json(json!({"success": true, "data": data}))
}

async fn empty_list() -> Json<Value> {
    Json(json!({"success": true, "data": {"object": "list", "data": [], "has_more": false}}))
}

async fn upgrade(State(pepay): State<Pepay>, request: WebSocketUpgrade) -> Response {
    request.on_upgrade(move |socket| serve(socket, pepay))
}

async fn serve(socket: WebSocket, pepay: Pepay) {
    let (mut frames, mut client) = socket.split();
    let from_client = async {
        // Reading makes the library answer pings. The messages themselves are ignored.
        while let Some(Ok(_)) = client.next().await {}
    };
    let to_client = async {
        pepay.go.cancelled().await;
        let started = Clock::system().now().0;
        let events = push(&mut frames, &pepay).await;
        // The count of a second connection is not needed.
        let _ = pepay.sent.try_send((events, started));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = from_client => {}
        () = to_client => {}
    }
}

/// Sends frames until the time is over, and returns their number.
async fn push(frames: &mut SplitSink<WebSocket, Message>, pepay: &Pepay) -> u64 {
    let until = Instant::now() + Duration::from_secs_f64(pepay.seconds);
    let (bodies, mut arrived, mut sent) = (Bodies::new(), pepay.arrived.clone(), 0);
    while Instant::now() < until {
        let Ok(room) = arrived.wait_for(|arrived| sent + FLUSH <= arrived + WINDOW).await.map(|seen| *seen)
        else {
            break;
        };
        while sent < room + WINDOW {
            let Ok(text) = Utf8Bytes::try_from(bodies.get(sent)) else { return sent };
            if frames.feed(Message::Text(text)).await.is_err() {
                return sent;
            }
            sent += 1;
            if sent % FLUSH == 0 {
                break;
            }
        }
        if frames.flush().await.is_err() {
            break;
        }
    }
    sent
}
