//! The sender at full speed: every connection sends its next request as soon as
//! the last one is answered.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use pepay_bridge::domain::clock::Clock;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::http::Head;
use crate::requests::Requests;
use crate::{Outcome, proc, role};

/// A repetition comes this many new events after the event.
const REPEATED_AFTER: u64 = 256;

/// What to send.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Load {
    /// To whom.
    pub address: SocketAddr,
    /// Over how many connections.
    pub connections: u32,
    /// For how long.
    pub seconds: f64,
    /// At most this many events, or exactly this many at a fixed pace.
    pub events: u64,
    /// Every second request repeats an earlier one.
    pub repeating: bool,
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
    /// Different events: numbered from 0.
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

/// What one connection, or all of them together, have seen.
pub struct Tally {
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
        Ok(Self { accepted: 0, duplicates: 0, refused: 0, refusal: String::new(), latency })
    }

    /// Counts an answer that came `after` its request was due.
    pub fn answered(&mut self, answer: &Answer, after: Duration) {
        if answer.status == 200 {
            self.accepted += 1;
            self.duplicates += u64::from(answer.duplicate);
            self.latency.saturating_record(u64::try_from(after.as_micros()).unwrap_or(u64::MAX));
        } else {
            self.failed(format!("status {}", answer.status));
        }
    }

    /// Counts a request that was not accepted.
    pub fn failed(&mut self, why: String) {
        self.refused += 1;
        if self.refusal.is_empty() {
            self.refusal = why;
        }
    }

    /// Adds what another connection has seen.
    pub fn add(&mut self, other: Self) -> Outcome<()> {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.refused += other.refused;
        if self.refusal.is_empty() {
            self.refusal = other.refusal;
        }
        Ok(self.latency.add(other.latency)?)
    }

    /// The result, for `events` different events sent since `started`.
    pub fn sum_up(
        self,
        events: u64,
        started_ms: i64,
        started: Instant,
        cpu_before: Duration,
    ) -> Outcome<Sent> {
        let seconds = started.elapsed().as_secs_f64();
        let cpu = proc::cpu(std::process::id())?.saturating_sub(cpu_before).as_secs_f64() * 1e6;
        let requests = self.accepted + self.refused;
        let micros = |quantile| exact(self.latency.value_at_quantile(quantile));
        Ok(Sent {
            accepted: self.accepted,
            duplicates: self.duplicates,
            refused: self.refused,
            refusal: self.refusal,
            events,
            started_ms,
            seconds,
            p50: micros(0.5),
            p99: micros(0.99),
            cpu: cpu / exact(requests.max(1)),
        })
    }
}

/// A count as a number to calculate with.
#[expect(clippy::cast_precision_loss, reason = "counts and microseconds of a run lie far below 2^52")]
pub fn exact(count: u64) -> f64 {
    count as f64
}

/// Signs, says so, waits for the word, sends, and says what came of it.
pub fn play(load: &Load) -> Outcome<()> {
    let requests = Arc::new(Requests::sign(load.events, &load.address.to_string()));
    role::say(&"ready")?;
    let () = role::hear()?;
    role::say(&role::runtime()?.block_on(send(load, requests))?)
}

async fn send(load: &Load, requests: Arc<Requests>) -> Outcome<Sent> {
    let mut streams = Vec::new();
    for _ in 0..load.connections {
        let stream = TcpStream::connect(load.address).await?;
        stream.set_nodelay(true)?;
        streams.push(stream);
    }
    let (cpu, started, started_ms) =
        (proc::cpu(std::process::id())?, Instant::now(), Clock::system().now().0);
    let until = started + Duration::from_secs_f64(load.seconds);
    let (next, repeating) = (Arc::new(AtomicU64::new(0)), load.repeating);
    let mut connections = JoinSet::new();
    for stream in streams {
        let (requests, next) = (Arc::clone(&requests), Arc::clone(&next));
        connections.spawn(async move {
            let turns = std::iter::from_fn(|| {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let event = if repeating { repetition(turn) } else { turn };
                (event < requests.count() && Instant::now() < until).then_some(event)
            });
            connection(stream, &requests, turns).await
        });
    }
    let mut all = Tally::new()?;
    while let Some(one) = connections.join_next().await {
        all.add(one??)?;
    }
    let events = all.accepted - all.duplicates;
    all.sum_up(events, started_ms, started, cpu)
}

/// The event of this turn, where every second turn repeats one.
fn repetition(turn: u64) -> u64 {
    if turn.is_multiple_of(2) { turn / 2 } else { (turn / 2).saturating_sub(REPEATED_AFTER) }
}

async fn connection(
    mut stream: TcpStream,
    requests: &Requests,
    turns: impl Iterator<Item = u64>,
) -> Outcome<Tally> {
    let (mut tally, mut request, mut answer) = (Tally::new()?, Vec::with_capacity(4096), vec![0; 4096]);
    for event in turns {
        requests.write(event, &mut request);
        let sent = Instant::now();
        match exchange(&mut stream, &request, &mut answer).await {
            Ok(answer) => tally.answered(&answer, sent.elapsed()),
            Err(error) => {
                tally.failed(error.to_string());
                break;
            }
        }
    }
    Ok(tally)
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
