//! `POST /api/commerce/devnet/orders/{orderId}/simulate` moves an order to another state, as the chain
//! and the shop would, and publishes its events.

use std::collections::{HashMap, VecDeque};

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router, middleware};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::factory::order::{InvoiceStatus, Order, Status};
use super::fault::Endpoint;
use super::options::Scope;
use super::refusal::Refusal;
use super::{Served, Simulator, injection, lock};
use crate::domain::event::Environment;

/// The largest number of orders that are remembered; beyond it the oldest is dropped.
const MAX_ORDERS: usize = 10_000;

pub(super) fn routes(served: &Served) -> Router<Served> {
    let faults =
        middleware::from_fn_with_state((Endpoint::Devnet, served.simulator.clone()), injection::apply);
    Router::new().route("/api/commerce/devnet/orders/{order_id}/simulate", post(simulate)).layer(faults)
}

/// `transitionTo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Transition {
    PaymentConfirmed,
    PaymentSettled,
    Placed,
    Shipped,
    DeliveryConfirmed,
    Failed,
    Cancelled,
    Refunded,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SimulateRequest {
    transition_to: Transition,
    wallet_network: Option<String>,
    wallet_address: Option<String>,
    tracking: Option<Value>,
}

impl Transition {
    /// Returns the status and substatus after the transition.
    const fn outcome(self) -> (Status, &'static str) {
        match self {
            Self::PaymentConfirmed => (Status::Processing, "payment_confirmed"),
            Self::PaymentSettled => (Status::Processing, "payment_settled"),
            Self::Placed => (Status::Placed, "placed"),
            Self::Shipped => (Status::Shipped, "shipped"),
            Self::DeliveryConfirmed => (Status::Delivered, "delivery_confirmed"),
            Self::Failed => (Status::Failed, "failed"),
            Self::Cancelled => (Status::Cancelled, "cancelled"),
            Self::Refunded => (Status::Refunded, "refunded"),
        }
    }

    /// Returns whether the transition is allowed for an order.
    ///
    /// Two rules are documented: `failed` only from `processing`, `cancelled` only from `placed`.
    /// Otherwise an order goes forward, in steps of any size, and a paid order can be refunded once.
    fn is_open_to(self, order: &Order) -> bool {
        match self {
            Self::Failed => order.status == Status::Processing,
            Self::Cancelled => order.status == Status::Placed,
            Self::Refunded => !matches!(order.status, Status::PendingPayment | Status::Refunded),
            forward => {
                let (status, substatus) = forward.outcome();
                match (progress(order.status, &order.substatus), progress(status, substatus)) {
                    (Some(now), Some(then)) => now < then,
                    _ => false,
                }
            }
        }
    }
}

/// Returns the progress of an order from payment to delivery; `None` once it has left that path.
fn progress(status: Status, substatus: &str) -> Option<u8> {
    match (status, substatus) {
        (Status::PendingPayment, _) => Some(0),
        (Status::Processing, "payment_settled") => Some(2),
        (Status::Processing, _) => Some(1),
        (Status::Placed, _) => Some(3),
        (Status::Shipped, _) => Some(4),
        (Status::Delivered, _) => Some(5),
        (Status::Failed | Status::Cancelled | Status::Refunded, _) => None,
    }
}

/// The orders that requests have moved.
#[derive(Debug, Default)]
pub(super) struct Orders {
    by_id: HashMap<String, Order>,
    /// In the order of their first use.
    by_age: VecDeque<String>,
}

impl Orders {
    /// Returns the order of this id, which `create` makes on first use.
    fn get_or_create(&mut self, id: &str, create: impl FnOnce() -> Order) -> &mut Order {
        if !self.by_id.contains_key(id) {
            self.by_age.push_back(id.to_owned());
            if self.by_age.len() > MAX_ORDERS
                && let Some(oldest) = self.by_age.pop_front()
            {
                self.by_id.remove(&oldest);
            }
        }
        self.by_id.entry(id.to_owned()).or_insert_with(create)
    }
}

async fn simulate(
    State(simulator): State<Simulator>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refusal> {
    let key = simulator.key_of_scope(&headers, Scope::Commerce)?;
    if key.environment == Some(Environment::Mainnet) {
        return Err(Refusal::forbidden("orders are simulated on devnet only"));
    }
    let well_formed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if !(1..=128).contains(&id.len()) || !id.bytes().all(well_formed) {
        return Err(Refusal::of_status(StatusCode::NOT_FOUND));
    }
    let request: SimulateRequest = serde_json::from_slice(&body)
        .map_err(|error| Refusal::bad_request("INVALID_REQUEST", format!("the body: {error}")))?;
    let order = simulator.transition(&id, request)?;
    Ok(Json(json!({"success": true, "data": {"order": {
        "orderId": order.id,
        "invoiceId": order.invoice_id,
        "networkEnvironment": order.environment,
        "status": order.status,
        "substatus": order.substatus,
        "walletNetwork": order.wallet_network,
        "walletAddress": order.wallet_address,
        "tracking": order.tracking,
        "updatedAt": order.updated,
    }}}))
    .into_response())
}

impl Simulator {
    /// Moves order `id` to another state and publishes its events.
    fn transition(&self, id: &str, request: SimulateRequest) -> Result<Order, Refusal> {
        let now = self.0.clock.now();
        // Both stay locked to the end, so that the events of one order are
        // published in the order of its transitions.
        let mut orders = lock(&self.0.orders);
        let mut factory = lock(&self.0.factory);
        let order = orders.get_or_create(id, || factory.order(Some(id.to_owned()), now));
        if !request.transition_to.is_open_to(order) {
            let message = format!("an order at `{}` cannot take this transition", order.substatus);
            return Err(Refusal::bad_request("INVALID_TRANSITION", message));
        }
        let SimulateRequest { transition_to, wallet_network, wallet_address, tracking } = request;
        if let Some(network) = wallet_network {
            order.wallet_network = network;
        }
        if let Some(address) = wallet_address {
            order.wallet_address = address;
        }
        if let Some(tracking) = tracking {
            order.tracking = tracking;
        }
        order.updated = now;
        let (status, substatus) = transition_to.outcome();
        let mut changes = Vec::with_capacity(2);
        if order.invoice == InvoiceStatus::Unpaid {
            changes.push(("invoice.updated", order.invoice_becomes(InvoiceStatus::Paid)));
        }
        changes.push(("commerce.order.updated", order.becomes(status, substatus)));
        for (kind, (object, previous)) in changes {
            let event = factory.event(kind, object, previous, now);
            self.publish(event).map_err(|error| {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR", error.to_string())
            })?;
        }
        Ok(order.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::Transition::{
        Cancelled, DeliveryConfirmed, Failed, PaymentConfirmed, PaymentSettled, Placed, Refunded, Shipped,
    };
    use super::*;
    use crate::domain::clock::UnixMillis;
    use crate::simulator::factory::Factory;

    fn order(steps: &[Transition]) -> Order {
        let mut order = Factory::new(1).order(None, UnixMillis(0));
        for step in steps {
            assert!(step.is_open_to(&order), "{step:?}");
            let (status, substatus) = step.outcome();
            order.becomes(status, substatus);
        }
        order
    }

    #[test]
    fn an_order_fails_or_is_cancelled_only_in_the_documented_states() {
        assert!(Failed.is_open_to(&order(&[PaymentConfirmed])));
        assert!(!Failed.is_open_to(&order(&[PaymentConfirmed, PaymentSettled, Placed])));
        assert!(Cancelled.is_open_to(&order(&[PaymentSettled, Placed])));
        assert!(!Cancelled.is_open_to(&order(&[PaymentConfirmed])));
        assert!(!Cancelled.is_open_to(&order(&[Placed, Shipped])));
    }

    #[test]
    fn an_order_only_goes_forward_and_is_refunded_once() {
        let delivered = order(&[PaymentConfirmed, PaymentSettled, Placed, Shipped, DeliveryConfirmed]);
        assert!(
            ![PaymentConfirmed, Placed, DeliveryConfirmed].iter().any(|step| step.is_open_to(&delivered))
        );
        assert!(Refunded.is_open_to(&delivered));
        assert!(!Refunded.is_open_to(&order(&[])));
        assert!(!Refunded.is_open_to(&order(&[Placed, Cancelled, Refunded])));
        assert!(!Shipped.is_open_to(&order(&[Placed, Cancelled])));
    }
}
