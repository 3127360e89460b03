//! A target made of bare bytes: it does with every request what no sound HTTP
//! server would do, and writes down what came when.

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

/// What every answer that is meant well looks like.
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// This is written, and the connection kept.
    Say(Vec<u8>),
    /// This is written and the connection closed; once the other side has done
    /// so too, it counts as [closed](Record::closed).
    SayAndClose(Vec<u8>),
    /// This is written, and no more until the other side closes the connection,
    /// which counts as [closed](Record::closed).
    SayAndWait(Vec<u8>),
    /// This is written and the connection reset.
    SayAndReset(Vec<u8>),
    /// This is written, and then bytes without end, until the other side has had enough.
    SayForEver(Vec<u8>),
    /// The same, byte by byte.
    Trickle(Vec<u8>),
    /// Nothing is written; the other side has to give up.
    Hang,
}

/// A request with its head and its body read.
#[derive(Clone, Debug)]
pub struct Seen {
    pub id: String,
    pub object: String,
    pub attempt: u32,
    /// When it came, in the order of all comings and goings.
    pub arrived: u64,
    /// The same by the clock.
    pub at: Instant,
    /// When it was done with, in the same order; at once for one that hangs.
    pub left: Option<u64>,
    /// Whether it was answered with a 2xx.
    pub acknowledged: bool,
}

/// All there was so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub requests: Vec<Seen>,
    /// Requests being worked on. One that hangs does not count: when the other
    /// side has given it up is not known here.
    pub in_flight: usize,
    pub max_in_flight: usize,
    pub connections: u64,
    /// Connections that the other side has closed while the target waited for that.
    pub closed: usize,
    /// Bytes that could be written after the head of endless answers.
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
    /// How long every request is worked on.
    delay: Duration,
}

impl RawTarget {
    /// A target that does what `plan` says, on a port of its own.
    pub async fn new(plan: impl Fn(&Seen) -> Act + Send + Sync + 'static) -> Self {
        let (listener, url) = listen().await;
        Self::on(listener, url, Duration::ZERO, plan)
    }

    /// A target whose first requests meet `acts`, in their order, and all others [`OK`].
    pub async fn scripted(acts: impl IntoIterator<Item = Act>) -> Self {
        let acts = Mutex::new(acts.into_iter().collect::<Vec<_>>().into_iter());
        Self::new(move |_| acts.lock().unwrap().next().unwrap_or_else(|| Act::Say(OK.to_vec()))).await
    }

    /// A target on `listener`, working on every request for `delay`.
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

    /// Answers [`OK`] from now on.
    pub fn heal(&self) {
        *self.shared.plan.lock().unwrap() = Box::new(|_| Act::Say(OK.to_vec()));
    }

    pub fn record(&self) -> Record {
        self.shared.record.borrow().clone()
    }

    /// The attempts seen so far, in their order.
    pub fn attempts(&self) -> Vec<u32> {
        self.shared.record.borrow().requests.iter().map(|seen| seen.attempt).collect()
    }

    /// Waits until `reached` holds.
    pub async fn until(&self, what: &str, reached: impl FnMut(&Record) -> bool) -> Record {
        let mut record = self.shared.record.subscribe();
        soon(what, record.wait_for(reached)).await.unwrap().clone()
    }
}

impl Record {
    /// How many different events were acknowledged.
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
            // A connection that breaks is what is tested here.
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

/// One request; `None` at the end of the connection.
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

    /// Before the answer is written: what it causes comes later.
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
