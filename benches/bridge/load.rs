//! The sender at full speed: every connection sends its next request as soon as
//! the last one is answered.

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

/// A repetition comes this many new events after the event.
const REPEATED_AFTER: u64 = 256;

/// What to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// To whom. The connections are dealt out in turn.
    pub addresses: Vec<SocketAddr>,
    /// Over how many connections.
    pub connections: u32,
    /// For how long.
    pub seconds: f64,
    /// The number of the first event.
    pub first: u64,
    /// At most this many events, or exactly this many at a fixed pace.
    pub events: u64,
    /// Every second request repeats an earlier one.
    pub repeating: bool,
    /// All events are about the same object.
    pub one_object: bool,
}

impl Load {
    /// Its requests, signed.
    pub fn requests(&self) -> Requests {
        let bodies = if self.one_object { Bodies::of_one_object() } else { Bodies::new() };
        let host = self.addresses.first().map(ToString::to_string).unwrap_or_default();
        Requests::sign(bodies, (self.first, self.events), &host)
    }
}

impl Load {
    /// Where each connection leads.
    pub fn each_connection(&self) -> impl Iterator<Item = SocketAddr> {
        self.addresses.iter().copied().cycle().take(self.connections as usize)
    }
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Sent {
    /// Requests answered with 200.
    pub accepted: u64,
    /// Of these, said to be duplicates.
    pub duplicates: u64,
    /// Requests answered otherwise, or not at all.
    pub refused: u64,
    /// What the first refusal was.
    pub refusal: String,
    /// Different events, numbered from the first on.
    pub events: u64,
    /// When the first request went out, in Unix milliseconds.
    pub started_ms: i64,
    /// From then to the last answer, in seconds.
    pub seconds: f64,
    /// From a request, or the time it was due, to its answer, in microseconds.
    pub p50: f64,
    /// The same for the slowest hundredth.
    pub p99: f64,
    /// Processor time of the sender for each request, in microseconds.
    pub cpu: f64,
}

/// What all connections together have seen.
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
    /// Nothing yet; latencies up to a minute, three digits.
    pub fn new() -> Outcome<Self> {
        let latency = Histogram::new_with_bounds(1, 60_000_000, 3)?;
        let seen = Seen { accepted: 0, duplicates: 0, refused: 0, refusal: String::new(), latency };
        Ok(Self(Arc::new(Mutex::new(seen))))
    }

    /// Counts what became of a request that was due `after` ago; whether it was answered.
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

    /// The result since `start`.
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

/// When the first request is due, and what the sender had used before.
pub struct Start {
    /// By the clock that durations are taken from.
    pub at: Instant,
    at_ms: i64,
    cpu: Duration,
}

impl Start {
    /// A start after `wait`.
    pub fn after(wait: Duration) -> Outcome<Self> {
        let cpu = proc::cpu(std::process::id())?;
        Ok(Self { at: Instant::now() + wait, at_ms: Clock::system().now().plus(wait).0, cpu })
    }
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a run lie far below 2^52")]
pub fn exact(count: u64) -> f64 {
    count as f64
}

/// Signs, says so, waits for the word, sends, and says what came of it.
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

/// The event of this turn, where every second turn repeats one.
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

/// As much of an answer as matters.
pub struct Answer {
    status: u16,
    duplicate: bool,
}

impl Answer {
    /// The answer in `bytes`, once it is all there.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let (head, end) = Head::at_the_beginning_of(bytes)?;
        let body = bytes[end..].get(..head.content_length())?;
        let duplicate = body.windows(16).any(|part| part == br#""duplicate":true"#);
        Some(Self { status: head.status()?, duplicate })
    }
}
