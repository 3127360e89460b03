//! A made-up order with its invoice and payment, and their objects in events.

use rand::Rng;
use rand::seq::IndexedRandom;
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::clock::UnixMillis;
use crate::domain::event::Environment;
use crate::simulator::switches::{ObjectIds, OrderShape, PaymentLinks, Switches};

/// How long an invoice waits for its payment.
const INVOICE_LIFETIME: i64 = 30 * 60;

const GOODS: [(&str, &str, u32); 5] = [
    ("SKU-TSHIRT-M", "Organic cotton T-shirt, medium", 2_490),
    ("SKU-MUG-330", "Stoneware mug, 330 ml", 1_450),
    ("SKU-CABLE-C2", "USB-C cable, braided, 2 m", 1_190),
    ("SKU-NOTE-A5", "Dotted notebook, A5, 120 pages", 890),
    ("SKU-LAMP-01", "Clip-on reading lamp", 3_200),
];
const TOWNS: [(&str, &str, &str); 4] = [
    ("Lisboa", "1100-148", "PT"),
    ("Lyon", "69002", "FR"),
    ("Leipzig", "04109", "DE"),
    ("Leeds", "LS1 4AP", "GB"),
];

/// An order, and the invoice and payment that belong to it.
#[derive(Clone, Debug)]
pub(in crate::simulator) struct Order {
    pub(in crate::simulator) id: String,
    pub(in crate::simulator) invoice_id: String,
    payment_id: String,
    customer_id: String,
    pub(in crate::simulator) wallet_network: String,
    pub(in crate::simulator) wallet_address: String,
    pub(in crate::simulator) environment: Environment,
    pub(in crate::simulator) status: Status,
    pub(in crate::simulator) substatus: String,
    pub(in crate::simulator) invoice: InvoiceStatus,
    payment: PaymentStatus,
    pub(in crate::simulator) tracking: Value,
    goods: (&'static str, &'static str, u32),
    quantity: u32,
    town: (&'static str, &'static str, &'static str),
    created: UnixMillis,
    pub(in crate::simulator) updated: UnixMillis,
    /// The shape of its events, fixed by the first one.
    switches: Switches,
}

/// `status` of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::simulator) enum Status {
    PendingPayment,
    Processing,
    Placed,
    Shipped,
    Delivered,
    Failed,
    Cancelled,
    Refunded,
}

/// `status` of an invoice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::simulator) enum InvoiceStatus {
    Unpaid,
    Paid,
    Expired,
}

/// `status` of a payment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(in crate::simulator) enum PaymentStatus {
    Pending,
    Confirmed,
}

impl Order {
    pub(super) fn new(rng: &mut impl Rng, id: Option<String>, now: UnixMillis, switches: Switches) -> Self {
        let (goods, town) =
            (*GOODS.choose(rng).unwrap_or(&GOODS[0]), *TOWNS.choose(rng).unwrap_or(&TOWNS[0]));
        let (text, invoice, payment) = (uuid(rng), rng.random::<u128>(), rng.random::<u128>());
        let [made_up, invoice_id, payment_id] = match switches.object_ids {
            ObjectIds::Text => {
                [text, format!("inv_{:020x}", invoice >> 48), format!("ipay_{:020x}", payment >> 48)]
            }
            // Exact as a double as well.
            ObjectIds::Number => {
                [rng.random::<u128>(), invoice, payment].map(|bits| (bits >> 76).to_string())
            }
        };
        Self {
            id: id.unwrap_or(made_up),
            invoice_id,
            payment_id,
            customer_id: format!("cus_{:014x}", rng.random::<u64>() >> 8),
            wallet_network: (if rng.random() { "solana" } else { "bsc" }).to_owned(),
            wallet_address: format!("0x{:040x}", rng.random::<u128>()),
            environment: Environment::Devnet,
            status: Status::PendingPayment,
            substatus: "awaiting_payment".to_owned(),
            invoice: InvoiceStatus::Unpaid,
            payment: PaymentStatus::Pending,
            tracking: Value::Null,
            goods,
            quantity: rng.random_range(1..4),
            town,
            created: now,
            updated: now,
            switches,
        }
    }

    /// Returns an id as its events write it; an id that is not a number stays text.
    fn written(&self, id: &str) -> Value {
        match (self.switches.object_ids, id.parse::<u64>()) {
            (ObjectIds::Number, Ok(number)) => number.into(),
            _ => id.into(),
        }
    }

    /// Returns `data.object` of `commerce.order.*`.
    pub(in crate::simulator) fn body(&self) -> Value {
        match self.switches.order_shape {
            OrderShape::Object => self.object(),
            OrderShape::Snapshot => self.snapshot(),
        }
    }

    /// Returns the merchant's order snapshot, as of `GET /api/commerce/merchant/orders/{orderId}`.
    fn snapshot(&self) -> Value {
        let (sku, title, price) = self.goods;
        let (city, postal_code, country) = self.town;
        json!({
            "orderId": self.written(&self.id),
            "invoiceId": self.written(&self.invoice_id),
            "networkEnvironment": self.environment,
            "customerId": self.customer_id,
            "walletAddress": self.wallet_address,
            "walletNetwork": self.wallet_network,
            "status": self.status,
            "substatus": self.substatus,
            "timeline": [
                {"status": "pending_payment", "at": self.created},
                {"status": self.status, "substatus": self.substatus, "at": self.updated},
            ],
            "payment": {"status": self.payment, "currency": "USD", "amount": self.subtotal() + SHIPPING},
            "fulfillment": {
                "tracking": self.tracking,
                "shippingAddress": {
                    "name": "A. Customer", "line1": "12 Harbour Street", "city": city,
                    "postalCode": postal_code, "country": country,
                },
            },
            "items": [{"sku": sku, "title": title, "unitPrice": price, "quantity": self.quantity}],
            "createdAt": self.created,
            "updatedAt": self.updated,
        })
    }

    fn object(&self) -> Value {
        let (sku, title, price) = self.goods;
        let (city, postal_code, country) = self.town;
        json!({
            "object": "commerce_order",
            "id": self.written(&self.id),
            "status": self.status,
            "substatus": self.substatus,
            "invoiceId": self.written(&self.invoice_id),
            "customer_id": self.customer_id,
            "environment": self.environment,
            "currency": "USD",
            "amount_subtotal": self.subtotal(),
            "amount_shipping": SHIPPING,
            "amount_total": self.subtotal() + SHIPPING,
            "items": [{"sku": sku, "title": title, "unit_price": price, "quantity": self.quantity}],
            "shipping_address": {
                "name": "A. Customer", "line1": "12 Harbour Street", "city": city,
                "postal_code": postal_code, "country": country,
            },
            "payer_wallet_network": self.wallet_network,
            "payer_wallet_address": self.wallet_address,
            "tracking": self.tracking,
            "metadata": {"cart": "web", "channel": "storefront"},
            "created_at": self.created,
            "updated_at": self.updated,
        })
    }

    /// Returns `data.object` of `invoice.*`.
    pub(in crate::simulator) fn invoice_body(&self) -> Value {
        let expires_at = UnixMillis(self.created.0 + INVOICE_LIFETIME * 1000);
        let paid = self.invoice == InvoiceStatus::Paid;
        json!({
            "object": "invoice",
            "id": self.written(&self.invoice_id),
            "status": self.invoice,
            "invoice_type": "commerce",
            "commerce_order_id": self.written(&self.id),
            "customer_id": self.customer_id,
            "environment": self.environment,
            "currency": "USD",
            "amount_due": self.subtotal() + SHIPPING,
            "amount_paid": if paid { self.subtotal() + SHIPPING } else { 0 },
            "accepted_assets": [
                {"network": "solana", "asset": "USDC", "decimals": 6},
                {"network": "bsc", "asset": "USDT", "decimals": 18},
            ],
            "payment_address": self.wallet_address,
            "payer_wallet_address": self.wallet_address,
            "payer_wallet_network": self.wallet_network,
            "description": format!("Order of {} × {}", self.quantity, self.goods.1),
            "hosted_url": format!("https://pay.example/invoices/{}", self.invoice_id),
            "metadata": {"cart": "web", "channel": "storefront"},
            "expires_at": expires_at,
            "created_at": self.created,
            "updated_at": self.updated,
        })
    }

    /// Returns `data.object` of `invoice_payment.*`.
    pub(in crate::simulator) fn payment_body(&self) -> Value {
        let confirmed = self.payment == PaymentStatus::Confirmed;
        let mut body = json!({
            "object": "invoice_payment",
            "id": self.written(&self.payment_id),
            "status": self.payment,
            "invoice_id": self.written(&self.invoice_id),
            "customer_id": self.customer_id,
            "environment": self.environment,
            "currency": "USD",
            "amount": self.subtotal() + SHIPPING,
            "asset": if self.wallet_network == "bsc" { "USDT" } else { "USDC" },
            "payer_wallet_address": self.wallet_address,
            "payer_wallet_network": self.wallet_network,
            "transaction": {
                "hash": format!("0x{:0>64}", self.payment_id.trim_start_matches("ipay_")),
                "confirmations": if confirmed { 12 } else { 0 },
                "required_confirmations": 12,
                "fee": {"asset": "BNB", "amount": "0.000105", "payer": "customer"},
            },
            "settlement": {"status": if confirmed { "scheduled" } else { "waiting" }, "destination": "treasury"},
            "metadata": {"cart": "web", "channel": "storefront"},
            "created_at": self.created,
            "updated_at": self.updated,
        });
        if self.switches.payment_links == PaymentLinks::Order {
            body["commerce_order_id"] = self.written(&self.id);
        }
        body
    }

    /// Changes the status of the order. Returns its new object and the previous values.
    pub(in crate::simulator) fn becomes(&mut self, status: Status, substatus: &str) -> (Value, Value) {
        let previous = json!({"status": self.status, "substatus": self.substatus});
        self.status = status;
        substatus.clone_into(&mut self.substatus);
        (self.body(), previous)
    }

    /// Changes the status of the invoice. Returns its new object and the previous values.
    pub(in crate::simulator) fn invoice_becomes(&mut self, status: InvoiceStatus) -> (Value, Value) {
        let previous = json!({"status": self.invoice});
        self.invoice = status;
        (self.invoice_body(), previous)
    }

    /// Changes the status of the payment. Returns its new object and the previous values.
    pub(super) fn payment_becomes(&mut self, status: PaymentStatus) -> (Value, Value) {
        let previous = json!({"status": self.payment});
        self.payment = status;
        (self.payment_body(), previous)
    }

    fn subtotal(&self) -> u32 {
        self.goods.2 * self.quantity
    }
}

/// The shipping costs in cents, like every amount.
const SHIPPING: u32 = 590;

pub(super) fn uuid(rng: &mut impl Rng) -> String {
    let bits = format!("{:032x}", rng.random::<u128>());
    format!("{}-{}-{}-{}-{}", &bits[..8], &bits[8..12], &bits[12..16], &bits[16..20], &bits[20..])
}
