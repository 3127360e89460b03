//! The subject of an event. Only this file reads ids, links and environment from `data.object`.
//!
//! Pepay's pages disagree about the spelling, and an order snapshot has no `id`
//! (`sdk/commerce/orders`, `api-spec/webhook-events`). All documented spellings
//! are read, as text or as number.

use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::json::{self, Named};
use crate::domain::event::{Environment, EventType, Subject};

/// The longest id that is kept unchanged, in bytes.
pub const LONGEST_NAME: usize = 255;

/// The kind of object that an event reports on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ObjectKind {
    Order,
    Invoice,
    Payment,
    Other,
}

/// The members of `data.object` that are read.
pub(super) const NAMES: [&str; 11] = [
    "object",
    "id",
    "orderId",
    "order_id",
    "commerce_order_id",
    "commerceOrderId",
    "invoiceId",
    "invoice_id",
    "environment",
    "networkEnvironment",
    "network_environment",
];

/// Returns the subject of an event of type `kind` whose `data.object` has `named` under [`NAMES`].
///
/// An order is named by `id`, `orderId` or `order_id`, in this order; an invoice by `id`, `invoiceId`
/// or `invoice_id`; a payment by `id`; any other object by the first of all these. An empty text and a
/// value that is neither text nor number count as absent.
pub(super) fn of(kind: &EventType, named: &Named<'_, 11>) -> Subject {
    let [
        what,
        id,
        order,
        order_id,
        commerce_order,
        commerce_order_id,
        invoice,
        invoice_id,
        environments @ ..,
    ] = named.values;
    let first = |spellings: &[Option<&[u8]>]| spellings.iter().flatten().find_map(|value| name(value));
    let environment = environments.into_iter().flatten().find_map(environment);
    let invoice = || first(&[invoice, invoice_id]);
    let other_order = || first(&[commerce_order, commerce_order_id, order, order_id]);
    match object_kind(kind, what) {
        ObjectKind::Order => {
            let order = first(&[id, order, order_id]);
            Subject { object: order.clone(), order, invoice: invoice(), environment }
        }
        ObjectKind::Invoice => {
            let invoice = first(&[id]).or_else(invoice);
            Subject { object: invoice.clone(), order: other_order(), invoice, environment }
        }
        ObjectKind::Payment => {
            Subject { object: first(&[id]), order: other_order(), invoice: invoice(), environment }
        }
        ObjectKind::Other => {
            let (order, invoice) = (other_order(), invoice());
            let object = first(&[id]).or_else(|| order.clone()).or_else(|| invoice.clone());
            Subject { object, order, invoice, environment }
        }
    }
}

/// Returns the kind of object by the event's type; for an undocumented type by `data.object.object`.
pub(super) fn object_kind(kind: &EventType, object: Option<&[u8]>) -> ObjectKind {
    let kind = kind.as_str();
    if kind.starts_with("commerce.order.") {
        ObjectKind::Order
    } else if kind.starts_with("invoice.") {
        ObjectKind::Invoice
    } else if kind.starts_with("invoice_payment.") {
        ObjectKind::Payment
    } else {
        match object.and_then(json::text_or_number).as_deref() {
            Some("commerce_order" | "order") => ObjectKind::Order,
            Some("invoice") => ObjectKind::Invoice,
            Some("invoice_payment" | "payment") => ObjectKind::Payment,
            _ => ObjectKind::Other,
        }
    }
}

/// Returns an id as it is kept. An id longer than [`LONGEST_NAME`] is replaced by its hash, so that its
/// events still share a lane and no long text is copied.
fn name(value: &[u8]) -> Option<Arc<str>> {
    let text = json::text_or_number(value).filter(|text| !text.is_empty())?;
    if text.len() <= LONGEST_NAME {
        return Some(Arc::from(&*text));
    }
    Some(format!("sha256:{}", hex::encode(Sha256::digest(text.as_bytes()))).into())
}

fn environment(value: &[u8]) -> Option<Environment> {
    let text = json::text_or_number(value)?;
    [Environment::Devnet, Environment::Mainnet]
        .into_iter()
        .find(|known| known.as_str().eq_ignore_ascii_case(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(kind: &str, object: &str) -> Subject {
        let named = json::named(object.as_bytes(), &NAMES).unwrap_or(Named::nothing());
        of(&kind.parse().unwrap(), &named)
    }

    /// Object, order and invoice.
    fn names(kind: &str, object: &str) -> [Option<String>; 3] {
        let Subject { object, order, invoice, .. } = subject(kind, object);
        [object, order, invoice].map(|name| name.as_deref().map(str::to_owned))
    }

    fn some<const N: usize>(names: [&str; N]) -> [Option<String>; N] {
        names.map(|name| Some(name.to_owned()).filter(|name| !name.is_empty()))
    }

    #[test]
    fn an_order_is_named_by_every_documented_spelling() {
        for object in [
            r#"{"id":"o","invoiceId":"i"}"#,
            r#"{"orderId":"o","invoiceId":"i"}"#,
            r#"{"order_id":"o","invoice_id":"i"}"#,
            r#"{"id":"","orderId":"o","invoice_id":"i"}"#,
            r#"{"id":null,"orderId":["x"],"order_id":"o","invoiceId":{},"invoice_id":"i"}"#,
            r#"{"\u0069d":"\u006f","invoiceId":"i"}"#,
        ] {
            assert_eq!(names("commerce.order.updated", object), some(["o", "o", "i"]), "{object}");
        }
        assert_eq!(names("commerce.order.created", r#"{"orderId":7}"#), some(["7", "7", ""]));
    }

    #[test]
    fn an_invoice_names_its_order_and_a_payment_its_invoice() {
        let invoice = r#"{"id":"i","commerce_order_id":"o"}"#;
        assert_eq!(names("invoice.updated", invoice), some(["i", "o", "i"]));
        let payment = r#"{"id":"p","invoice_id":"i"}"#;
        assert_eq!(names("invoice_payment.created", payment), some(["p", "", "i"]));
        assert_eq!(names("invoice_payment.created", r#"{"invoice_id":"i"}"#), some(["", "", "i"]));
    }

    #[test]
    fn a_type_that_is_not_documented_is_told_by_its_object() {
        assert_eq!(names("later.type", r#"{"object":"invoice","id":"i"}"#), some(["i", "", "i"]));
        assert_eq!(names("later.type", r#"{"id":"x","orderId":"o"}"#), some(["x", "o", ""]));
        assert_eq!(names("later.type", r#"{"orderId":"o"}"#), some(["o", "o", ""]));
        assert_eq!(names("test.ping", r#"{"object":"ping","status":"ok"}"#), some(["", "", ""]));
    }

    #[test]
    fn a_value_that_is_no_object_names_nothing() {
        for object in ["null", "7", "\"o\"", r#"["o"]"#, "[]", "{}", r#"{"id":"\ud800"}"#] {
            assert_eq!(subject("commerce.order.updated", object), Subject::default(), "{object}");
        }
    }

    #[test]
    fn both_spellings_of_the_environment_are_read() {
        let environment = |object: &str| subject("invoice.created", object).environment;
        for object in [
            r#"{"environment":"devnet"}"#,
            r#"{"networkEnvironment":"devnet"}"#,
            r#"{"networkEnvironment":"DEVNET"}"#,
            r#"{"environment":3,"networkEnvironment":"devnet"}"#,
        ] {
            assert_eq!(environment(object), Some(Environment::Devnet), "{object}");
        }
        assert_eq!(environment(r#"{"environment":"testnet"}"#), None);
    }

    #[test]
    fn a_long_id_is_kept_as_its_hash() {
        let of_length = |length: usize| {
            let id = "x".repeat(length);
            subject("invoice.created", &format!(r#"{{"id":"{id}"}}"#)).object.unwrap()
        };
        assert_eq!(of_length(255).len(), 255);
        let hashed = of_length(1_000_000);
        assert!(hashed.starts_with("sha256:") && hashed.len() == 71, "{hashed}");
        assert_ne!(hashed, of_length(1_000_001));
    }
}
