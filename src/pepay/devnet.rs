//! `POST /api/commerce/devnet/orders/{orderId}/simulate` moves an order on devnet (Pepay:
//! `api-reference/commerce--devnet-simulator`).

use std::borrow::Cow;

use serde::Serialize;
use serde_json::value::RawValue;

use super::json;

/// A transition of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Transition {
    /// The payment has been seen on the chain.
    PaymentConfirmed,
    /// The payment is final.
    PaymentSettled,
    /// The order has been placed with the shop.
    Placed,
    /// The order was shipped.
    Shipped,
    /// The order was delivered.
    DeliveryConfirmed,
    /// The order cannot be fulfilled; only from `processing`.
    Failed,
    /// The order was cancelled; only from `placed`.
    Cancelled,
    /// The payment was refunded.
    Refunded,
}

impl Transition {
    /// Every transition.
    pub const ALL: [Self; 8] = [
        Self::PaymentConfirmed,
        Self::PaymentSettled,
        Self::Placed,
        Self::Shipped,
        Self::DeliveryConfirmed,
        Self::Failed,
        Self::Cancelled,
        Self::Refunded,
    ];

    /// Returns its name, as Pepay writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PaymentConfirmed => "payment_confirmed",
            Self::PaymentSettled => "payment_settled",
            Self::Placed => "placed",
            Self::Shipped => "shipped",
            Self::DeliveryConfirmed => "delivery_confirmed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Refunded => "refunded",
        }
    }
}

/// An order's id that can be a segment of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrderId(String);

/// A text is not an order's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no order id; allowed are 1 to 128 letters, digits, `-` and `_`")]
pub struct InvalidOrderId;

impl OrderId {
    /// Returns the id.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for OrderId {
    type Err = InvalidOrderId;

    fn from_str(text: &str) -> Result<Self, InvalidOrderId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
        let sound = (1..=128).contains(&text.len()) && text.bytes().all(plain);
        sound.then(|| Self(text.to_owned())).ok_or(InvalidOrderId)
    }
}

/// The body of the request.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Simulation {
    /// The transition.
    pub transition_to: Transition,
    /// The network of the paying wallet, such as `bsc`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet_network: Option<String>,
    /// The address of the paying wallet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wallet_address: Option<String>,
    /// The carrier's tracking of the parcel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tracking: Option<Tracking>,
}

/// A JSON object that is sent unchanged. Pepay documents no field of it.
#[derive(Clone, Debug, Serialize)]
pub struct Tracking(Box<RawValue>);

/// A text is not a tracking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no JSON object of at most {LONGEST_TRACKING} bytes, such as {{\"carrier\":\"dhl\"}}")]
pub struct InvalidTracking;

/// The longest tracking, in bytes.
const LONGEST_TRACKING: usize = 16 * 1024;

impl std::str::FromStr for Tracking {
    type Err = InvalidTracking;

    fn from_str(text: &str) -> Result<Self, InvalidTracking> {
        let object = text.len() <= LONGEST_TRACKING && text.trim_ascii_start().starts_with('{');
        let value = object.then(|| serde_json::from_str(text).ok()).flatten();
        value.map(Self).ok_or(InvalidTracking)
    }
}

/// The order after the transition; every field may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// The status, such as `processing`.
    pub status: Option<String>,
    /// The substatus, such as `payment_confirmed`.
    pub substatus: Option<String>,
    /// `devnet`.
    pub network_environment: Option<String>,
}

/// Reads the answer. Pepay has made the transition once it answers 2xx, so an answer of another shape
/// is not a failure: it only has fewer fields.
pub(super) fn parse(body: &[u8]) -> Order {
    let order = json::member(body, "data").and_then(|data| json::member(data, "order"));
    let text =
        |name| order.and_then(|order| json::member(order, name)).and_then(json::text).map(Cow::into_owned);
    Order {
        status: text("status"),
        substatus: text("substatus"),
        network_environment: text("networkEnvironment"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_names_the_transition_the_way_pepay_does() {
        for transition in Transition::ALL {
            let simulation = Simulation {
                transition_to: transition,
                wallet_network: None,
                wallet_address: None,
                tracking: None,
            };
            let expected = format!(r#"{{"transitionTo":"{}"}}"#, transition.as_str());
            assert_eq!(serde_json::to_string(&simulation).unwrap(), expected);
        }
    }

    #[test]
    fn an_answer_of_any_shape_is_read() {
        let body = br#"{"success":true,"data":{"order":{"orderId":"o","status":"placed","substatus":7}}}"#;
        let placed = Order { status: Some("placed".to_owned()), ..Order::default() };
        assert_eq!(parse(body), placed, "what is no text tells nothing");
        let body = br#"{"data":{"order":{"status":"placed","networkEnvironment":"devnet","more":[]}}}"#;
        let order = parse(body);
        assert_eq!((order.status.as_deref(), order.substatus), (Some("placed"), None));
        assert_eq!(parse(b"ok"), Order::default());
    }

    #[test]
    fn an_id_that_would_change_the_path_is_refused() {
        assert_eq!("3c90c3cc-0d44_X".parse::<OrderId>().unwrap().as_str(), "3c90c3cc-0d44_X");
        for bad in ["", "a/b", "..", "a?b", "a b", &"x".repeat(129)] {
            assert!(bad.parse::<OrderId>().is_err(), "{bad}");
        }
    }
}
