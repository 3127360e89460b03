//! The filters of a stream. The bridge sends them to Pepay and also applies them to each event itself,
//! since the list takes few of them and a server may ignore any (Pepay: `api-spec/realtime/websockets`,
//! `api-reference/events/list-events`).

use std::borrow::Cow;

use super::json;
use super::subject::{self, ObjectKind};
use crate::domain::event::{Environment, Event};

/// One of the filters beside `types`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Events of one order, its invoice and its payments.
    OrderId,
    /// Events of one invoice, its order and its payments.
    InvoiceId,
    /// Events of one customer.
    CustomerId,
    /// Events paid from one wallet.
    WalletAddress,
    /// Events paid on one chain, such as `bsc`.
    WalletNetwork,
    /// `standard` or `commerce`.
    InvoiceType,
    /// `devnet` or `mainnet`.
    Environment,
}

/// Filters with their values; an event has to pass each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters(Vec<(Filter, String)>);

/// Whether an event passes a filter, by its own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It passes.
    Yes,
    /// It does not.
    No,
    /// The fields do not decide it, such as those of a payment for an order's id: a payment names its
    /// invoice alone.
    Untold,
}

impl Filter {
    /// Every filter, in the order of the documentation.
    pub const ALL: [Self; 7] = [
        Self::OrderId,
        Self::InvoiceId,
        Self::CustomerId,
        Self::WalletAddress,
        Self::WalletNetwork,
        Self::InvoiceType,
        Self::Environment,
    ];

    /// Returns the name as a query parameter of the stream, and in the configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OrderId => "order_id",
            Self::InvoiceId => "invoice_id",
            Self::CustomerId => "customer_id",
            Self::WalletAddress => "wallet_address",
            Self::WalletNetwork => "wallet_network",
            Self::InvoiceType => "invoice_type",
            Self::Environment => "environment",
        }
    }

    /// Returns whether the list of events documents it as a parameter.
    pub const fn is_listed(self) -> bool {
        matches!(self, Self::InvoiceId | Self::Environment)
    }

    /// Returns the fields of `data.object` with its value, for filters that the subject does not
    /// answer.
    const fn spellings(self) -> [&'static str; 4] {
        match self {
            Self::OrderId | Self::InvoiceId | Self::Environment => [""; 4],
            Self::CustomerId => ["customerId", "customer_id", "", ""],
            Self::WalletAddress => {
                ["walletAddress", "wallet_address", "payer_wallet_address", "payerWalletAddress"]
            }
            Self::WalletNetwork => {
                ["walletNetwork", "wallet_network", "payer_wallet_network", "payerWalletNetwork"]
            }
            Self::InvoiceType => ["invoiceType", "invoice_type", "", ""],
        }
    }
}

impl Filters {
    /// Creates filters with these values.
    pub const fn new(filters: Vec<(Filter, String)>) -> Self {
        Self(filters)
    }

    /// Returns whether there is no filter, so that every event passes.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the filters and their values.
    pub fn iter(&self) -> impl Iterator<Item = (Filter, &str)> {
        self.0.iter().map(|(filter, value)| (*filter, value.as_str()))
    }

    /// Returns the environment that every event has to be of, if one is named.
    pub fn environment(&self) -> Option<Environment> {
        self.iter().find_map(|(filter, value)| match filter {
            Filter::Environment => value.parse().ok(),
            _ => None,
        })
    }

    /// Returns whether `event` passes. A value is compared as text, whatever its type in the event;
    /// wallets and their networks without regard to case, as chains do.
    pub fn admits(&self, event: &Event) -> Admission {
        let mut all = Admission::Yes;
        for (filter, value) in self.iter() {
            match admits(filter, value, event) {
                Some(false) => return Admission::No,
                Some(true) => {}
                None => all = Admission::Untold,
            }
        }
        all
    }
}

/// Returns `None` if the event's fields do not decide it.
fn admits(filter: Filter, value: &str, event: &Event) -> Option<bool> {
    let subject = &event.subject;
    match filter {
        Filter::OrderId => subject.order.as_deref().map(|order| order == value),
        Filter::InvoiceId => subject.invoice.as_deref().map(|invoice| invoice == value),
        Filter::Environment => subject.environment.map(|environment| environment.as_str() == value),
        Filter::CustomerId => field(event, filter).map(|customer| customer == value),
        Filter::WalletAddress | Filter::WalletNetwork => {
            field(event, filter).map(|wallet| wallet.eq_ignore_ascii_case(value))
        }
        Filter::InvoiceType => match field(event, filter) {
            Some(named) => Some(named == value),
            // An invoice with an order was made by the commerce side.
            None if subject::object_kind(&event.kind, None) == ObjectKind::Invoice
                && subject.order.is_some() =>
            {
                Some(value == "commerce")
            }
            None => None,
        },
    }
}

/// Returns the first field of `data.object` with a value for `filter`. Reads the body again, which only
/// streams with filters need.
fn field(event: &Event, filter: Filter) -> Option<Cow<'_, str>> {
    let [data] = json::named(&event.body, &["data"])?.values;
    let [object] = json::named(data?, &["object"])?.values;
    let values = json::named(object?, &filter.spellings())?.values;
    values.into_iter().flatten().filter_map(json::text_or_number).find(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::domain::clock::UnixMillis;
    use crate::pepay::envelope;

    fn event(kind: &str, object: &str) -> Event {
        let body = format!(r#"{{"id":"e","type":"{kind}","data":{{"object":{object}}}}}"#);
        envelope::parse(Bytes::from(body), UnixMillis(0)).unwrap()
    }

    fn asked(filters: &[(Filter, &str)], kind: &str, object: &str) -> Admission {
        let filters = filters.iter().map(|(filter, value)| (*filter, (*value).to_owned())).collect();
        Filters::new(filters).admits(&event(kind, object))
    }

    #[test]
    fn every_spelling_of_a_field_passes_its_filter() {
        use Filter::{
            CustomerId, Environment, InvoiceId, InvoiceType, OrderId, WalletAddress, WalletNetwork,
        };
        let (order, invoice) = ("commerce.order.updated", "invoice.updated");
        for (filter, value, kind, object) in [
            (OrderId, "7", order, r#"{"id":7}"#),
            (OrderId, "7", order, r#"{"orderId":"7"}"#),
            (OrderId, "7", invoice, r#"{"id":"i","commerce_order_id":7}"#),
            (InvoiceId, "i", order, r#"{"orderId":"o","invoiceId":"i"}"#),
            (InvoiceId, "i", invoice, r#"{"id":"i"}"#),
            (InvoiceId, "i", "invoice_payment.created", r#"{"id":"p","invoice_id":"i"}"#),
            (CustomerId, "7", order, r#"{"customerId":7}"#),
            (CustomerId, "7", invoice, r#"{"customer_id":"7"}"#),
            (CustomerId, "7", invoice, r#"{"customerId":null,"customer_id":"7"}"#),
            (WalletAddress, "0xaB", order, r#"{"walletAddress":"0xAb"}"#),
            (WalletAddress, "0xab", invoice, r#"{"payer_wallet_address":"0xab"}"#),
            (WalletNetwork, "bsc", order, r#"{"walletNetwork":"BSC"}"#),
            (WalletNetwork, "bsc", invoice, r#"{"payer_wallet_network":"bsc"}"#),
            (InvoiceType, "commerce", invoice, r#"{"id":"i","invoice_type":"commerce"}"#),
            (InvoiceType, "commerce", invoice, r#"{"id":"i","commerce_order_id":"o"}"#),
            (Environment, "devnet", order, r#"{"networkEnvironment":"devnet"}"#),
            (Environment, "devnet", invoice, r#"{"environment":"devnet"}"#),
        ] {
            assert_eq!(asked(&[(filter, value)], kind, object), Admission::Yes, "{filter:?} {object}");
            let other = if filter == Environment { "mainnet" } else { "other" };
            assert_eq!(asked(&[(filter, other)], kind, object), Admission::No, "{filter:?} {object}");
        }
    }

    #[test]
    fn a_filter_that_the_fields_of_an_event_do_not_decide_is_undecided() {
        let payment = r#"{"id":"p","invoice_id":"i"}"#;
        for filter in Filter::ALL.into_iter().filter(|filter| *filter != Filter::InvoiceId) {
            assert_eq!(
                asked(&[(filter, "x")], "invoice_payment.created", payment),
                Admission::Untold,
                "{filter:?}"
            );
            assert_eq!(asked(&[(filter, "x")], "test.ping", "null"), Admission::Untold, "{filter:?}");
        }
    }

    #[test]
    fn one_failed_filter_decides_whatever_else_is_undecided() {
        let filters = [(Filter::OrderId, "o"), (Filter::InvoiceId, "i")];
        let asked = |invoice: &str| {
            asked(&filters, "invoice_payment.created", &format!(r#"{{"id":"p","invoice_id":"{invoice}"}}"#))
        };
        assert_eq!((asked("i"), asked("j")), (Admission::Untold, Admission::No));
        assert_eq!(Filters::default().admits(&event("test.ping", "null")), Admission::Yes);
    }
}
