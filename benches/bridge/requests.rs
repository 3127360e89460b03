//! The webhooks to send. They are prepared before the measurement, so that sending one costs only a copy
//! and five small patches.

use bytes::Bytes;
use pepay_bridge::domain::clock::{Clock, UnixMillis};
use pepay_bridge::domain::event::Event;
use pepay_bridge::pepay::signature::SigningKey;
use pepay_bridge::simulator::factory::Factory;

/// The secret that signs the webhooks.
pub const SECRET: &str = "whsec_benchmark_of_pepay_bridge";
/// The path of the webhook endpoint.
pub const PATH: &str = "/webhooks/pepay";

/// The number of different bodies, which are sent in turn.
const TEMPLATES: usize = 36;
/// The number of objects that have events at the same time. An object's next event comes this many events
/// later, and has the same template.
const OPEN_OBJECTS: u64 = 28 * TEMPLATES as u64;
/// The number of events per object.
const EVENTS_PER_OBJECT: u64 = 4;
/// The number of events per millisecond, by their ids.
const PER_MILLISECOND: u64 = 64;
/// The number of digits within an id: decimal digits in an event's id, hexadecimal digits in an object's
/// id.
const EVENT_DIGITS: usize = 8;
const OBJECT_DIGITS: usize = 12;
/// The number of hexadecimal digits of a signature.
const SIGNATURE: usize = 64;

/// Bodies like those of Pepay, with places for the ids of each event.
pub struct Bodies {
    templates: Vec<Body>,
    /// The time in the ids of the first events.
    pub start: UnixMillis,
    /// Whether all events are about the same object.
    one_object: bool,
}

struct Body {
    bytes: Vec<u8>,
    kind: String,
    id: usize,
    object: usize,
}

impl Bodies {
    /// Creates bodies whose ids begin at the present time.
    pub fn new() -> Self {
        let start = Clock::system().now();
        let events = Factory::new(7).events(TEMPLATES, start);
        Self { templates: events.iter().filter_map(Body::of).collect(), start, one_object: false }
    }

    /// Creates bodies that are all about one object.
    pub fn of_one_object() -> Self {
        let mut bodies = Self::new();
        bodies.templates.truncate(1);
        Self { one_object: true, ..bodies }
    }

    /// Creates bodies whose ids reach the present time after `count` events. So later events have later
    /// ids, as with Pepay.
    pub fn before_now(count: u64) -> Self {
        let mut bodies = Self::new();
        bodies.start.0 -= i64::try_from(count / PER_MILLISECOND).unwrap_or(0) + 1;
        bodies
    }

    /// Returns the mean size of a body, in bytes.
    pub fn mean(&self) -> usize {
        self.templates.iter().map(|body| body.bytes.len()).sum::<usize>() / self.templates.len()
    }

    /// Returns the id of event `n`.
    pub fn id(&self, n: u64) -> String {
        id(self.start, n)
    }

    /// Returns the type of event `n`.
    pub fn kind(&self, n: u64) -> &str {
        &self.template(n).kind
    }

    /// Returns the id of the object of event `n`.
    pub fn object(&self, n: u64) -> String {
        let body = self.get(n);
        let (start, end) = self.template(n).object_bounds();
        String::from_utf8_lossy(&body[start..end]).into_owned()
    }

    /// Returns event `n` as JSON.
    pub fn get(&self, n: u64) -> Bytes {
        let template = self.template(n);
        let mut bytes = template.bytes.clone();
        template.patch(&mut bytes, 0, &self.id(n), self.object_number(n));
        bytes.into()
    }

    /// Returns the number in the id of event `n`'s object. It depends on the start, so each run has other
    /// objects.
    fn object_number(&self, n: u64) -> u64 {
        object(if self.one_object { 0 } else { n }).wrapping_add(self.start.0.unsigned_abs())
    }

    fn template(&self, n: u64) -> &Body {
        &self.templates[index(n, self.templates.len())]
    }
}

impl Body {
    /// Creates a template from `event`, with an id of fixed length.
    fn of(event: &Event) -> Option<Self> {
        let body = String::from_utf8(event.body.to_vec()).ok()?;
        let body = body.replacen(event.id.as_str(), &id(UnixMillis(1_000_000_000_000), 0), 1);
        let at = body.find("\"id\":\"evt_")? + "\"id\":\"".len();
        let object = event.subject.object.as_deref()?;
        let object = body.find(&format!("\"id\":\"{object}\""))? + "\"id\":\"".len() + object.len();
        Some(Self {
            kind: event.kind.to_string(),
            id: at,
            object: object - OBJECT_DIGITS,
            bytes: body.into_bytes(),
        })
    }

    /// Writes the event's id and the object's number into the body that begins at `at` of `bytes`.
    fn patch(&self, bytes: &mut [u8], at: usize, id: &str, object: u64) {
        bytes[at + self.id..][..id.len()].copy_from_slice(id.as_bytes());
        write_hex(&mut bytes[at + self.object..][..OBJECT_DIGITS], object);
    }

    fn object_bounds(&self) -> (usize, usize) {
        let quote = self.bytes[..self.object].iter().rposition(|byte| *byte == b'"');
        (quote.map_or(0, |at| at + 1), self.object + OBJECT_DIGITS)
    }
}

fn index(n: u64, length: usize) -> usize {
    usize::try_from(n % length as u64).unwrap_or(0)
}

/// Returns the number of event `n`'s object. Each object has four events, with events of other objects
/// between them, like real orders. The numbers are in no order, since real ids of objects are random: an
/// index of them is written in all places and not at its end.
pub fn object(n: u64) -> u64 {
    let object = n / (OPEN_OBJECTS * EVENTS_PER_OBJECT) * OPEN_OBJECTS + n % OPEN_OBJECTS;
    // Fibonacci hashing. The upper 48 bits fit the digits of the id.
    object.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
}

fn id(start: UnixMillis, n: u64) -> String {
    let millis = start.0.unsigned_abs() + n / PER_MILLISECOND;
    format!("evt_{millis:013}-{n:0EVENT_DIGITS$}")
}

/// Returns the number of the event with this id.
pub fn number(id: &[u8]) -> Option<u64> {
    let dash = id.iter().rposition(|byte| *byte == b'-')?;
    std::str::from_utf8(&id[dash + 1..]).ok()?.parse().ok()
}

fn write_hex(place: &mut [u8], mut number: u64) {
    for digit in place.iter_mut().rev() {
        *digit = b"0123456789abcdef"[usize::try_from(number & 15).unwrap_or(0)];
        number >>= 4;
    }
}

/// Signed requests.
pub struct Requests {
    bodies: Bodies,
    heads: Vec<Head>,
    first: u64,
    signatures: Vec<[u8; SIGNATURE]>,
}

/// The head of a template's requests, and the places of the parts that differ.
struct Head {
    bytes: Vec<u8>,
    id: usize,
    signature: usize,
}

impl Requests {
    /// Signs `count` events, numbered from `first`. The timestamp of the signatures is the start of
    /// `bodies`.
    pub fn sign(bodies: Bodies, (first, count): (u64, u64), host: &str) -> Self {
        let timestamp = bodies.start.0.to_string();
        let key = SigningKey::new(&SECRET.into());
        let signatures = (first..first + count).map(|n| {
            let mut signature = [b'0'; SIGNATURE];
            signature.copy_from_slice(key.sign(&timestamp, &bodies.get(n)).as_bytes());
            signature
        });
        let signatures = signatures.collect();
        let heads = bodies.templates.iter().map(|body| Head::new(body, host, &timestamp)).collect();
        Self { bodies, heads, first, signatures }
    }

    /// Returns whether event `n` is one of the signed events.
    pub fn hold(&self, n: u64) -> bool {
        n - self.first < self.signatures.len() as u64
    }

    /// Replaces the content of `buffer` by request `n`.
    pub fn write(&self, n: u64, buffer: &mut Vec<u8>) {
        let (head, body) = (&self.heads[index(n, self.heads.len())], self.bodies.template(n));
        let id = self.bodies.id(n);
        buffer.clear();
        buffer.extend_from_slice(&head.bytes);
        buffer.extend_from_slice(&body.bytes);
        buffer[head.id..][..id.len()].copy_from_slice(id.as_bytes());
        buffer[head.signature..][..SIGNATURE]
            .copy_from_slice(&self.signatures[index(n - self.first, self.signatures.len())]);
        body.patch(buffer, head.bytes.len(), &id, self.bodies.object_number(n));
    }
}

impl Head {
    fn new(body: &Body, host: &str, timestamp: &str) -> Self {
        let start = format!(
            "POST {PATH} HTTP/1.1\r\nhost: {host}\r\nuser-agent: Pepay/1.0\r\naccept: */*\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nx-pepay-event: {}\r\n\
             x-pepay-network-environment: devnet\r\nx-pepay-timestamp: {timestamp}\r\nx-pepay-event-id: ",
            body.bytes.len(),
            body.kind
        );
        let id = start.len();
        let middle = format!("{start}{}\r\nx-pepay-signature: ", self::id(UnixMillis(1_000_000_000_000), 0));
        let signature = middle.len();
        let bytes = format!("{middle}{}\r\n\r\n", "0".repeat(SIGNATURE)).into_bytes();
        Self { bytes, id, signature }
    }
}
