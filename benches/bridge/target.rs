//! The receiver: responds with 200, at once or after a delay, and counts the arrivals of each event.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use pepay_bridge::domain::clock::Clock;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::http::Head;
use crate::{Outcome, requests, role};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
/// The time for which the target waits for repetitions after all events have arrived.
const AFTERMATH: Duration = Duration::from_millis(250);

/// The expectation of the starter.
#[derive(Debug, Serialize, Deserialize)]
pub struct Expect {
    /// The events `0..events` are expected.
    pub events: u64,
    /// The time limit of the wait, in seconds.
    pub seconds: u64,
}

/// The arrivals.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Received {
    /// The number of expected events that arrived at least once.
    pub unique: u64,
    /// The number of requests that repeat an event or have an unexpected one.
    pub surplus: u64,
    /// The arrival of the last new event, in Unix milliseconds.
    pub last_ms: i64,
}

/// The arrivals so far. The connections share this value.
#[derive(Default)]
pub struct Tally {
    seen: Mutex<Seen>,
    unique: watch::Sender<u64>,
}

#[derive(Default)]
struct Seen {
    times: Vec<u8>,
    unknown: u64,
    last_ms: i64,
}

/// Serves until the process is killed, and reports the arrivals when the starter asks.
pub async fn play(delay_ms: u64) -> Outcome<()> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    role::say(&listener.local_addr()?)?;
    let delay = Duration::from_millis(delay_ms);
    let tally = Arc::new(Tally::default());
    let mut tasks = JoinSet::new();
    tasks.spawn(accept(listener, Arc::clone(&tally), delay));
    loop {
        let expect: Expect = role::hear_async().await?;
        role::say(&tally.until(&expect).await)?;
    }
}

/// Accepts connections and serves each.
pub async fn accept(listener: TcpListener, tally: Arc<Tally>, delay: Duration) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let tally = Arc::clone(&tally);
        connections.spawn(async move {
            // The sender may end the connection at any time.
            let _ended = serve(stream, &tally, delay).await;
        });
    }
}

async fn serve(mut stream: TcpStream, tally: &Tally, delay: Duration) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let clock = Clock::system();
    let (mut buffer, mut filled) = (vec![0; 16 << 10], 0);
    loop {
        while let Some((id, length)) = whole_request(&buffer[..filled]) {
            tally.count(id, &clock);
            buffer.copy_within(length..filled, 0);
            filled -= length;
            if !delay.is_zero() {
                // The sleep of tokio has a resolution of one millisecond: five milliseconds take more
                // than six.
                tokio::task::spawn_blocking(move || std::thread::sleep(delay)).await?;
            }
            stream.write_all(OK).await?;
        }
        if filled == buffer.len() {
            buffer.resize(filled * 2, 0);
        }
        match stream.read(&mut buffer[filled..]).await? {
            0 => return Ok(()),
            read => filled += read,
        }
    }
}

/// Returns the length of the first request in `bytes` and the number of its event, if it has one. Returns
/// `None` if the request is not complete.
fn whole_request(bytes: &[u8]) -> Option<(Option<u64>, usize)> {
    let (head, end) = Head::at_the_beginning_of(bytes)?;
    let length = end + head.content_length();
    (bytes.len() >= length).then(|| (head.header("webhook-id").and_then(requests::number), length))
}

impl Tally {
    fn count(&self, event: Option<u64>, clock: &Clock) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(event) = event.and_then(|event| usize::try_from(event).ok()) else {
            seen.unknown += 1;
            return;
        };
        if event >= seen.times.len() {
            seen.times.resize((event + 1).next_power_of_two(), 0);
        }
        seen.times[event] = seen.times[event].saturating_add(1);
        if seen.times[event] == 1 {
            seen.last_ms = clock.now().0;
            self.unique.send_modify(|unique| *unique += 1);
        }
    }

    /// Returns a receiver of the number of different events.
    pub fn follow(&self) -> watch::Receiver<u64> {
        self.unique.subscribe()
    }

    /// Waits until all expected events have arrived, and for [`AFTERMATH`] longer for repetitions.
    pub async fn until(&self, expect: &Expect) -> Received {
        let mut unique = self.follow();
        let all = unique.wait_for(|unique| *unique >= expect.events);
        // After the limit the result shows the missing events.
        let _ = timeout(Duration::from_secs(expect.seconds), all).await;
        tokio::time::sleep(AFTERMATH).await;
        self.received(expect.events)
    }

    fn received(&self, expected: u64) -> Received {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let expected = usize::try_from(expected).unwrap_or(usize::MAX).min(seen.times.len());
        let (wanted, others) = seen.times.split_at(expected);
        let unique = wanted.iter().filter(|times| **times > 0).count() as u64;
        let repeated: u64 = wanted.iter().map(|times| u64::from(times.saturating_sub(1))).sum();
        let others: u64 = others.iter().copied().map(u64::from).sum();
        Received { unique, surplus: repeated + others + seen.unknown, last_ms: seen.last_ms }
    }
}
