//! A target that writes bytes as the test gives them, breaks connections on request, and
//! records every request.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::world::listen;
use super::{http, soon};

/// An answer that acknowledges.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// The reaction to one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// Writes this and keeps the connection.
    Say(Vec<u8>),
    /// Writes this and closes the connection. Once the bridge has closed it too, the connection
    /// counts as [closed](Record::closed).
    SayAndClose(Vec<u8>),
    /// Writes this and waits until the bridge closes the connection, which then counts as
    /// [closed](Record::closed).
    SayAndWait(Vec<u8>),
    /// Writes this and resets the connection.
    SayAndReset(Vec<u8>),
    /// Writes this, then bytes endlessly, until the bridge closes the connection.
    SayForEver(Vec<u8>),
    /// Writes this, then one byte at a time endlessly, until the bridge closes the connection.
    Trickle(Vec<u8>),
    /// Writes nothing and waits until the bridge closes the connection.
    Hang,
}

/// A request with its head and its body read.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub object: String,
    pub attempt: u32,
    /// When it arrived: its position in the order of all arrivals and answers.
    pub arrived: u64,
    /// When it arrived, by the clock.
    pub at: Instant,
    /// When it was answered, as a position in the same order. For one that hangs, when it arrived.
    pub left: Option<u64>,
    /// Whether it was answered with a 2xx.
    pub acknowledged: bool,
}

/// Everything that has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub requests: Vec<Seen>,
    /// Requests that are being worked on. One that hangs does not count: the target does not
    /// know when the bridge has given it up.
    pub in_flight: usize,
    pub max_in_flight: usize,
    pub connections: u64,
    /// Connections that the bridge has closed while the target waited for that.
    pub closed: usize,
    /// Bytes written after the heads of endless answers.
    pub endless_bytes: u64,
    tick: u64,
}

type Plan = Box<dyn Fn(&Seen) -> Act + Send + Sync>;

/// The target. Its connections end when it is dropped.
pub struct RawTarget {
    pub url: String,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    plan: Mutex<Plan>,
    record: watch::Sender<Record>,
    /// The time that the target works on every request.
    delay: Duration,
}

impl RawTarget {
    /// Starts a target that reacts as `plan` says, on a free port.
    pub async fn new(plan: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let (listener, url) = listen().await;
        Self::on(listener, url, Duration::ZERO, plan)
    }

    /// Starts a target that reacts to its first requests with `acts`, in their order, and to all
    /// others with [`OK`].
    pub async fn scripted(acts: impl IntoIterator<Item = Act>) -> Self {
        let acts = Mutex::new(acts.into_iter().collect::<Vec<_>>().into_iter());
        Self::new(move |_| acts.lock().unwrap().next().unwrap_or_else(|| Act::Say(OK.to_vec()))).await
    }

    /// Starts a target on `listener` that works on every request for `delay`.
    pub fn on(
        listener: TcpListener,
        url: String,
        delay: Duration,
        plan: impl Fn(&Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let shared =
            Arc::new(Shared { plan: Mutex::new(Box::new(plan)), record: watch::Sender::default(), delay });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared, _accepting: accepting }
    }

    /// Reacts with [`OK`] from now on.
    pub fn heal(&self) {
        *self.shared.plan.lock().unwrap() = Box::new(|_| Act::Say(OK.to_vec()));
    }

    pub fn record(&self) -> Record {
        self.shared.record.borrow().clone()
    }

    /// Returns the attempt numbers of all requests so far, in the order of arrival.
    pub fn attempts(&self) -> Vec<u32> {
        self.shared.record.borrow().requests.iter().map(|seen| seen.attempt).collect()
    }

    /// Waits until `reached` holds. Returns the record at that time.
    pub async fn until(&self, what: &str, reached: impl FnMut(&Record) -> bool) -> Record {
        let mut record = self.shared.record.subscribe();
        soon(what, record.wait_for(reached)).await.unwrap().clone()
    }
}

impl Record {
    /// Returns the number of different events that were acknowledged.
    pub fn unique(&self) -> usize {
        let ids = self.requests.iter().filter(|seen| seen.acknowledged).map(|seen| &seen.id);
        ids.collect::<std::collections::HashSet<_>>().len()
    }

    fn tick(&mut self) -> u64 {
        self.tick += 1;
        self.tick
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        shared.record.send_modify(|record| record.connections += 1);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Tests break connections on purpose.
            let _broken = serve(connection, &shared).await;
        });
    }
}

async fn serve(connection: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(seen) = read(&mut connection).await? {
        let (index, act) = shared.arrive(seen);
        tokio::time::sleep(shared.delay).await;
        let stream = connection.get_mut();
        match act {
            Act::Say(bytes) => {
                shared.leave(index, &bytes);
                stream.write_all(&bytes).await?;
                continue;
            }
            Act::SayAndClose(bytes) => {
                shared.leave(index, &bytes);
                stream.write_all(&bytes).await?;
                stream.shutdown().await?;
                stream.read_to_end(&mut Vec::new()).await?;
                shared.record.send_modify(|record| record.closed += 1);
            }
            Act::SayAndWait(bytes) => {
                shared.leave(index, &bytes);
                stream.write_all(&bytes).await?;
                stream.read_to_end(&mut Vec::new()).await?;
                shared.record.send_modify(|record| record.closed += 1);
            }
            Act::SayAndReset(bytes) => {
                shared.leave(index, &bytes);
                stream.write_all(&bytes).await?;
                stream.set_zero_linger()?;
            }
            Act::SayForEver(head) => {
                shared.leave(index, &head);
                stream.write_all(&head).await?;
                loop {
                    let written = stream.write(&[b'x'; 16 << 10]).await?;
                    shared.record.send_modify(|record| record.endless_bytes += written as u64);
                }
            }
            Act::Trickle(head) => {
                shared.leave(index, &head);
                stream.write_all(&head).await?;
                let mut pace = tokio::time::interval(Duration::from_millis(20));
                loop {
                    pace.tick().await;
                    stream.write_all(b"x").await?;
                }
            }
            Act::Hang => drop(stream.read_to_end(&mut Vec::new()).await?),
        }
        return Ok(());
    }
    Ok(())
}

/// Reads one request. Returns `None` at the end of the connection.
async fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Option<Seen>> {
    let Some(head) = http::read_head(connection).await? else { return Ok(None) };
    let field = |name: &str| http::field(&head, name);
    let mut body = vec![0; field("content-length").unwrap().parse().unwrap()];
    connection.read_exact(&mut body).await?;
    let event: Value = serde_json::from_slice(&body).unwrap();
    Ok(Some(Seen {
        id: field("webhook-id").unwrap().to_owned(),
        object: event["data"]["object"]["id"].as_str().unwrap().to_owned(),
        attempt: field("pepay-bridge-attempt").unwrap().parse().unwrap(),
        arrived: 0,
        at: Instant::now(),
        left: None,
        acknowledged: false,
    }))
}

impl Shared {
    fn arrive(&self, seen: Seen) -> (usize, Act) {
        let act = self.plan.lock().unwrap()(&seen);
        let (mut index, hangs) = (0, matches!(act, Act::Hang));
        self.record.send_modify(|record| {
            let tick = record.tick();
            index = record.requests.len();
            record.requests.push(Seen { arrived: tick, left: hangs.then_some(tick), ..seen });
            record.in_flight += usize::from(!hangs);
            record.max_in_flight = record.max_in_flight.max(record.in_flight);
        });
        (index, act)
    }

    /// Records the end of a request. Called before the answer is written, so that requests which
    /// the answer causes have later positions.
    fn leave(&self, index: usize, answer: &[u8]) {
        self.record.send_modify(|record| {
            let tick = record.tick();
            record.in_flight -= 1;
            let seen = &mut record.requests[index];
            seen.left = Some(tick);
            seen.acknowledged = answer.starts_with(b"HTTP/1.1 2");
        });
    }
}
