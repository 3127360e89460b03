//! The sender at full speed: each connection sends its next request when it has the response to the last
//! one.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pepay_bridge::domain::clock::Clock;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::Head;
use crate::requests::{Bodies, Requests};
use crate::{Outcome, proc, role};

/// The number of new events between an event and its repetition.
const REPEATED_AFTER: u64 = 256;

/// A load to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// The addresses of the servers. The connections are assigned to them in turn.
    pub addresses: Vec<SocketAddr>,
    /// The number of connections.
    pub connections: u32,
    /// The duration in seconds.
    pub seconds: f64,
    /// The number of the first event.
    pub first: u64,
    /// The largest number of events. At a fixed pace it is the exact number.
    pub events: u64,
    /// Whether every second request repeats an earlier one.
    pub repeating: bool,
    /// Whether all events are about the same object.
    pub one_object: bool,
}

impl Load {
    /// Returns the signed requests.
    pub fn requests(&self) -> Requests {
        let bodies = if self.one_object { Bodies::of_one_object() } else { Bodies::new() };
        let host = self.addresses.first().map(ToString::to_string).unwrap_or_default();
        Requests::sign(bodies, (self.first, self.events), &host)
    }
}

impl Load {
    /// Returns the address of each connection.
    pub fn each_connection(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().copied().cycle().take(self.connections as usize)
    }
}

/// The result of a load.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// The number of responses with 200.
    pub accepted: u64,
    /// The number of responses with 200 that report a duplicate.
    pub duplicates: u64,
    /// The number of requests with another response or none.
    pub refused: u64,
    /// The first refusal.
    pub refusal: String,
    /// The number of different events, counted from the first event.
    pub events: u64,
    /// The time of the first request, in Unix milliseconds.
    pub started_ms: i64,
    /// The time from the first request to the last response, in seconds.
    pub seconds: f64,
    /// The median latency, from a request or the time at which it was due to its response, in
    /// microseconds.
    pub p50: f64,
    /// The 99th percentile of the latency, in microseconds.
    pub p99: f64,
    /// The processor time of the sender per request, in microseconds.
    pub cpu: f64,
}

/// The counts and latencies of all connections.
#[derive(Clone)]
pub struct Tally(Arc<Mutex<Seen>>);

struct Seen {
    accepted: u64,
    duplicates: u64,
    refused: u64,
    refusal: String,
    latency: Histogram<u64>,
}

impl Tally {
    /// Creates an empty tally, for latencies up to one minute with three significant digits.
    pub fn new() -> Outcome<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let seen = Seen { accepted: 0, duplicates: 0, refused: 0, refusal: String::new(), latency };
        Ok(Self(Arc::new(Mutex::new(seen))))
    }

    /// Counts the outcome of a request that was due `after` ago. Returns whether there was a response.
    pub fn count(&self, answer: &std::io::Result<Answer>, after: Duration) -> bool {
        let mut seen = self.seen();
        let refusal = match answer {
            Ok(Answer { status: 200, duplicate }) => {
                seen.accepted += 1;
                seen.duplicates += u64::from(*duplicate);
                seen.latency.saturating_record(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
                return true;
            }
            Ok(Answer { status, .. }) => format!("status {status}"),
            Err(error) => error.to_string(),
        };
        seen.refused += 1;
        if seen.refusal.is_empty() {
            seen.refusal = refusal;
        }
        answer.is_ok()
    }

    /// Returns the result since `start`.
    pub fn sum_up(&self, start: &Start) -> Outcome<Sent> {
        let (seconds, seen) = (start.at.elapsed().as_secs_f64(), self.seen());
        let cpu = proc::cpu(std::process::id())?.saturating_sub(start.cpu).as_secs_f64() * 1e6;
        let micros = |quantile| exact(seen.latency.value_at_quantile(quantile));
        Ok(Sent {
            accepted: seen.accepted,
            duplicates: seen.duplicates,
            refused: seen.refused,
            refusal: seen.refusal.clone(),
            events: seen.accepted - seen.duplicates,
            started_ms: start.at_ms,
            seconds,
            p50: micros(0.5),
            p99: micros(0.99),
            cpu: cpu / exact((seen.accepted + seen.refused).max(1)),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time at which the first request is due, and the processor time of the sender before it.
pub struct Start {
    /// The time by the monotonic clock.
    pub at: Instant,
    at_ms: i64,
    cpu: Duration,
}

impl Start {
    /// Returns a start after `wait`.
    pub fn after(wait: Duration) -> Outcome<Self> {
        let cpu = proc::cpu(std::process::id())?;
        Ok(Self { at: Instant::now() + wait, at_ms: Clock::system().now().plus(wait).0, cpu })
    }
}

/// Converts a count to `f64`.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a run lie far below 2^52")]
pub fn exact(count: u64) -> f64 {
    count as f64
}

/// Signs the requests and reports that they are ready. After the starter's go-ahead, sends them and
/// reports the result.
pub fn play(load: &Load) -> Outcome<()> {
    let requests = Arc::new(load.requests());
    role::say(&"ready")?;
    let () = role::hear()?;
    role::say(&role::runtime()?.block_on(send(load, requests))?)
}

async fn send(load: &Load, requests: Arc<Requests>) -> Outcome<Sent> {
    let mut streams = Vec::new();
    for address in load.each_connection() {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (tally, start) = (Tally::new()?, Start::after(Duration::ZERO)?);
    let until = start.at + Duration::from_secs_f64(load.seconds);
    let (next, first, repeating) = (Arc::new(AtomicU64::new(0)), load.first, load.repeating);
    let mut connections = JoinSet::new();
    for stream in streams {
        let (requests, next, tally) = (Arc::clone(&requests), Arc::clone(&next), tally.clone());
        connections.spawn(async move {
            let turns = std::iter::from_fn(|| {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let event = first + if repeating { repetition(turn) } else { turn };
                (requests.hold(event) && Instant::now() < until).then_some(event)
            });
            connection(stream, &requests, turns, &tally).await;
        });
    }
    while let Some(ended) = connections.join_next().await {
        ended?;
    }
    tally.sum_up(&start)
}

/// Returns the event of a turn if every second turn is a repetition.
fn repetition(turn: u64) -> u64 {
    if turn.is_multiple_of(2) { turn / 2 } else { (turn / 2).saturating_sub(REPEATED_AFTER) }
}

async fn connection(
    mut stream: TcpStream,
    requests: &Requests,
    turns: impl Iterator<Item = u64>,
    tally: &Tally,
) {
    let (mut request, mut answer) = (Vec::with_capacity(4096), vec![0; 4096]);
    for event in turns {
        requests.write(event, &mut request);
        let sent = Instant::now();
        let answer = exchange(&mut stream, &request, &mut answer).await;
        if !tally.count(&answer, sent.elapsed()) {
            return;
        }
    }
}

async fn exchange(stream: &mut TcpStream, request: &[u8], buffer: &mut [u8]) -> std::io::Result<Answer> {
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            read => filled += read,
        }
        if let Some(answer) = Answer::read(&buffer[..filled]) {
            return Ok(answer);
        }
    }
}

/// The relevant parts of a response.
pub struct Answer {
    status: u16,
    duplicate: bool,
}

impl Answer {
    /// Returns the response in `bytes`, or `None` if it is not complete.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (head, end) = Head::at_the_beginning_of(bytes)?;
        let body = bytes[end..].get(..head.content_length())?;
        let duplicate = body.windows(16).any(|part| part == br#""duplicate":true"#);
        Some(Self { status: head.status()?, duplicate })
    }
}
