//! Makes up events that look like Pepay's: orders with their invoices and payments, several of which go
//! through their life cycles at the same time.

pub(super) mod order;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use serde_json::Value;

use self::order::{InvoiceStatus, Order, PaymentStatus, Status};
use crate::domain::clock::UnixMillis;
use crate::domain::event::Event;
use crate::pepay::envelope;
use crate::simulator::switches::{Created, Switches};

/// The number of orders that go through their life cycle at the same time.
const OPEN_ORDERS: usize = 8;
/// One order in this number is never paid: its invoice expires.
const EXPIRES_ONE_IN: u32 = 8;

/// Makes events, the same ones from the same seed and the same times.
///
/// Their ids are `evt_<unix ms>-<n>` and strictly increase.
#[derive(Debug)]
pub struct Factory {
    rng: StdRng,
    open: Vec<Life>,
    /// The `<n>` of the last id.
    made: u64,
    /// The `<unix ms>` of the last id.
    last: UnixMillis,
    switches: Switches,
}

/// An order and its remaining steps, the next step last.
#[derive(Debug)]
struct Life {
    order: Order,
    ahead: Vec<Step>,
}

/// A step of an order, with one event.
#[derive(Clone, Copy, Debug)]
enum Step {
    OrderCreated,
    InvoiceCreated,
    PaymentCreated,
    PaymentConfirmed,
    InvoiceTo(InvoiceStatus),
    OrderTo(Status, &'static str),
}

/// The steps of an order that is paid and delivered, last step first.
const PAID: [Step; 9] = [
    Step::OrderTo(Status::Delivered, "delivery_confirmed"),
    Step::OrderTo(Status::Shipped, "shipped"),
    Step::OrderTo(Status::Placed, "placed"),
    Step::OrderTo(Status::Processing, "payment_confirmed"),
    Step::InvoiceTo(InvoiceStatus::Paid),
    Step::PaymentConfirmed,
    Step::PaymentCreated,
    Step::InvoiceCreated,
    Step::OrderCreated,
];

/// The steps of an order that is not paid, last step first.
const EXPIRED: [Step; 4] = [
    Step::OrderTo(Status::Cancelled, "invoice_expired"),
    Step::InvoiceTo(InvoiceStatus::Expired),
    Step::InvoiceCreated,
    Step::OrderCreated,
];

impl Factory {
    /// Creates a factory whose orders, wallets and addresses come from `seed`.
    pub fn new(seed: u64) -> Self {
        let (rng, switches) = (StdRng::seed_from_u64(seed), Switches::default());
        Self { rng, open: Vec::new(), made: 0, last: UnixMillis(0), switches }
    }

    /// Returns the factory with these switches.
    #[must_use]
    pub fn switched(mut self, switches: Switches) -> Self {
        self.switch(switches);
        self
    }

    /// Replaces the switches for events and orders to come.
    pub(super) fn switch(&mut self, switches: Switches) {
        self.switches = switches;
    }

    /// Returns the next event of an endless run of orders, created at `now`.
    pub fn next(&mut self, now: UnixMillis) -> Event {
        while self.open.len() < OPEN_ORDERS {
            self.begin_order(now);
        }
        let chosen = self.rng.random_range(0..self.open.len());
        self.step(chosen, now)
    }

    /// Returns the next `count` events of the endless run, one a millisecond from `start` on.
    pub fn events(&mut self, count: usize, start: UnixMillis) -> Vec<Event> {
        (0_i64..).take(count).map(|passed| self.next(UnixMillis(start.0 + passed))).collect()
    }

    /// Returns every event of `count` new orders, one a millisecond from `start` on; about nine for
    /// each order. Orders that [`Factory::next`] has begun are finished as well.
    pub fn orders(&mut self, count: usize, start: UnixMillis) -> Vec<Event> {
        let (mut to_begin, mut now, mut events) = (count, start, Vec::new());
        loop {
            while to_begin > 0 && self.open.len() < OPEN_ORDERS {
                self.begin_order(now);
                to_begin -= 1;
            }
            if self.open.is_empty() {
                return events;
            }
            let chosen = self.rng.random_range(0..self.open.len());
            events.push(self.step(chosen, now));
            now = UnixMillis(now.0 + 1);
        }
    }

    fn begin_order(&mut self, now: UnixMillis) {
        let paid = !self.rng.random_ratio(1, EXPIRES_ONE_IN);
        let ahead = if paid { PAID.to_vec() } else { EXPIRED.to_vec() };
        let order = self.order(None, now);
        self.open.push(Life { order, ahead });
    }

    /// Returns a new unpaid order with this id, or with a made-up one.
    pub(super) fn order(&mut self, id: Option<String>, now: UnixMillis) -> Order {
        Order::new(&mut self.rng, id, now, self.switches)
    }

    /// Takes the next step of the open order at `chosen`.
    fn step(&mut self, chosen: usize, now: UnixMillis) -> Event {
        let life = &mut self.open[chosen];
        let step = life.ahead.pop();
        let ended = life.ahead.is_empty();
        let order = &mut life.order;
        order.updated = now;
        let (kind, (object, previous)) = match step {
            // An order leaves with its last step, so an open one has a next step.
            None | Some(Step::OrderCreated) => ("commerce.order.created", (order.body(), empty())),
            Some(Step::InvoiceCreated) => ("invoice.created", (order.invoice_body(), empty())),
            Some(Step::PaymentCreated) => ("invoice_payment.created", (order.payment_body(), empty())),
            Some(Step::PaymentConfirmed) => {
                ("invoice_payment.updated", order.payment_becomes(PaymentStatus::Confirmed))
            }
            Some(Step::InvoiceTo(status)) => ("invoice.updated", order.invoice_becomes(status)),
            Some(Step::OrderTo(status, substatus)) => {
                ("commerce.order.updated", order.becomes(status, substatus))
            }
        };
        if ended {
            self.open.swap_remove(chosen);
        }
        self.event(kind, object, previous, now)
    }

    /// Returns an event of this type about `object`, created at `now`.
    ///
    /// # Panics
    /// Never: the made body is a valid event.
    pub(super) fn event(&mut self, kind: &str, object: Value, previous: Value, now: UnixMillis) -> Event {
        self.made += 1;
        // Ids increase even if the clock does not.
        self.last = self.last.max(now);
        let mainnet = |name: &str| object.get(name).is_some_and(|value| value == "mainnet");
        let livemode = mainnet("environment") || mainnet("networkEnvironment");
        let envelope = Envelope {
            id: format!("evt_{}-{}", self.last.0, self.made),
            object: "event",
            api_version: "2025-12-16",
            created: created(self.switches.created, now),
            kind,
            livemode,
            pending_webhooks: 0,
            request: Request {
                id: format!("req_{:016x}", self.rng.random::<u64>()),
                idempotency_key: order::uuid(&mut self.rng),
            },
            data: Data { object, previous_attributes: previous },
        };
        #[expect(clippy::expect_used, reason = "it has every field an event needs")]
        envelope::parse(envelope.bytes(), now).expect("an envelope is an event")
    }
}

/// Returns the value of `created` in this form.
fn created(form: Created, now: UnixMillis) -> Option<Value> {
    match form {
        Created::Integer => Some(now.seconds().into()),
        #[expect(clippy::cast_precision_loss, reason = "seconds stay far below 2^53")]
        Created::Float => Some((now.seconds() as f64).into()),
        Created::Text => Some(now.seconds().to_string().into()),
        Created::Iso => serde_json::to_value(now).ok(),
        Created::Missing => None,
    }
}

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

/// The envelope, its fields in Pepay's order.
#[derive(Serialize)]
struct Envelope<'a> {
    id: String,
    object: &'static str,
    api_version: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<Value>,
    #[serde(rename = "type")]
    kind: &'a str,
    livemode: bool,
    pending_webhooks: u32,
    request: Request,
    data: Data,
}

impl Envelope<'_> {
    fn bytes(&self) -> Bytes {
        #[expect(clippy::expect_used, reason = "strings, numbers and JSON values always serialise")]
        serde_json::to_vec(self).expect("an envelope is JSON").into()
    }
}

#[derive(Serialize)]
struct Request {
    id: String,
    idempotency_key: String,
}

#[derive(Serialize)]
struct Data {
    object: Value,
    previous_attributes: Value,
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const START: UnixMillis = UnixMillis(1_734_780_000_000);

    #[test]
    fn the_same_seed_makes_the_same_bytes() {
        let bodies = |seed| -> Vec<_> {
            Factory::new(seed).events(50, START).into_iter().map(|event| event.body).collect()
        };
        assert_eq!(bodies(7), bodies(7));
        assert_ne!(bodies(7), bodies(8));
    }

    #[test]
    fn ids_strictly_increase_even_where_the_clock_goes_back() {
        let mut factory = Factory::new(1);
        let mut events = factory.events(20, START);
        events.extend(factory.events(20, UnixMillis(START.0 - 5_000)));
        let order: Vec<_> = events.iter().map(|event| event.id.creation_order().unwrap()).collect();
        assert!(order.is_sorted_by(|one, next| one < next));
    }

    #[test]
    fn orders_go_through_all_their_states_interleaved() {
        let events = Factory::new(3).orders(40, START);
        let mut last_status = HashMap::new();
        let mut interleaved = 0;
        for pair in events.windows(2) {
            interleaved += usize::from(pair[0].subject.object != pair[1].subject.object);
        }
        for event in &events {
            let body: Value = serde_json::from_slice(&event.body).unwrap();
            let object = &body["data"]["object"];
            if object["object"] == "commerce_order" {
                last_status.insert(event.subject.object.clone().unwrap(), object["status"].clone());
            }
        }
        assert_eq!(last_status.len(), 40);
        assert!(last_status.values().all(|status| status == "delivered" || status == "cancelled"));
        assert!(interleaved > events.len() / 2);
    }

    #[test]
    fn events_are_as_large_as_real_ones() {
        let events = Factory::new(5).orders(50, START);
        let mean = events.iter().map(|event| event.body.len()).sum::<usize>() / events.len();
        assert!((1_000..1_400).contains(&mean), "{mean} bytes");
    }
}
