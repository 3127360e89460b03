//! A Pepay that writes bytes as the test gives them. The simulator writes only what HTTP and
//! WebSocket libraries allow.

use std::io;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, UNIX_EPOCH};

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use super::world::{World, listen};
use super::{http, soon};

/// The placeholder for the right `Sec-WebSocket-Accept` in the head of an upgrade.
pub const ACCEPT: &str = "{accept}";
/// The answer of a correct server to an upgrade.
pub const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
                             sec-websocket-accept: {accept}\r\n\r\n";
/// The time between two segments.
const PACE: Duration = Duration::from_millis(2);

/// The endpoint that a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    Token,
    Stream,
    List,
    Other,
}

/// A request with its head and its body read.
#[derive(Clone, Debug)]
pub struct Request {
    pub asked: Asked,
    /// Path and query.
    pub target: String,
    head: String,
    pub at: Instant,
    /// Its number among the requests for the same endpoint, from 0.
    pub number: usize,
}

impl Request {
    /// Returns a parameter of the query, not decoded.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target.split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }

    /// Returns whether its head, which includes the query, contains `text`.
    pub fn shows(&self, text: &str) -> bool {
        self.head.contains(text)
    }

    /// Returns a field of the head.
    pub fn field(&self, name: &str) -> Option<&str> {
        http::field(&self.head, name)
    }
}

/// The reaction to one request.
#[derive(Clone, Debug)]
pub enum Act {
    /// A token, the published events, or a stream that brings what is published.
    Usual,
    /// This head and this body, with the field `content-length` added.
    Say(&'static str, Vec<u8>),
    /// These bytes, some milliseconds apart; then the connection is closed.
    Segments(Vec<Vec<u8>>),
    /// A stream whose upgrade is answered with these bytes, some milliseconds apart.
    Stream(Vec<String>, Then),
}

/// The behaviour of a stream once it is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// Brings what is published and answers pings.
    Live,
    /// Like [`Live`](Self::Live), until it is closed with 1001 after this time.
    LiveFor(Duration),
    /// Brings nothing and answers pings.
    Quiet,
    /// Sends this frame and closes.
    Text(&'static str),
    /// Sends pings endlessly and reads nothing.
    Deaf,
}

/// A stream with the upgrade of a correct server.
pub fn stream(then: Then) -> Act {
    Act::Stream(vec![SWITCHING.to_owned()], then)
}

/// Everything that has happened so far.
#[derive(Clone, Debug, Default)]
pub struct Record {
    pub requests: Vec<Request>,
    /// Events by their bytes, oldest first.
    events: Vec<String>,
    /// Streams that are open.
    pub open: usize,
    /// Streams that were opened and have ended.
    pub ended: usize,
}

impl Record {
    /// Returns the requests for one endpoint.
    pub fn of(&self, asked: Asked) -> impl Iterator<Item = &Request> {
        self.requests.iter().filter(move |request| request.asked == asked)
    }
}

type Plan = Box<dyn Fn(&Request) -> Act + Send + Sync>;

/// The server. Its connections end when it is dropped.
pub struct RawPepay {
    pub url: String,
    shared: Arc<Shared>,
    _accepting: JoinSet<()>,
}

struct Shared {
    plan: Mutex<Plan>,
    record: watch::Sender<Record>,
}

impl RawPepay {
    /// Starts a Pepay that reacts as `plan` says, on a free port.
    pub async fn new(plan: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let (listener, url) = listen().await;
        let shared = Arc::new(Shared { plan: Mutex::new(Box::new(plan)), record: watch::Sender::default() });
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(listener, Arc::clone(&shared)));
        Self { url, shared, _accepting: accepting }
    }

    /// Starts a Pepay that reacts as `plan` says, and configures `world` with it instead of the simulator.
    pub async fn of(world: &mut World, plan: impl Fn(&Request) -> Act + Send + Sync + 'static) -> Self {
        let pepay = Self::new(plan).await;
        world.set("PEPAY__API_URL", &pepay.url);
        pepay
    }

    /// Reacts as `plan` says from now on.
    pub fn change(&self, plan: impl Fn(&Request) -> Act + Send + Sync + 'static) {
        *self.shared.plan.lock().unwrap() = Box::new(plan);
    }

    /// Publishes an event on live streams and on the list.
    pub fn publish(&self, event: String) {
        self.shared.record.send_modify(|record| record.events.push(event));
    }

    /// Inserts an event into the list and sends it on no stream. `at` counts from the oldest event.
    pub fn list_late(&self, at: usize, event: String) {
        // Live streams count the events that they have sent, so they send one event again.
        self.shared.record.send_modify(|record| record.events.insert(at, event));
    }

    pub fn record(&self) -> Record {
        self.shared.record.borrow().clone()
    }

    /// Waits until `reached` holds. Returns the record at that time.
    pub async fn until(&self, what: &str, reached: impl FnMut(&Record) -> bool) -> Record {
        let mut record = self.shared.record.subscribe();
        soon(what, record.wait_for(reached)).await.unwrap().clone()
    }
}

/// Returns an event of an order. `created` is in Unix seconds; `n` distinguishes events of one second.
pub fn event(created: i64, n: u32) -> String {
    format!(
        r#"{{"id":"evt_{created}000-{n}","object":"event","type":"commerce.order.updated","created":{created},"data":{{"object":{{"object":"commerce_order","id":"order-{n}","status":"placed"}}}}}}"#
    )
}

/// Returns the current time in Unix seconds.
pub fn now() -> i64 {
    UNIX_EPOCH.elapsed().unwrap().as_secs().try_into().unwrap()
}

/// Returns an event that was created now.
pub fn news(n: u32) -> String {
    event(now(), n)
}

/// Returns a page of the list with these entries.
pub fn page(entries: &[String], has_more: bool) -> Vec<u8> {
    let entries = entries.join(",");
    format!(r#"{{"success":true,"data":{{"object":"list","data":[{entries}],"has_more":{has_more}}}}}"#)
        .into_bytes()
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        let (connection, _) = listener.accept().await.unwrap();
        connection.set_nodelay(true).unwrap();
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            // Tests break connections on purpose.
            let _broken = serve(connection, &shared).await;
        });
    }
}

async fn serve(connection: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut connection = BufReader::new(connection);
    while let Some(request) = read(&mut connection).await? {
        let request = shared.note(request);
        let act = shared.plan.lock().unwrap()(&request);
        let act = usual(act, &request, &shared.record.borrow().events);
        match act {
            Act::Say(head, body) => {
                let head = head.trim_end();
                let head = format!("{head}\r\ncontent-length: {}\r\n\r\n", body.len());
                connection.write_all(head.as_bytes()).await?;
                connection.write_all(&body).await?;
                continue;
            }
            Act::Segments(segments) => {
                write(&mut connection, segments).await?;
                connection.shutdown().await?;
                connection.read_to_end(&mut Vec::new()).await?;
            }
            Act::Stream(head, then) => {
                let key = derive_accept_key(request.field("sec-websocket-key").unwrap().as_bytes());
                let head = head.into_iter().map(|part| part.replace(ACCEPT, &key).into_bytes());
                write(&mut connection, head.collect()).await?;
                let mut sent = 0;
                shared.record.send_modify(|record| {
                    record.open += 1;
                    sent = record.events.len();
                });
                let _over = talk(&mut connection, then, sent, shared).await;
                shared.record.send_modify(|record| {
                    record.open -= 1;
                    record.ended += 1;
                });
            }
            Act::Usual => {}
        }
        return Ok(());
    }
    Ok(())
}

/// Replaces [`Act::Usual`] by the answer of a correct Pepay to `request`.
fn usual(act: Act, request: &Request, events: &[String]) -> Act {
    if !matches!(act, Act::Usual) {
        return act;
    }
    let json = "HTTP/1.1 200 OK\r\ncontent-type: application/json";
    match request.asked {
        Asked::Token => Act::Say(json, br#"{"success":true,"data":{"token":"t0k"}}"#.to_vec()),
        Asked::Stream => stream(Then::Live),
        Asked::List => {
            let limit = request.parameter("limit").unwrap().parse().unwrap();
            let id = request.parameter("starting_after").map(|id| format!("{{\"id\":\"{id}\""));
            let end = id.map_or(events.len(), |id| {
                events.iter().position(|event| event.starts_with(&id)).unwrap_or_default()
            });
            let older = &events[..end];
            let shown: Vec<_> = older.iter().rev().take(limit).cloned().collect();
            let has_more = older.len() > shown.len();
            Act::Say(json, page(&shown, has_more))
        }
        Asked::Other => Act::Say("HTTP/1.1 404 Not Found", Vec::new()),
    }
}

async fn write(connection: &mut BufReader<TcpStream>, segments: Vec<Vec<u8>>) -> io::Result<()> {
    let mut pace = tokio::time::interval(PACE);
    for segment in segments {
        pace.tick().await;
        connection.write_all(&segment).await?;
    }
    Ok(())
}

/// Reads one request. Returns `None` at the end of the connection.
async fn read(connection: &mut BufReader<TcpStream>) -> io::Result<Option<Request>> {
    let Some(head) = http::read_head(connection).await? else { return Ok(None) };
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let path = target.split('?').next().unwrap();
    let asked = match path {
        "/api/v1/ws/token" => Asked::Token,
        "/api/v1/events" => Asked::List,
        "/ws/commerce/events" | "/ws/merchant/events" => Asked::Stream,
        _ => Asked::Other,
    };
    let request = Request { asked, target, head, at: Instant::now(), number: 0 };
    let length = request.field("content-length").map_or(0, |length| length.parse().unwrap());
    connection.read_exact(&mut vec![0; length]).await?;
    Ok(Some(request))
}

impl Shared {
    fn note(&self, mut request: Request) -> Request {
        request.number = self.record.borrow().of(request.asked).count();
        self.record.send_modify(|record| record.requests.push(request.clone()));
        request
    }
}

/// Serves an open stream as `then` says, until either side ends it. Does not send the first
/// `sent` events.
async fn talk(
    connection: &mut BufReader<TcpStream>,
    then: Then,
    mut sent: usize,
    shared: &Shared,
) -> io::Result<()> {
    let mut record = shared.record.subscribe();
    record.mark_changed();
    match then {
        Then::Text(text) => {
            connection.write_all(&frame(0x81, text.as_bytes())).await?;
            return connection.write_all(&frame(0x88, &1000_u16.to_be_bytes())).await;
        }
        Then::Deaf => {
            let pings = frame(0x89, &[b'p'; 100]).repeat(100);
            loop {
                connection.write_all(&pings).await?;
            }
        }
        Then::Live | Then::LiveFor(_) | Then::Quiet => {}
    }
    let age = async {
        match then {
            Then::LiveFor(age) => tokio::time::sleep(age).await,
            _ => std::future::pending().await,
        }
    };
    tokio::pin!(age);
    loop {
        tokio::select! {
            changed = record.changed(), if then != Then::Quiet => {
                if changed.is_err() {
                    return Ok(());
                }
                let news = record.borrow_and_update().events[sent..].to_vec();
                sent += news.len();
                for event in news {
                    connection.write_all(&frame(0x81, event.as_bytes())).await?;
                }
            }
            () = &mut age => return connection.write_all(&frame(0x88, &1001_u16.to_be_bytes())).await,
            // The client's frames are short: the rest of one that has begun arrives at once.
            ready = connection.fill_buf() => if ready?.is_empty() {
                return Ok(());
            } else {
                let (opcode, payload) = client_frame(connection).await?;
                match opcode {
                    8 => return Ok(()),
                    9 => connection.write_all(&frame(0x8a, &payload)).await?,
                    _ => {}
                }
            }
        }
    }
}

/// Returns a frame as a server sends it (RFC 6455, section 5.2). `first` is its first byte.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u16::try_from(payload.len()).unwrap() {
        short @ 0..126 => frame.push(u8::try_from(short).unwrap()),
        long => {
            frame.push(126);
            frame.extend(long.to_be_bytes());
        }
    }
    frame.extend(payload);
    frame
}

/// Reads a control frame of the client. Returns its opcode and its payload.
async fn client_frame(connection: &mut BufReader<TcpStream>) -> io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 6];
    connection.read_exact(&mut head).await?;
    let mut payload = vec![0; usize::from(head[1] & 0x7f)];
    connection.read_exact(&mut payload).await?;
    for (byte, key) in payload.iter_mut().zip(head[2..].iter().cycle()) {
        *byte ^= key;
    }
    Ok((head[0] & 0x0f, payload))
}
